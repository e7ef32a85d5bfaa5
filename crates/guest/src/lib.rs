//! Runs WebAssembly: engines, instances, entries, and the seam that interfaces plug into.
//!
//! Goals in tension: a fresh sandbox for every call, and a price near that of none. The decisions: everything that can be
//! done once is done when a module is published ([`Runtime::prepare`]); a call makes a store from the pool, runs the guest
//! *inside the connection's task* — no spawn, no channel, no timer — and only a guest that keeps computing, or works on
//! after its answer, is moved to a [runner](runner) thread, store and all. Every poll of a guest stands under
//! `catch_unwind` and is timed ([`meter`]), because one deadline must work for guests that loop, sleep, or panic the host.
//!
//! This is the only crate on the road that sees wasmtime. It names no interface of `interfaces/`; they come through
//! [`Interface`].

mod artifact;
mod caps;
mod chain;
mod code;
mod codec;
mod compiler;
mod compiling;
mod descriptors;
mod engine;
mod entry;
mod execution;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod ignis;
mod instance;
mod interface;
mod link;
mod loading;
mod logs;
mod machine;
mod memory;
mod meter;
mod outbound;
mod plugin;
mod preview1;
mod program;
mod publish;
mod reply;
mod reuse;
mod runner;
mod runtime;
mod scan;
mod shared;
mod signed;
mod state;
mod terminal;
mod ticker;
mod turns;

pub use artifact::Artifact;
pub use chain::{Chain, Link, entry_for_bytes, input_for, output_of, result_of};
pub use codec::entry_of_codec;
pub use compiler::{COMMAND as COMPILE_COMMAND, Compilation};
pub use compiling::{CompileJob, compile_for_server};
pub use engine::PoolSize;
pub use interface::{BackendTable, Backends, Grant, Interface, Session, Shape, Slot};
pub use machine::{Bound, Machine};
pub use reuse::{Lifetime, Reuse};
pub use runtime::{Directory, Module, Prepared, Runtime, RuntimeOptions};
pub use scan::entries;
pub use signed::{Signed, SigningKey, TrustedKey, public_path};
pub use state::State;
pub use ticker::TICK;
