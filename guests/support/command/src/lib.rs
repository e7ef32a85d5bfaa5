//! A command that shows all it was given, the same for every kind of module that has a `main`.

use std::io::{BufRead, stdin};
use std::process::ExitCode;
use std::{env, fs};

/// Prints arguments, environment and standard input, a line each, and one line on stderr. Each line of input is answered before the next one
/// is read. Of the arguments, `file=PATH` prints a file, `exit=CODE` sets the exit code, `trap` traps three calls deep.
pub fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let mut variables: Vec<(String, String)> = env::vars().collect();
    variables.sort();
    for arg in &args {
        println!("argument: {arg}");
    }
    for (name, value) in &variables {
        println!("variable: {name}={value}");
    }
    for path in args.iter().filter_map(|arg| arg.strip_prefix("file=")) {
        match fs::read_to_string(path) {
            Ok(text) => println!("file: {text}"),
            Err(error) => println!("file: {:?}", error.kind()),
        }
    }
    for line in stdin().lock().lines().map_while(Result::ok) {
        println!("input: {line}");
    }
    eprintln!("command: done");
    if args.iter().any(|arg| arg == "trap") {
        attack::trap();
    }
    let code: Option<u8> = args.iter().find_map(|arg| arg.strip_prefix("exit=")?.parse().ok());
    code.map_or(ExitCode::SUCCESS, ExitCode::from)
}
