//! HTTP/2 and TLS over real sockets: what clients of others see, what must be as in HTTP/1, and what no client can do to
//! another.

mod broken;
mod client;
mod drain;
mod frames;
mod hostile;
mod requests;
mod tls;

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
