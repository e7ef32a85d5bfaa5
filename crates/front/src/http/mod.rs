//! The HTTP trigger: sockets, connections, requests.
//!
//! One thread and one runtime per core, and a connection stays on its core: the guest runs inside the connection's task,
//! so a request crosses no thread and no queue. See `listener` for how connections are spread, `io` for the timers that
//! keep slow clients from holding anything.

mod cache;
mod clock;
mod conditions;
mod date;
mod files;
mod head;
mod io;
mod listener;
mod pages;
mod request_body;
mod router;
mod seen;
mod service;

pub use cache::CacheOptions;
pub use listener::{Http, HttpOptions};
