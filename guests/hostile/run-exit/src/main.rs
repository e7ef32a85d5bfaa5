//! A command that prints an answer and ends with code 3. Proves that what failed is no answer.

use std::process::ExitCode;

fn main() -> ExitCode {
    println!("half an answer");
    ExitCode::from(3)
}
