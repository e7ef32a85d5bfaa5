//! Who owns apps: the unit of quotas and data.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::sync::Semaphore;

use crate::TenantLimits;

/// A tenant as calls see it. One value lives as long as its quotas stay the same, across snapshots, so that a reload
/// does not forget the calls in flight.
#[derive(Debug)]
pub struct Tenant {
    /// The name in configuration, logs and metrics.
    pub name: Arc<str>,
    /// The quotas.
    pub limits: TenantLimits,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) waiting: AtomicU32,
}

impl Tenant {
    /// A tenant with nothing in flight.
    pub fn new(name: impl Into<Arc<str>>, limits: TenantLimits) -> Self {
        Self {
            name: name.into(),
            places: Arc::new(Semaphore::new(limits.in_flight as usize)),
            waiting: AtomicU32::new(0),
            limits,
        }
    }

    /// Calls in flight right now.
    pub fn in_flight(&self) -> usize {
        (self.limits.in_flight as usize).saturating_sub(self.places.available_permits())
    }
}
