//! Calls that no trigger makes: by the program that embeds Fornax, and by commands.

use std::borrow::Borrow;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Command, Entry, Error, Exit, Input, Kind, ModuleId, ModuleVersion, Outcome, Reply, RequestId, Routed, Step, Via};
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::Server;
use crate::config::{Config, SingleOptions};
use crate::control::Control;

/// What one execution may use, where that is not what the module may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecuteLimits {
    /// Until it must have ended, and how long it may compute meanwhile.
    pub timeout: Option<Duration>,
    /// Memory of a sandbox; of a chain, of each step's, where its module has no less.
    pub memory_bytes: Option<u64>,
}

/// A module of a chain, as a program that embeds Fornax or the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The module.
    pub module: ModuleId,
    /// Whether all of its output goes on, not only its result.
    pub whole: bool,
}

impl From<ModuleId> for Link {
    fn from(module: ModuleId) -> Self {
        Self { module, whole: false }
    }
}

/// A chain that came to nothing.
#[derive(Debug)]
pub struct ChainError {
    /// The steps before the one that failed.
    pub steps: Vec<Step>,
    /// Why it did. It names the step.
    pub error: Error,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ChainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<Error> for ChainError {
    fn from(error: Error) -> Self {
        Self { steps: Vec::new(), error }
    }
}

impl Borrow<Error> for ChainError {
    fn borrow(&self) -> &Error {
        &self.error
    }
}

impl From<ChainError> for Error {
    fn from(error: ChainError) -> Self {
        error.error
    }
}

impl ExecuteLimits {
    /// Longer than any process lives: for a program someone started on a terminal, and can end there.
    pub(crate) const PATIENT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
}

/// The modules of a server, to add some.
pub struct Registry<'a>(&'a Mutex<Control>);

impl Registry<'_> {
    /// Loads an artifact and returns its id. The same path again loads the bytes it has by then, under the same id; so does the
    /// next process with the same data directory. A symbolic link has the id of its own path, wherever it leads.
    ///
    /// Other calls go on meanwhile; of several loads and reloads each waits for the one before.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with the file.
    pub async fn load(&self, path: impl AsRef<Path>) -> Result<ModuleId, Error> {
        let config = Config::single(path.as_ref(), SingleOptions::default())?;
        let module = config.modules.into_iter().next().ok_or_else(|| Error::new(Kind::Internal, "no module"))?;
        let source = without_parents(&module.source);
        Ok(self.0.lock().await.load(crate::config::Module { source, loaded: true, ..module }).await?.id)
    }
}

/// An absolute path without `..`, as far as that names the same file: what is above a symbolic link is not what it is in.
fn without_parents(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        let is_removed = part == Component::ParentDir && !plain.ends_with("..") && !plain.is_symlink();
        if is_removed {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

impl Server {
    /// The modules in service.
    pub fn registry(&self) -> Registry<'_> {
        Registry(self.control())
    }

    /// Calls a module with bytes: a plugin's input, a program's standard input, the body of a POST to a service. What it
    /// wrote comes back with its return code, exit code, or status of 400 and above; 0 is success. Passes the gate like every
    /// call.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`] for an id nobody has; what any call may end with.
    pub async fn execute(&self, id: ModuleId, input: impl Into<Bytes>, limits: ExecuteLimits) -> Result<Step, Error> {
        let module = self.module(id)?;
        let entry = entry_for_bytes(&module)?;
        let name = Arc::clone(&module.name);
        let input = guest::input_for(entry, input.into())?;
        let began = Instant::now();
        let routed = Routed { module: Arc::clone(&module), entry, via: Via::default() };
        let step = self.called(routed, input, limits, async |call| {
            let root = Arc::clone(&call.root);
            let reply = module.answer(call).await?;
            let (output, code) = guest::output_of(reply, &module.limits).await?;
            Ok(Step { module: name, output, code, took: began.elapsed(), cpu: root.computed() })
        });
        step.await
    }

    /// Calls modules in sequence, each with the result of the one before, or all it wrote where its [`Link`] says so, up to the
    /// first that fails. One deadline holds for all of them.
    ///
    /// # Errors
    ///
    /// As [`Server::execute`]; names the step, and has what those before it came to.
    pub async fn chain(
        &self,
        links: &[impl Into<Link> + Copy],
        input: impl Into<Bytes>,
        limits: ExecuteLimits,
    ) -> Result<Vec<Step>, ChainError> {
        let link = |link: Link| {
            let module = self.module(link.module)?;
            Ok(guest::Link { entry: entry_for_bytes(&module)?, module, whole: link.whole })
        };
        let links = links.iter().map(|known| link((*known).into())).collect::<Result<Vec<_>, Error>>()?;
        let Some(first) = links.first().map(|link| Arc::clone(&link.module)) else { return Ok(Vec::new()) };
        let chain = guest::Chain::new(links);
        // The first module's tenant and limits are the chain's.
        let routed = Routed { module: first, entry: Entry::Chain, via: Via::default() };
        // Each step has its module's memory, unless something else is said for all of them.
        let limits = ExecuteLimits { memory_bytes: limits.memory_bytes.or(Some(u64::MAX)), ..limits };
        let steps = self.called(routed, Input::Bytes(input.into()), limits, async |call| {
            match base::Handler::handle(&*chain, call).await? {
                Reply::Steps(steps, None) => Ok(steps),
                Reply::Steps(steps, Some(error)) => Err(ChainError { steps, error }),
                _ => Err(Error::new(Kind::Internal, "the chain gave another's reply").into()),
            }
        });
        steps.await
    }

    /// Admits a call, and counts and logs how it ends as that of any trigger.
    async fn called<T: Ended, E: From<Error> + Borrow<Error>>(
        &self,
        routed: Routed,
        input: Input,
        limits: ExecuteLimits,
        call: impl AsyncFnOnce(base::Call) -> Result<T, E>,
    ) -> Result<T, E> {
        let (module, entry) = (Arc::clone(&routed.module), routed.entry);
        let (id, admitted, result) = match self.admit(routed, input, limits).await {
            Ok(admitted) => (admitted.id, Some(admitted.deadline.admitted_at), call(admitted).await),
            Err(error) => (RequestId::next(), None, Err(error.into())),
        };
        let outcome = match &result {
            Ok(ended) => ended.outcome(entry),
            Err(error) => {
                let error: &Error = error.borrow();
                module.log_failure(id, error);
                self.road().metrics.error(error);
                Outcome::Failed(error.kind)
            }
        };
        module.metrics.answered(outcome, admitted.map_or(Duration::ZERO, |at| at.elapsed()));
        result
    }

    /// Starts the one program of a server that serves nothing.
    pub(crate) async fn run_program(&self, command: Command, limits: ExecuteLimits) -> Result<Exit, Error> {
        let module = self.road().snapshots.load().modules.values().next().cloned();
        let module = module.ok_or_else(|| Error::new(Kind::Internal, "no module"))?;
        let routed = Routed { module: Arc::clone(&module), entry: Entry::Run, via: Via::default() };
        let call = self.admit(routed, Input::Command(command), limits).await?;
        match module.answer(call).await? {
            Reply::Command(exit) => Ok(exit),
            _ => Err(Error::new(Kind::Internal, "the program gave another's reply")),
        }
    }

    fn module(&self, id: ModuleId) -> Result<Arc<ModuleVersion>, Error> {
        let module = self.road().snapshots.load().by_id.get(&id).cloned();
        module.ok_or_else(|| Error::new(Kind::NotFound, format!("no module has the id {id}")))
    }

    async fn admit(&self, routed: Routed, input: Input, limits: ExecuteLimits) -> Result<base::Call, Error> {
        let mut call = self.road().gate.admit(routed, input).await?;
        call.deadline.whole = true;
        if let Some(timeout) = limits.timeout {
            // Clocks do not reach as far as durations.
            let timeout = timeout.min(ExecuteLimits::PATIENT);
            call.deadline.wall_at = call.deadline.admitted_at + timeout;
            call.deadline.cpu = timeout;
        }
        call.memory_bytes = limits.memory_bytes.unwrap_or(call.memory_bytes);
        Ok(call)
    }
}

/// How a call ended that came to its end, as it is counted where it comes by HTTP.
trait Ended {
    fn outcome(&self, entry: Entry) -> Outcome;
}

impl Ended for Step {
    fn outcome(&self, entry: Entry) -> Outcome {
        match (self.code, entry) {
            (0, _) => Outcome::Status(200),
            (code, Entry::Http) => Outcome::Status(u16::try_from(code).unwrap_or(u16::MAX)),
            (_, _) => Outcome::Failed(Kind::GuestExit),
        }
    }
}

impl Ended for Vec<Step> {
    /// Only the last step of a chain can have failed.
    fn outcome(&self, _: Entry) -> Outcome {
        match self.last() {
            Some(step) if step.code != 0 => Outcome::Failed(Kind::GuestExit),
            _ => Outcome::Status(200),
        }
    }
}

fn entry_for_bytes(module: &ModuleVersion) -> Result<Entry, Error> {
    guest::entry_for_bytes(&module.entries)
        .ok_or_else(|| Error::new(Kind::Unprocessable, format!("the module `{}` has no entry that takes bytes", module.name)))
}
