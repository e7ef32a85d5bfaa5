//! Who owns apps: the unit of quotas and data.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::sync::Semaphore;

use crate::{Account, ModuleMetrics, Rate, TenantLimits};

/// What a line of the log has beside its text, about: time, tenant, module, request.
const LINE_EXTRA_BYTES: u64 = 128;

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
    /// What the log says of how its guests fail. As much again, so that what one prints does not hide how it ends.
    pub failures: Rate,
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
            failures: Rate::new(limits.log_bytes_a_second),
            places: Arc::new(Semaphore::new(limits.in_flight as usize)),
            waiting: AtomicU32::new(0),
            limits,
        }
    }

    /// Whether a line with so many bytes of text may stand in the log now, by `rate`, which is one of its own. Counts one that may not
    /// for its module, and says now and then that there were some.
    #[must_use]
    pub fn may_log(&self, rate: &Rate, text_bytes: usize, metrics: &ModuleMetrics) -> bool {
        let passes = rate.lets(text_bytes as u64 + LINE_EXTRA_BYTES);
        if !passes {
            metrics.log_line_dropped();
        }
        if let Some(dropped) = rate.dropped_to_say() {
            let tenant = &self.name;
            tracing::info!(target: "fornax", %tenant, dropped, "more is written for a tenant than its rate: lines are dropped");
        }
        passes
    }

    /// Calls in flight right now.
    pub fn in_flight(&self) -> usize {
        (self.limits.in_flight as usize).saturating_sub(self.places.available_permits())
    }
}
