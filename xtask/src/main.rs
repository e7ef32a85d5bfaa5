//! The automation of this repository: `cargo xtask <command>`.
//!
//! It is the first thing a stranger compiles, so it is small: one dependency, no wasmtime, seconds to build. It calls `cargo`, `rustup`
//! and `git` as a person would and adds what they lack: order, progress and checks of our own.
//!
//! A command is one file with a `COMMAND`, its `mod` line and its row in [`COMMANDS`].

mod args;
mod bench;
mod demo;
mod dist;
mod gate;
mod guests;
mod hostile;
mod server;
mod test;
mod tidy;
mod work;

use std::process::ExitCode;

/// What went wrong, as a sentence for the terminal; what a child printed has been shown already.
type Result<T> = std::result::Result<T, String>;

/// One command of `cargo xtask`.
struct Command {
    name: &'static str,
    /// One line, for the list of commands.
    summary: &'static str,
    /// The rest of `--help`: what it does, in which order, and its flags.
    help: &'static str,
    /// Gets everything after the command's name.
    run: fn(&[String]) -> Result<()>,
}

/// All commands, in the order a newcomer needs them.
const COMMANDS: &[Command] =
    &[demo::COMMAND, test::COMMAND, guests::COMMAND, tidy::COMMAND, gate::COMMAND, bench::COMMAND, dist::COMMAND];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        eprintln!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "--help" | "-h" | "help") {
        eprintln!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("error: there is no command `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    // What stands behind `--` belongs to somebody else, their `--help` too.
    if rest.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h") {
        eprintln!("cargo xtask {}: {}\n\n{}", command.name, command.summary, command.help.trim());
        return ExitCode::SUCCESS;
    }
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("Usage: cargo xtask <command> [flags]\n\nCommands:\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<8} {}\n", command.name, command.summary));
    }
    text.push_str("\n`cargo xtask <command> --help` says more.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_listed_and_explained() {
        for command in COMMANDS {
            assert!(usage().contains(command.summary), "{}", command.name);
            assert!(command.help.contains("Usage:"), "{}", command.name);
            let unknown = (command.run)(&["--no-such-flag".to_string()]).unwrap_err();
            assert!(unknown.contains("--no-such-flag"), "{}: {unknown}", command.name);
        }
    }
}
