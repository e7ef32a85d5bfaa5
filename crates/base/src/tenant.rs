//! Who owns apps: the unit of quotas and data.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::sync::Semaphore;

use crate::{Account, Rate, TenantLimits};

/// A tenant as calls see it. One value lives as long as its quotas stay the same, across snapshots, so that a reload
/// does not forget the calls in flight.
#[derive(Debug)]
pub struct Tenant {
    /// The name in configuration, logs and metrics.
    pub name: Arc<str>,
    /// The quotas.
    pub limits: TenantLimits,
    /// Memory of its guests beyond what each has for nothing.
    pub memory: Account,
    /// What its guests write into the log.
    pub log: Rate,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) waiting: AtomicU32,
}

impl Tenant {
    /// A tenant with nothing in flight, which shares no memory with others.
    pub fn new(name: impl Into<Arc<str>>, limits: TenantLimits) -> Self {
        Self::within(name, limits, None)
    }

    /// A tenant with nothing in flight; its memory is a part of `memory`.
    pub fn within(name: impl Into<Arc<str>>, limits: TenantLimits, memory: Option<Arc<Account>>) -> Self {
        Self {
            name: name.into(),
            memory: Account::new(limits.memory_bytes, memory),
            log: Rate::new(limits.log_bytes_a_second),
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
