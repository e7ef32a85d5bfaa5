//! A component of `wasi:cli/run@0.2` that shows its arguments, environment and input and ends as it is told; WASI 0.2 knows only two exit
//! codes, 0 and 1. Proves the entry `run` of components.

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
