//! The gate: the only maker of calls.
//!
//! Two steps, because a stored answer may end the request between them: [`Gate::check`] looks at what is known of the
//! request and costs nothing; [`Gate::admit`] takes a place. Places are bounded twice: by tenant, so that one tenant
//! cannot take all, and by the pool its instance comes from, because an exhausted pool is an error and a queue is patience. The
//! common case is two uncontended atomics; a timer is armed only for a call that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Call, Deadline, Entry, Error, Evidence, Input, Kind, ModuleVersion, RequestId, Routed, Tenant};

/// The name of the W3C trace context header.
const TRACEPARENT: &str = "traceparent";

/// Pools that instances come from: guests of a generation have an engine of their own, and each engine has a pool.
pub const POOLS: usize = 2;

/// Places by pool.
pub type Places = [u32; POOLS];

/// How large the gate is.
#[derive(Clone, Copy, Debug)]
pub struct GateOptions {
    /// Guests at once: below each pool's smallest resource.
    pub places: Places,
}

/// Admits calls. One for the process.
#[derive(Debug)]
pub struct Gate {
    pools: Arc<Pools>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Pools {
    free: [Arc<Semaphore>; POOLS],
    max: [AtomicU32; POOLS],
}

/// Places that somebody has; they are free when it is dropped.
#[derive(Debug, Default)]
pub struct Taken([Option<OwnedSemaphorePermit>; POOLS]);

impl Pools {
    fn new(places: Places) -> Self {
        Self { free: places.map(|places| Arc::new(Semaphore::new(places as usize))), max: places.map(AtomicU32::new) }
    }

    fn try_take(&self, wanted: Places) -> Option<Taken> {
        let mut taken = Taken::default();
        for (pool, wanted) in wanted.into_iter().enumerate().filter(|(_, wanted)| *wanted > 0) {
            taken.0[pool] = Some(Arc::clone(&self.free[pool]).try_acquire_many_owned(wanted).ok()?);
        }
        Some(taken)
    }

    /// Takes them in the order of the pools, so that no two wait for each other.
    async fn take(&self, wanted: Places) -> Option<Taken> {
        let mut taken = Taken::default();
        for (pool, wanted) in wanted.into_iter().enumerate().filter(|(_, wanted)| *wanted > 0) {
            taken.0[pool] = Some(Arc::clone(&self.free[pool]).acquire_many_owned(wanted).await.ok()?);
        }
        Some(taken)
    }

    fn max(&self) -> Places {
        std::array::from_fn(|pool| self.max[pool].load(Ordering::Relaxed))
    }
}

/// A tenant's place, held by everything that belongs to one request from outside.
#[derive(Debug)]
pub struct Slot {
    /// The id of the request from outside.
    pub id: RequestId,
    calls: AtomicU32,
    calls_max: u32,
    computed_ns: AtomicU64,
    memory_bytes: AtomicU64,
    instance_age_ns: AtomicU64,
    host_calls: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    pools: Arc<Pools>,
    _tenant: OwnedSemaphorePermit,
    _places: Taken,
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

    /// A guest of the request called the host.
    pub fn note_host_call(&self) {
        self.host_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// So much of the request's body was read.
    pub(crate) fn note_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So much of the answer's body was taken.
    pub(crate) fn note_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What the request has cost so far.
    pub fn evidence(&self, admitted_at: Instant) -> Evidence {
        Evidence {
            cpu: self.computed(),
            wall: admitted_at.elapsed(),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            instance_age: Duration::from_nanos(self.instance_age_ns.load(Ordering::Relaxed)),
            host_calls: self.host_calls.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// What the request's guests that have ended computed together.
    pub fn computed(&self) -> Duration {
        Duration::from_nanos(self.computed_ns.load(Ordering::Relaxed))
    }

    /// Counts a call that the one from outside causes, and whether it may.
    pub(crate) fn may_call(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) < self.calls_max
    }

    pub(crate) fn nested_places(&self, places: Places) -> Result<Taken, Error> {
        self.pools.try_take(places).ok_or_else(|| overloaded(1))
    }
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(options: GateOptions) -> Self {
        Self { pools: Arc::new(Pools::new(options.places)), closed: AtomicBool::new(false) }
    }

    /// Places there are.
    pub fn places_max(&self) -> Places {
        self.pools.max()
    }

    /// From now on there are so many, where that is more than there were: pools are made when they are needed.
    pub fn enlarge(&self, places: Places) {
        for (pool, places) in places.into_iter().enumerate() {
            let before = self.pools.max[pool].fetch_max(places, Ordering::Relaxed);
            self.pools.free[pool].add_permits(places.saturating_sub(before) as usize);
        }
    }

    /// Places taken, over all tenants.
    pub fn in_flight(&self) -> usize {
        let taken = |(max, free): (u32, &Arc<Semaphore>)| (max as usize).saturating_sub(free.available_permits());
        self.places_max().into_iter().zip(&self.pools.free).map(taken).sum()
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
            places: Taken::default(),
            in_flight: None,
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
        Some(self.slot(module, of_tenant, self.pools.try_take(module.places)?))
    }

    fn slot(&self, module: &ModuleVersion, of_tenant: OwnedSemaphorePermit, places: Taken) -> Slot {
        Slot {
            id: RequestId::next(),
            calls: AtomicU32::new(1),
            calls_max: module.limits.calls,
            computed_ns: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            instance_age_ns: AtomicU64::new(0),
            host_calls: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            pools: Arc::clone(&self.pools),
            _tenant: of_tenant,
            _places: places,
        }
    }

    async fn wait(&self, module: &ModuleVersion) -> Result<Slot, Error> {
        let tenant = &module.tenant;
        let _waiting = Waiting::enter(tenant)?;
        let enter = async {
            let of_tenant = Arc::clone(&tenant.places).acquire_owned().await.ok()?;
            Some(self.slot(module, of_tenant, self.pools.take(module.places).await?))
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
    use crate::tests_support::{module_of, module_with};
    use crate::{Body, TenantLimits, Via};

    fn routed(limits: TenantLimits) -> Routed {
        Routed { module: module_of(Tenant::new("acme", limits), "m"), entry: Entry::Http, via: Via::default() }
    }

    fn input() -> Input {
        Input::Http(Request::new(Body::Empty))
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_tenant_waits_then_is_refused_and_recovers() {
        let gate = Gate::new(GateOptions { places: [10, 0] });
        let routed = routed(TenantLimits { in_flight: 1, queue: 1, ..TenantLimits::default() });
        let first = gate.admit(routed.clone(), input()).await.expect("the first has a place");
        let refused = gate.admit(routed.clone(), input()).await.expect_err("the second waits in vain");
        assert_eq!((refused.kind, refused.retry_after_s), (Kind::Overloaded, Some(1)));
        drop(first);
        gate.admit(routed, input()).await.expect("the place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let gate = Arc::new(Gate::new(GateOptions { places: [10, 0] }));
        let routed =
            routed(TenantLimits { in_flight: 1, queue: 1, queue_wait: Duration::from_secs(5), ..TenantLimits::default() });
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
        let gate = Gate::new(GateOptions { places: [20, 0] });
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
    async fn a_pool_is_full_by_itself_and_can_become_larger() {
        let gate = Gate::new(GateOptions { places: [1, 1] });
        let limits = TenantLimits { queue_wait: Duration::ZERO, ..TenantLimits::default() };
        let of = |places| {
            let module = module_with(Tenant::new("acme", limits.clone()), "m", places);
            Routed { module, entry: Entry::Http, via: Via::default() }
        };
        let (one, other, both) = (of([1, 0]), of([0, 1]), of([1, 1]));
        let first = gate.admit(one.clone(), input()).await.expect("a place");
        gate.admit(one.clone(), input()).await.expect_err("its pool is full");
        gate.admit(both.clone(), input()).await.expect_err("one of its pools is full");
        let second = gate.admit(other, input()).await.expect("the other pool is not");
        gate.enlarge([2, 0]);
        assert_eq!((gate.places_max(), gate.in_flight()), ([2, 1], 2));
        let third = gate.admit(one, input()).await.expect("there is one more");
        drop((first, second, third));
        let all = gate.admit(both, input()).await.expect("places in both");
        assert_eq!(gate.in_flight(), 2);
        drop(all);
        assert_eq!(gate.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_full_pool_refuses_children_at_once() {
        let gate = Gate::new(GateOptions { places: [1, 0] });
        let routed = routed(TenantLimits::default());
        let root = gate.admit(routed.clone(), input()).await.expect("a place");
        assert_eq!(root.child(routed, input()).expect_err("no place").kind, Kind::Overloaded);
    }

    #[test]
    fn a_declared_body_over_the_limit_is_refused_before_anything_is_spent() {
        let gate = Gate::new(GateOptions { places: [1, 0] });
        let routed = routed(TenantLimits::default());
        gate.check(&routed, Some(10 << 20)).expect("at the limit");
        let error = gate.check(&routed, Some((10 << 20) + 1)).expect_err("over the limit");
        assert_eq!(error.kind, Kind::BodyTooLarge);
    }
}
