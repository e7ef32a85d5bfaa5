//! The one way out of a guest.
//!
//! Two goals pull apart. An operator wants to say *whom* a module may call, in names; an attacker who owns a name decides
//! *where* it leads, and may decide anew for every lookup. And a connection is dear, so it should be kept, while a
//! permission is cheap and may be gone by the next request.
//!
//! So a request is checked twice: its origin (scheme, host, port) against the [`AllowList`], and every address before a
//! connection is made to exactly that address, with nothing resolved in between. A kept connection remembers its address
//! and is checked again for the request that takes it; it never changes its tenant. Redirects and proxy variables do not
//! exist here: a guest that follows a redirect sends a request, which is checked like any other.
//!
//! The pool is our own, over hyper's connections: [`Egress::send`] connects inside the caller's future, so that dropping
//! it leaves nothing behind, and each timeout and each cause of failure has its own word in [`Error`].
//!
//! HTTP/1.1 only: HTTP/2 would save connections, not capability. How many requests a call may send is counted by `guest`.

mod address;
mod allow;
mod body;
mod client;
mod connect;
mod error;
mod origin;
mod pool;
mod request;

pub use allow::{AllowList, RuleError};
pub use client::{Egress, EgressOptions, Options, Policy};
pub use connect::{Resolver, SystemResolver};
pub use error::Error;
pub use origin::{Host, Origin, Scheme};
