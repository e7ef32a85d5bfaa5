//! The instrument /hello_world: greets `name` and shows the seed. Proves that parameters arrive and that no two calls have the same seed.

use std::process::ExitCode;

fn main() -> ExitCode {
    wasio::text(|request| Ok(format!("Hello, {}! (seed: {})\n", request.param_or("name", "World"), request.seed)))
}
