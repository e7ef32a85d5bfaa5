//! The values that travel down the road: found, then admitted, then answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::{Body, Entry, Error, Kind, ModuleVersion, RequestId, Slot};

/// A call inside a call inside a call: this deep and no deeper.
const DEPTH_MAX: u8 = 8;

/// Calls that one request from outside may cause.
const CALLS_PER_ROOT_MAX: u32 = 100;

/// A trigger found who shall answer. Not yet a permission: only the [`Gate`](crate::Gate) turns this into a [`Call`].
#[derive(Clone, Debug)]
pub struct Routed {
    /// The version that shall answer; knows its tenant and app.
    pub module: Arc<ModuleVersion>,
    /// The way it is called.
    pub entry: Entry,
}

/// What goes into a guest.
#[derive(Debug)]
pub enum Input {
    /// An HTTP request. The scheme is `http` unless the URI says otherwise; the authority is in the URI or in `Host`.
    Http(Request<Body>),
}

/// What comes out; mirrors [`Input`].
///
/// It shares its call with the guest: the tenant's slot is free when both the body and the guest have ended.
#[derive(Debug)]
pub enum Reply {
    /// An HTTP response.
    Http(Response<Body>),
}

/// When a call must have been answered, and how much it may compute. Chain steps and calls of calls share one.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When the call was admitted.
    pub admitted_at: Instant,
    /// When the response head must be out.
    pub wall_at: Instant,
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
    /// The end of patience.
    pub deadline: Deadline,
    /// 0 for a request from outside, one more for each call from guest to guest.
    pub depth: u8,
    /// The tenant's place, shared with the reply and with calls of this call. Its id is that of the request from outside.
    pub root: Arc<Slot>,
    /// The W3C `traceparent` the request came with.
    pub trace: Option<HeaderValue>,
    /// What goes in.
    pub input: Input,
    /// A nested call's own place in the pool, held until the guest has ended.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// A call made by the guest of this call: the same deadline, slot and budget, one level deeper, and a place of its
    /// own in the pool, taken without waiting — waiting inside a place could deadlock.
    ///
    /// # Errors
    ///
    /// [`Kind::Depth`] over eight levels or a hundred calls of one request; [`Kind::Overloaded`] if the pool is full.
    pub fn child(&self, target: Routed, input: Input) -> Result<Self, Error> {
        if self.depth >= DEPTH_MAX {
            return Err(Error::new(Kind::Depth, "calls are nested too deeply"));
        }
        if self.root.count_call() > CALLS_PER_ROOT_MAX {
            return Err(Error::new(Kind::Depth, "one request caused too many calls"));
        }
        let place = Some(self.root.nested_places(target.module.places)?);
        Ok(Self {
            id: RequestId::next(),
            module: target.module,
            entry: target.entry,
            deadline: self.deadline,
            depth: self.depth + 1,
            root: Arc::clone(&self.root),
            trace: self.trace.clone(),
            input,
            place,
        })
    }
}
