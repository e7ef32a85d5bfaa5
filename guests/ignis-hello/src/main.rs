//! Answers every request with `Hello from Fornax!` through the codec `ignis`: what that codec costs and no more.

use std::process::ExitCode;

fn main() -> ExitCode {
    fd::main(|_| fd::Response::text(200, "Hello from Fornax!\n"))
}
