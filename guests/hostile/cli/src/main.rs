//! A component of `wasi:cli/run@0.2` that misbehaves as its first argument says. Proves that components end as the modules called
//! `hostile-run-…` do.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("loop") => attack::spin(),
        Some("bulk") => attack::bulk(),
        Some("descriptors") => {
            let mut open = Vec::new();
            while let Ok(file) = std::fs::File::open("/data") {
                open.push(file);
            }
            println!("{} open", open.len());
        }
        Some("log") => while std::io::stderr().write_all(b"one line of many\n").is_ok() {},
        Some("memory-bomb") => attack::take_memory(),
        Some("trap") => attack::trap(),
        Some("recursion") => println!("{}", attack::descend(1)),
        Some("silent") => {}
        Some("flood") => {
            let chunk = [b'x'; 64 << 10];
            while stdout().write_all(&chunk).is_ok() {}
        }
        Some("sleeper") => thread::sleep(Duration::from_secs(3600)),
        Some("stderr") => {
            eprintln!("plain words\n\u{1b}[31mred\u{1b}[0m");
            eprint!("no end");
            println!("ok");
        }
        Some("exit") => {
            println!("half an answer");
            return ExitCode::FAILURE;
        }
        other => panic!("no way {other:?}"),
    }
    ExitCode::SUCCESS
}
