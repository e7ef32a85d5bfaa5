//! For tests: the real program, the guests built from source, a client that sees every byte, and servers to call.
//!
//! All of it is synchronous and made of threads, so that no test shares a runtime, or a bug of one, with what it tests. The
//! client is written by hand: a library would refuse to send what the edge must refuse to take, and would hide how an
//! answer was framed. Everything fails by a panic that says what was waited for.

mod app;
mod client;
pub mod golden;
mod guests;
mod load;
mod mutation;
pub mod pattern;
mod program;
mod upstream;
mod wait;
pub mod wire;

pub use app::App;
pub use client::{Body, Client, Response};
pub use guests::{built, guest};
pub use load::{Neighbour, Timed, alone, at_once, each_at_once, note};
pub use mutation::each_mutation;
pub use program::{Finished, Fornax, children, run_to_end, run_to_end_with};
pub use upstream::{Recorded, Upstream};
pub use wait::{DEADLINE, wait_until};
