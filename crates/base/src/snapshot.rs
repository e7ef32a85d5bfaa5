//! What is in service, as one immutable value behind one atomic pointer.
//!
//! The control plane builds a snapshot and swaps the pointer; the road reads it once per request. So no request sees half
//! of a change, and an old module version lives exactly as long as its calls.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::{Counts, ModuleId, ModuleVersion, RouteTable, Tenant};

/// Routes, modules and tenants in service.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts snapshots since the start.
    pub generation: u64,
    /// The routes, and through them the modules that HTTP requests reach.
    pub routes: RouteTable,
    /// Every module, by tenant and name.
    pub modules: BTreeMap<(Arc<str>, Arc<str>), Arc<ModuleVersion>>,
    /// The same by id.
    pub by_id: HashMap<ModuleId, Arc<ModuleVersion>>,
    /// Every tenant, by name.
    pub tenants: BTreeMap<Arc<str>, Arc<Tenant>>,
    /// Where requests without a route are counted, if anybody can look.
    pub counts: Option<Arc<Counts>>,
}

/// The pointer to the snapshot in service.
#[derive(Debug, Default)]
pub struct Snapshots(ArcSwap<Snapshot>);

impl Snapshots {
    /// Points to `first`.
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// The snapshot in service; wait-free.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Puts `next` into service.
    pub fn swap(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}
