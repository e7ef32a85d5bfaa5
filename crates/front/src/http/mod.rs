//! The HTTP trigger: sockets, connections, requests.
//!
//! One thread and one runtime per core, and a connection stays on its core: the guest runs inside the connection's task,
//! so a request crosses no thread and no queue. See `listener` for how connections are spread, `connection` for what they
//! speak, `io` for the timers that keep slow clients from holding anything. Streams of HTTP/2 are tasks of their own on that
//! core and take the same way from `service` on.

mod cache;
mod clock;
mod conditions;
mod connection;
mod date;
mod files;
pub(crate) mod forwarded;
pub(crate) mod head;
mod http2;
mod io;
mod listener;
mod pages;
mod request_body;
pub(crate) mod router;
mod seen;
mod service;
mod tls;
mod transport;

pub use cache::CacheOptions;
pub use forwarded::Proxies;
pub use listener::{Http, HttpOptions};
pub use tls::{Tls, TlsFault};
