//! A module that is never called, for tests of what leads to calls.

use std::sync::Arc;

use crate::{
    BoxFuture, Call, Digest, Entry, Error, Handler, Limits, Metrics, ModuleId, ModuleVersion, Places, Reply, Tenant, TenantLimits,
};

struct Never;

impl Handler for Never {
    fn handle(&self, _: Call) -> BoxFuture<Result<Reply, Error>> {
        Box::pin(std::future::pending())
    }
}

/// One of a tenant with default limits.
pub fn module(tenant: &str, name: &str) -> Arc<ModuleVersion> {
    module_of(Tenant::new(tenant, TenantLimits::default()), name)
}

/// One of this tenant.
pub fn module_of(tenant: Tenant, name: &str) -> Arc<ModuleVersion> {
    module_with(tenant, name, [1, 0])
}

/// One that takes these places.
pub fn module_with(tenant: Tenant, name: &str, places: Places) -> Arc<ModuleVersion> {
    Arc::new(ModuleVersion {
        id: ModuleId::random(),
        name: name.into(),
        version: 1,
        digest: Digest::of(b""),
        metrics: Metrics::new().module(&tenant.name, name),
        evidence: false,
        tenant: Arc::new(tenant),
        app: "app".into(),
        limits: Limits::default(),
        entries: vec![Entry::Http],
        places,
        handler: Arc::new(Never),
        watched: None,
    })
}
