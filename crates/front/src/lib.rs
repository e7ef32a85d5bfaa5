//! Triggers: what makes a call.
//!
//! So far one, HTTP. Every trigger finds who shall answer in the [`base::Snapshot`], passes the [`base::Gate`], and hands
//! the call to its handler. This crate never sees wasmtime, nor what a guest is.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod http;
mod reply;

use std::sync::Arc;

use base::{Gate, Metrics, Snapshots};

/// What every trigger needs of the process.
#[derive(Clone, Debug)]
pub struct Road {
    /// What is in service.
    pub snapshots: Arc<Snapshots>,
    /// The only maker of calls.
    pub gate: Arc<Gate>,
    /// Where is counted.
    pub metrics: Arc<Metrics>,
}
