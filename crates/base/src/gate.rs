//! The gate: the only maker of calls.
//!
//! Two steps, because a stored answer may end the request between them: [`Gate::check`] looks at what is known of the
//! request and costs nothing; [`Gate::admit`] takes a place. Places are bounded twice: by tenant, so that one tenant
//! cannot take all, and by the instance pool, because an exhausted pool is an error and a queue is patience. The common
//! case is two uncontended atomics; a timer is armed only for a call that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Call, Deadline, Entry, Error, Evidence, Input, Kind, ModuleVersion, RequestId, Routed, Tenant};

/// The name of the W3C trace context header.
const TRACEPARENT: &str = "traceparent";

/// How large the gate is.
#[derive(Clone, Copy, Debug)]
pub struct GateOptions {
    /// Guests at once in the whole process: below the instance pool's smallest resource.
    pub places: u32,
}

/// Admits calls. One for the process.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    places_max: u32,
    closed: AtomicBool,
}

/// A tenant's place, held by everything that belongs to one request from outside.
#[derive(Debug)]
pub struct Slot {
    /// The id of the request from outside.
    pub id: RequestId,
    calls: AtomicU32,
    computed_ns: AtomicU64,
    memory_bytes: AtomicU64,
    instance_age_ns: AtomicU64,
    places: Arc<Semaphore>,
    _tenant: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Slot {
    /// Counts what a guest of the request computed.
    pub fn add_computed(&self, time: Duration) {
        self.computed_ns.fetch_add(nanos(time), Ordering::Relaxed);
    }

    /// A guest of the request runs in an instance that is so old already.
    pub fn note_instance(&self, age: Duration) {
        self.instance_age_ns.fetch_max(nanos(age), Ordering::Relaxed);
    }

    /// An instance of the request has so much memory.
    pub fn note_memory(&self, bytes: u64) {
        self.memory_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// What the request has cost so far.
    pub fn evidence(&self, admitted_at: Instant) -> Evidence {
        Evidence {
            cpu: self.computed(),
            wall: admitted_at.elapsed(),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            instance_age: Duration::from_nanos(self.instance_age_ns.load(Ordering::Relaxed)),
        }
    }

    /// What the request's guests that have ended computed together.
    pub fn computed(&self) -> Duration {
        Duration::from_nanos(self.computed_ns.load(Ordering::Relaxed))
    }

    pub(crate) fn count_call(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn nested_places(&self, places: u32) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.places).try_acquire_many_owned(places).map_err(|_| overloaded(1))
    }
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(options: GateOptions) -> Self {
        Self {
            places: Arc::new(Semaphore::new(options.places as usize)),
            places_max: options.places,
            closed: AtomicBool::new(false),
        }
    }

    /// Places there are.
    pub fn places_max(&self) -> u32 {
        self.places_max
    }

    /// Places taken, over all tenants.
    pub fn in_flight(&self) -> usize {
        (self.places_max as usize).saturating_sub(self.places.available_permits())
    }

    /// From now on readiness is refused; calls still pass, so that what is on its way is answered.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether new work is welcome.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// What can be refused before anything is spent: a body that says it is too large.
    ///
    /// # Errors
    ///
    /// [`Kind::BodyTooLarge`].
    pub fn check(&self, routed: &Routed, body_bytes: Option<u64>) -> Result<(), Error> {
        let limits = &routed.module.limits;
        let max = match routed.entry {
            Entry::Http => limits.body_bytes,
            _ => limits.body_bytes.min(limits.buffer_bytes),
        };
        match body_bytes {
            Some(bytes) if bytes > max => {
                Err(Error::new(Kind::BodyTooLarge, format!("the request body may have at most {max} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// Takes a place, waiting for it up to the tenant's queue limits, and starts the clock.
    ///
    /// # Errors
    ///
    /// [`Kind::Overloaded`] if the queue is full or the wait too long.
    pub async fn admit(&self, routed: Routed, input: Input) -> Result<Call, Error> {
        let slot = match self.try_enter(&routed.module) {
            Some(slot) => slot,
            None => self.wait(&routed.module).await?,
        };
        let trace: Option<HeaderValue> = match &input {
            Input::Http(request) => request.headers().get(TRACEPARENT).cloned(),
            _ => None,
        };
        let now = Instant::now();
        let limits = &routed.module.limits;
        let deadline = Deadline { admitted_at: now, wall_at: now + limits.wall, whole: false, cpu: limits.cpu };
        Ok(Call {
            id: slot.id,
            entry: routed.entry,
            via: routed.via,
            deadline,
            memory_bytes: limits.memory_bytes,
            depth: 0,
            root: Arc::new(slot),
            trace,
            input,
            place: None,
            module: routed.module,
        })
    }

    fn try_enter(&self, module: &ModuleVersion) -> Option<Slot> {
        let tenant = &module.tenant;
        // Who comes later must not overtake who waits.
        if tenant.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let of_tenant = Arc::clone(&tenant.places).try_acquire_owned().ok()?;
        let place = Arc::clone(&self.places).try_acquire_many_owned(module.places).ok()?;
        Some(self.slot(of_tenant, place))
    }

    fn slot(&self, of_tenant: OwnedSemaphorePermit, place: OwnedSemaphorePermit) -> Slot {
        Slot {
            id: RequestId::next(),
            calls: AtomicU32::new(1),
            computed_ns: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            instance_age_ns: AtomicU64::new(0),
            places: Arc::clone(&self.places),
            _tenant: of_tenant,
            _place: place,
        }
    }

    async fn wait(&self, module: &ModuleVersion) -> Result<Slot, Error> {
        let tenant = &module.tenant;
        let _waiting = Waiting::enter(tenant)?;
        let enter = async {
            let of_tenant = Arc::clone(&tenant.places).acquire_owned().await.ok()?;
            let place = Arc::clone(&self.places).acquire_many_owned(module.places).await.ok()?;
            Some(self.slot(of_tenant, place))
        };
        match tokio::time::timeout(tenant.limits.queue_wait, enter).await {
            Ok(Some(slot)) => Ok(slot),
            _ => Err(overloaded(retry_after_s(tenant.limits.queue_wait))),
        }
    }
}

/// Counts one waiting call for as long as it lives, also when its client leaves.
struct Waiting<'a>(&'a Tenant);

impl<'a> Waiting<'a> {
    fn enter(tenant: &'a Tenant) -> Result<Self, Error> {
        if tenant.waiting.fetch_add(1, Ordering::Relaxed) >= tenant.limits.queue {
            tenant.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(overloaded(retry_after_s(tenant.limits.queue_wait)));
        }
        Ok(Self(tenant))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn overloaded(retry_after_s: u32) -> Error {
    Error::new(Kind::Overloaded, "too many calls at once, try again").retry_after(retry_after_s)
}

fn retry_after_s(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::tests_support::module_of;
    use crate::{Body, TenantLimits, Via};

    fn routed(limits: TenantLimits) -> Routed {
        Routed { module: module_of(Tenant::new("acme", limits), "m"), entry: Entry::Http, via: Via::default() }
    }

    fn input() -> Input {
        Input::Http(Request::new(Body::Empty))
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_tenant_waits_then_is_refused_and_recovers() {
        let gate = Gate::new(GateOptions { places: 10 });
        let routed = routed(TenantLimits { in_flight: 1, queue: 1, queue_wait: Duration::from_secs(1) });
        let first = gate.admit(routed.clone(), input()).await.expect("the first has a place");
        let refused = gate.admit(routed.clone(), input()).await.expect_err("the second waits in vain");
        assert_eq!((refused.kind, refused.retry_after_s), (Kind::Overloaded, Some(1)));
        drop(first);
        gate.admit(routed, input()).await.expect("the place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let gate = Arc::new(Gate::new(GateOptions { places: 10 }));
        let routed = routed(TenantLimits { in_flight: 1, queue: 1, queue_wait: Duration::from_secs(5) });
        let first = gate.admit(routed.clone(), input()).await.expect("a place");
        let waiting = tokio::spawn({
            let (gate, routed) = (Arc::clone(&gate), routed.clone());
            async move { gate.admit(routed, input()).await }
        });
        tokio::task::yield_now().await;
        let before = tokio::time::Instant::now();
        gate.admit(routed, input()).await.expect_err("the queue is full");
        assert_eq!(before.elapsed(), Duration::ZERO, "refused at once");
        drop(first);
        waiting.await.expect("no panic").expect("who waited gets the place");
    }

    #[tokio::test]
    async fn children_share_deadline_and_root_and_are_bounded_in_depth() {
        let gate = Gate::new(GateOptions { places: 20 });
        let routed = routed(TenantLimits::default());
        let root = gate.admit(routed.clone(), input()).await.expect("a place");
        let mut calls = vec![root];
        loop {
            match calls[calls.len() - 1].child(routed.clone(), input()) {
                Ok(call) => {
                    assert_eq!(call.deadline.wall_at, calls[0].deadline.wall_at);
                    assert_eq!(call.root.id, calls[0].id);
                    calls.push(call);
                }
                Err(error) => break assert_eq!(error.kind, Kind::Depth),
            }
        }
        assert_eq!(calls.len(), 9, "the root and eight levels");
        assert_eq!(gate.in_flight(), 9, "each has a place in the pool");
        assert_eq!(routed.module.tenant.in_flight(), 1, "all share the tenant's slot");
        drop(calls);
        assert_eq!(gate.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_full_pool_refuses_children_at_once() {
        let gate = Gate::new(GateOptions { places: 1 });
        let routed = routed(TenantLimits::default());
        let root = gate.admit(routed.clone(), input()).await.expect("a place");
        assert_eq!(root.child(routed, input()).expect_err("no place").kind, Kind::Overloaded);
    }

    #[test]
    fn a_declared_body_over_the_limit_is_refused_before_anything_is_spent() {
        let gate = Gate::new(GateOptions { places: 1 });
        let routed = routed(TenantLimits::default());
        gate.check(&routed, Some(10 << 20)).expect("at the limit");
        let error = gate.check(&routed, Some((10 << 20) + 1)).expect_err("over the limit");
        assert_eq!(error.kind, Kind::BodyTooLarge);
    }
}
