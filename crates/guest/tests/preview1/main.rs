//! Preview 1: compared with wasmtime's, attacked, and on this process's own streams.

mod compare;
mod hostile;
mod reference;
mod streams;
mod support;
