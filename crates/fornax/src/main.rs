//! The `fornax` program.

use std::process::ExitCode;

/// Guests and connections allocate and free small things on many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fornax::cli::main()
}
