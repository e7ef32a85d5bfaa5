//! The types every call passes through, and the gate that lets it pass.
//!
//! Goals in tension: the road from socket to guest must be readable as a chain of types, and it must cost next to
//! nothing. So every step hands the next one a value that proves what was done — a [`Routed`] was found by a router, a
//! [`Call`] was admitted by the [`Gate`] — and those values are a few pointers: what is the same for many calls sits
//! in the [`Snapshot`] behind an `Arc`.
//!
//! This crate knows neither HTTP servers nor WebAssembly engines.

mod account;
mod body;
mod call;
mod counts;
mod error;
mod evidence;
mod fields;
mod gate;
mod id;
pub mod journal;
mod limits;
mod metrics;
mod module;
mod routes;
mod secret;
mod snapshot;
mod tenant;
#[cfg(any(test, feature = "test-support"))]
pub mod tests_support;

pub use account::{Account, Rate};
pub use body::{Body, BodyError, BodyFault, limit_body};
pub use call::{Call, Command, Deadline, Exit, Input, Output, Reply, Routed, Stdio, Step, Via};
pub use counts::{Counted, Counts, Looked, Totals};
pub use error::{Blame, Error, Kind};
pub use evidence::{EVIDENCE, Evidence};
pub use fields::{field_tokens, strip_hop_by_hop};
pub use gate::{Gate, GateOptions, POOLS, Places, Slot, Taken};
pub use id::{Digest, ModuleId, RequestId};
pub use limits::{ClientLimits, CompileLimits, LimitRow, Limits, Quantity, TenantLimits};
pub use metrics::{Metrics, ModuleMetrics, Outcome};
pub use module::{BoxFuture, Entry, Handler, ModuleVersion};
pub use routes::{About, FileRoot, Found, Page, PageKind, Pattern, PatternError, Picked, Route, RouteTable, Target, Weighted};
pub use secret::Secret;
pub use snapshot::{Snapshot, Snapshots};
pub use tenant::Tenant;
