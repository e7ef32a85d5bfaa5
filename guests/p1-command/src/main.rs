//! A WASI preview 1 module that shows its arguments, environment and input and ends as it is told. Proves the entry `run` of core modules.

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
