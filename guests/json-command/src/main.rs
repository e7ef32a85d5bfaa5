//! Reads the JSON of the codec `wasio` and answers JSON: the command benchmarks call. It touches nothing but its memory, standard input and
//! standard output, so it costs what a command behind HTTP has to cost.

use serde_json::{Value, json};
use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = stdin().lock().read_to_end(&mut input).ok();
    let Some(request) = read.and_then(|_| serde_json::from_slice::<Value>(&input).ok()) else { return ExitCode::FAILURE };
    let name = request["params"]["name"].as_str().unwrap_or("World");
    let answer = json!({ "message": format!("Hello, {name}!"), "seed": request["seed"] }).to_string();
    match stdout().lock().write_all(answer.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
