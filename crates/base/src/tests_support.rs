//! For tests of what leads to calls: a module that is never called. And that the documentation has the numbers of the code.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    BoxFuture, Call, Digest, Entry, Error, Handler, Limits, Metrics, ModuleId, ModuleVersion, Places, Quantity, Reply, Tenant,
    TenantLimits,
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

/// That a table of `docs/limits.md` gives this limit of `what`.
///
/// # Panics
///
/// If there is no such row.
#[track_caller]
pub fn assert_documented(what: &str, limit: impl std::fmt::Display) {
    let row = format!("| {what} | {limit} |");
    assert!(include_str!("../../../docs/limits.md").contains(&row), "docs/limits.md has no row that begins with `{row}`");
}

/// A size, as it is written there.
pub fn size(bytes: usize) -> Quantity {
    Quantity::Bytes(Some(bytes as u64))
}

/// A time, as it is written there.
pub fn time(time: Duration) -> Quantity {
    Quantity::Time(Some(time))
}

/// A number, as it is written there.
pub fn number(number: usize) -> Quantity {
    Quantity::Number(u32::try_from(number).unwrap_or(u32::MAX))
}
