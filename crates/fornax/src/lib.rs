//! Fornax, a WebAssembly application server, as a library.
//!
//! `main` is a few lines over this, and so can your program be:
//!
//! ```no_run
//! # async fn run() -> Result<(), fornax::Error> {
//! let config = fornax::Config::from_file("fornax.toml".as_ref(), &|name| std::env::var(name).ok())?;
//! let server = fornax::Builder::from_config(config)?.build().await?;
//! println!("listening on http://{}", server.addresses()[0]);
//! # std::future::pending::<()>().await;
//! server.drain().await;
//! # Ok(()) }
//! ```

mod builder;
#[doc(hidden)]
pub mod cli;
pub mod config;
mod control;
mod execute;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod interfaces;
mod server;
mod tls;

pub use base::{ClientLimits, CompileLimits, Error, Kind, Limits, ModuleId, Step, TenantLimits};
pub use builder::Builder;
pub use config::Config;
pub use execute::{ChainError, ExecuteLimits, Link, Registry};
pub use guest::{Interface, PoolSize, TrustedKey};
pub use server::Server;
