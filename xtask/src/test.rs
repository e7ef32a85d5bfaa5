//! `cargo xtask test`: everything that must hold before a change lands; what CI runs.
//!
//! Cheap answers come first: a forgotten format fails in a second, not behind ten minutes of compiling. One profile for all of it, so that
//! dependencies compile once for clippy and once for everything that runs.

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result, demo, gate, guests, hostile, tidy};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

pub(crate) const COMMAND: Command = Command {
    name: "test",
    summary: "format, tidy, guests, clippy, all tests, the demo, instructions a call; what CI runs",
    help: "
Usage: cargo xtask test [--fast] [-- FILTER…]
       cargo xtask test --hostile

Steps: format · tidy · languages of the guests, guests · clippy with warnings denied, linters of the guests · unit, seam and
whole-program tests · the demo, each of its requests once · instructions a call, where valgrind is installed · `cargo deny`,
where it is installed.

  --fast        without clippy, demo, instructions and `cargo deny`
  --hostile     the full form of what attacks the server, and nothing else: every attack again and again beside a neighbour, each call
                to the kernel made to fail, a million calls of two tenants by turns, a minute of each fuzz target where `cargo fuzz`
                and nightly are installed. Takes about an hour; all figures go to `hostile/report.md` in the target directory
  -- FILTER…    only guests and tests; what follows goes to the test programs (`-- keyvalue`, `-- --nocapture`)

The last line counts: `N passed, N failed, N skipped`.",
    run,
};

#[expect(clippy::print_stdout, reason = "the closing line belongs to the test results, which are on stdout")]
fn run(args: &[String]) -> Result<()> {
    let args = Args::parse(args, &["--fast", "--hostile"], &[])?;
    if args.has("--hostile") {
        return if args.has("--fast") || args.tail.is_some() { Err("--hostile stands alone".into()) } else { hostile::run() };
    }
    let mut counts = Counts::default();
    let result = everything(&args, &mut counts);
    if counts != Counts::default() || result.is_ok() {
        println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    }
    result
}

fn everything(args: &Args, counts: &mut Counts) -> Result<()> {
    let whole = args.tail.is_none();
    let slow = whole && !args.has("--fast");
    let deny = slow && deny_installed();
    let gate = slow && gate::is_possible()?;
    let mut steps = Steps::new(3 + if whole { 2 } else { 0 } + if slow { 3 } else { 0 } + usize::from(gate) + usize::from(deny));
    if whole {
        components()?;
        steps.step("format", format)?;
        steps.step("tidy", tidy::all)?;
    }
    guests::build(&mut steps)?;
    if slow {
        steps.step("clippy", clippy)?;
        steps.step("linters of the guests", guests::lint)?;
    }
    steps.step("tests", || tests(args.tail.as_deref().unwrap_or_default(), counts))?;
    if slow {
        // With the program that the tests have built: building it alone would choose other features of its dependencies, and
        // compile them all again.
        steps.step("demo", || demo::check(&demo::program("dev")))?;
    }
    if gate {
        // So is what it measures.
        steps.step("instructions a call", gate::check)?;
    }
    if deny {
        steps.step("cargo deny", || {
            work::run(&mut work::cargo(["deny", "--all-features", "check", "bans", "licenses", "sources"]))
        })?;
    }
    eprintln!("everything holds, {:.0} s", steps.seconds());
    Ok(())
}

/// Adds what the toolchain lacks of what is used here.
fn components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let is_there = work::cargo([subcommand, "--version"]).output().is_ok_and(|output| output.status.success());
        if !is_there {
            work::run(work::command("rustup").args(["component", "add", component]))
                .map_err(|error| format!("{error}\n`{component}` is needed: install it with rustup or your distribution"))?;
        }
    }
    Ok(())
}

fn format() -> Result<()> {
    work::run(&mut work::cargo(["fmt", "--all", "--check"]))
        .map_err(|error| format!("{error}\n`cargo fmt --all` puts it right"))?;
    guests::format().map_err(|error| format!("{error}\n`cargo fmt --all` in guests/ and `gofmt -w .` in guests/go/ put it right"))
}

fn clippy() -> Result<()> {
    work::run(work::cargo(["clippy", "--workspace", "--all-targets"]).args(work::locked()).args(["--", "-D", "warnings"]))
}

/// What the test programs count together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some((_, numbers)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
        for part in numbers.split("; ") {
            let Some((number, word)) = part.split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Runs them all, also behind a failure, and passes on what they print while counting.
#[expect(clippy::print_stdout, reason = "test results are this command's data")]
fn tests(filter: &[String], counts: &mut Counts) -> Result<()> {
    let mut cargo = work::cargo(["test", "--workspace", "--no-fail-fast"]);
    cargo.args(work::locked()).arg("--").args(filter).stdout(Stdio::piped());
    let mut child = cargo.spawn().map_err(|error| work::could_not_start(&cargo, &error))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
            let line = String::from_utf8_lossy(&line);
            counts.add(&line);
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|error| work::could_not_start(&cargo, &error))?;
    match counts {
        _ if !status.success() => Err(format!("{} failed; `cargo test` ended with {status}", counts.failed)),
        Counts { passed: 0, .. } if filter.is_empty() => Err("no test ran".into()),
        _ => Ok(()),
    }
}

fn deny_installed() -> bool {
    let installed = work::installed("cargo-deny");
    if !installed {
        eprintln!(
            "NOTE: `cargo deny` is NOT installed: licences and bans of deny.toml go unchecked; `cargo install --locked cargo-deny`"
        );
    }
    installed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        counts.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        counts.add("test a_test ... ok");
        assert_eq!(counts, Counts { passed: 5, failed: 1, skipped: 1 });
    }
}
