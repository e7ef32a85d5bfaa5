//! The values that travel down the road: found, then admitted, then answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};

use crate::journal::InFlight;
use crate::{Body, Entry, Error, Kind, ModuleVersion, RequestId, Route, Slot, Taken};

/// A call inside a call inside a call: this deep and no deeper.
const DEPTH_MAX: u8 = 8;

/// A trigger found who shall answer. Not yet a permission: only the [`Gate`](crate::Gate) turns this into a [`Call`].
#[derive(Clone, Debug)]
pub struct Routed {
    /// The version that shall answer; knows its tenant and app.
    pub module: Arc<ModuleVersion>,
    /// The way it is called.
    pub entry: Entry,
    /// How it was found.
    pub via: Via,
}

/// How a call came about, for guests that are told: a codec puts it into its format.
#[derive(Clone, Debug, Default)]
pub struct Via {
    /// The route that matched.
    pub route: Option<Arc<Route>>,
    /// The client: the other end of the connection, or who a trusted proxy has named, with port 0 where it named none.
    pub peer: Option<SocketAddr>,
    /// The body came in chunks: that is said in a field of the connection's own, which is not passed on.
    pub in_chunks: bool,
}

/// What goes into a guest.
#[derive(Debug)]
pub enum Input {
    /// An HTTP request. The scheme is `http` unless the URI says otherwise; the authority is in the URI or in `Host`. An entry
    /// that is not HTTP gets it by way of its module's codec.
    Http(Request<Body>),
    /// What a `process` entry is given.
    Bytes(Bytes),
    /// How a `run` entry is started.
    Command(Command),
}

/// How a program is started.
#[derive(Debug)]
pub struct Command {
    /// Arguments behind the module's own.
    pub args: Vec<String>,
    /// Variables beside the module's own, which go before them.
    pub env: Vec<(String, String)>,
    /// Standard input and output.
    pub stdio: Stdio,
}

/// A program's standard input and output.
#[derive(Debug)]
pub enum Stdio {
    /// All that can be read is known, and what is written is kept for the [`Exit`], up to the module's limit. Standard error
    /// becomes log lines.
    Buffered(Bytes),
    /// Those of this process, standard error included: for a program that was started on a terminal.
    Inherited,
}

/// What comes out; mirrors [`Input`].
///
/// It shares its call with the guest: the tenant's slot is free when both the body and the guest have ended.
#[derive(Debug)]
pub enum Reply {
    /// An HTTP response.
    Http(Response<Body>),
    /// What a `process` entry came to.
    Bytes(Output),
    /// How a `run` entry ended.
    Command(Exit),
    /// What each step of a chain came to, up to the first that failed; and why that one came to nothing, where it did.
    Steps(Vec<Step>, Option<Error>),
}

/// What a `process` entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The lines it logged, with line feeds between them.
    pub text: String,
    /// What it returned; 0 is success.
    pub code: i32,
}

/// How a `run` entry ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 0 is success.
    pub code: u32,
    /// What it wrote to standard output, if that was buffered.
    pub stdout: Bytes,
}

/// One step of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The module's name.
    pub module: Arc<str>,
    /// All it wrote.
    pub output: Bytes,
    /// A return or exit code, or an HTTP status of 400 and above; 0 is success.
    pub code: i64,
    /// From its start to its end.
    pub took: Duration,
    /// What it computed.
    pub cpu: Duration,
}

/// When a call must have been answered, and how much it may compute. Chain steps and calls of calls share one.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When the call was admitted.
    pub admitted_at: Instant,
    /// When the response head must be out.
    pub wall_at: Instant,
    /// Whether by then the body must be complete and the guest have ended, too: nobody takes the answer as it comes.
    pub whole: bool,
    /// The time guests may compute.
    pub cpu: Duration,
}

/// One admitted request to a guest: permission, quota and deadline in one value.
#[derive(Debug)]
pub struct Call {
    /// Names the call in logs and error bodies.
    pub id: RequestId,
    /// The version that answers.
    pub module: Arc<ModuleVersion>,
    /// The way it is called.
    pub entry: Entry,
    /// How it came about.
    pub via: Via,
    /// The end of patience.
    pub deadline: Deadline,
    /// Memory one instance may have: the module's limit, unless whoever calls said otherwise. Calls of this call have no more.
    pub memory_bytes: u64,
    /// 0 for a request from outside, one more for each call from guest to guest.
    pub depth: u8,
    /// The tenant's place, shared with the reply and with calls of this call. Its id is that of the request from outside.
    pub root: Arc<Slot>,
    /// The W3C `traceparent` the request came with.
    pub trace: Option<HeaderValue>,
    /// What goes in.
    pub input: Input,
    /// A nested call's own places, held until the guest has ended.
    pub places: Taken,
    /// Where the module is watched: held until the guest has ended, too.
    pub in_flight: Option<InFlight>,
}

impl Call {
    /// A call made by the guest of this call: the same deadline, slot and budget, one level deeper, and a place of its
    /// own in the pool, taken without waiting — waiting inside a place could deadlock.
    ///
    /// # Errors
    ///
    /// [`Kind::Depth`] over eight levels, or the limit of calls of what was called from outside; [`Kind::Overloaded`] if the pool is full.
    pub fn child(&self, target: Routed, input: Input) -> Result<Self, Error> {
        if self.depth >= DEPTH_MAX {
            return Err(Error::new(Kind::Depth, "calls are nested too deeply"));
        }
        if !self.root.may_call() {
            return Err(Error::new(Kind::Depth, "one request caused too many calls"));
        }
        let places = self.root.nested_places(target.module.places)?;
        Ok(Self { depth: self.depth + 1, places, ..self.related(target, input) })
    }

    /// The next step of a chain: the same deadline, slot and place, and what is left of the time to compute. Only one step
    /// runs at a time, and the call itself does not.
    ///
    /// # Errors
    ///
    /// [`Kind::Depth`] over the limit of calls of what was called from outside.
    pub fn step(&self, target: Routed, input: Input) -> Result<Self, Error> {
        if !self.root.may_call() {
            return Err(Error::new(Kind::Depth, "one request caused too many calls"));
        }
        let mut step = self.related(target, input);
        // What a step prints stands in the log under the id that the client is told.
        step.id = self.id;
        // The next one begins when this one is over, whatever it does after its head.
        step.deadline.whole = true;
        step.deadline.cpu = step.deadline.cpu.saturating_sub(self.root.computed());
        Ok(step)
    }

    fn related(&self, target: Routed, input: Input) -> Self {
        Self {
            id: RequestId::next(),
            memory_bytes: target.module.limits.memory_bytes.min(self.memory_bytes),
            module: target.module,
            entry: target.entry,
            via: target.via,
            deadline: self.deadline,
            depth: self.depth,
            root: Arc::clone(&self.root),
            trace: self.trace.clone(),
            input,
            places: Taken::default(),
            in_flight: None,
        }
    }
}
