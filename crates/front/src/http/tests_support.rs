//! Modules that are never called, for tests of what stands before calls.

use std::sync::Arc;

use base::{
    BoxFuture, Call, Digest, Entry, Error, Handler, Limits, Metrics, ModuleId, ModuleVersion, Reply, Tenant, TenantLimits,
};

struct Never;

impl Handler for Never {
    fn handle(&self, _: Call) -> BoxFuture<Result<Reply, Error>> {
        Box::pin(std::future::pending())
    }
}

pub(crate) fn module(tenant: &str, name: &str) -> Arc<ModuleVersion> {
    Arc::new(ModuleVersion {
        id: ModuleId::parse("6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d").expect("a UUID"),
        name: name.into(),
        version: 1,
        digest: Digest::of(b""),
        metrics: Metrics::new().module(tenant, name),
        tenant: Arc::new(Tenant::new(tenant, TenantLimits::default())),
        app: "app".into(),
        limits: Limits::default(),
        entries: vec![Entry::Http],
        places: 1,
        handler: Arc::new(Never),
    })
}
