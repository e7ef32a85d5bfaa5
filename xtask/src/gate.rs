//! `cargo xtask gate`: what a call of each kind costs in instructions, against what it cost when that was last written down.
//!
//! Times say nothing on a machine that is busy, or another; instructions do, if nothing of the machine is in them. So the calls are
//! those of `crates/fornax/examples/gate.rs`, which leaves out what differs from run to run, under valgrind, whose processor is the
//! same everywhere: guests are compiled under it too. The tests' profile is measured, since it is built anyway, and our own code is
//! not optimised in it: ten percent here are not ten percent of a user's time, but a copy, a lock or a call too many shows in both.

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result, guests};
use serde_json::{Map, Value, json};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const COMMAND: Command = Command {
    name: "gate",
    summary: "instructions a call against the recorded ones; fails on a regression",
    help: "
Usage: cargo xtask gate [--record]

Counts the instructions of a call of each kind under `valgrind --tool=callgrind` and compares them with bench/instructions.json: more
than 10 % above it is a failure. Needs valgrind.

  --record      writes bench/instructions.json instead; commit it with the change that explains it",
    run,
};

/// What is measured, in the order of `crates/fornax/examples/gate.rs`.
const ROWS: [(&str, &str); 6] = [
    ("hello-wasip2", "WASI 0.2 over HTTP, fresh instance"),
    ("hello-wasip3", "WASI 0.3 over HTTP, fresh instance"),
    ("json-command", "preview 1 command over HTTP"),
    ("serial", "WASI 0.2 over HTTP, an instance that is kept"),
    ("concurrent", "WASI 0.3 over HTTP, an instance that serves several calls"),
    ("process", "`process` plugin by the library"),
];

/// Counted calls of each row: enough that what happens once in a while, as a date being written anew, does not show.
const CALLS: u64 = 200;

/// Percent above the baseline that fail: far more than runs differ, less than any change one would not want to know of.
const REGRESSION_PERCENT: f64 = 10.0;

/// Percent that runs may differ when a baseline is made. More, and something that is counted is not ours.
const SPREAD_PERCENT: f64 = 2.0;

/// Runs a baseline is made of, and runs before a regression is believed: what disturbs a run only adds to it.
const RUNS: usize = 3;

/// Instructions of a call, by row.
type Figures = [u64; ROWS.len()];

fn run(args: &[String]) -> Result<()> {
    let args = Args::parse_whole(args, &["--record"], &[])?;
    let mut steps = Steps::new(4);
    guests::build(&mut steps)?;
    steps.step("measured program", || {
        // With everything else, as `cargo test` builds it: alone it would choose other features of its dependencies.
        work::run(work::cargo(["build", "--workspace", "--example", "gate"]).args(work::locked()))
    })?;
    steps.step("instructions", || if args.has("--record") { record() } else { check() })
}

/// Whether this machine can: the counter is there, and it is what the baseline is of.
pub(crate) fn is_possible() -> Result<bool> {
    let why = if !work::installed("valgrind") {
        "valgrind is not installed: `apt-get install valgrind`"
    } else if !is_of_this_machine(&baseline()?) {
        "the baseline is of another kind of processor"
    } else {
        return Ok(true);
    };
    if env::var_os("CI").is_some() { Err(why.into()) } else { Ok(skip(why)) }
}

fn skip(why: &str) -> bool {
    eprintln!("NOTE: instructions of a call are NOT compared: {why}");
    false
}

/// Compares. The guests and the measured program are built.
pub(crate) fn check() -> Result<()> {
    let baseline = baseline()?;
    if !is_of_this_machine(&baseline) {
        return Err("the baseline is of another kind of processor".into());
    }
    let recorded = figures_of(&baseline)?;
    let mut measured = measure()?;
    for _ in 1..RUNS {
        if regressions(&recorded, &measured).is_empty() {
            break;
        }
        eprintln!("  once more, to be sure");
        let again = measure()?;
        measured = std::array::from_fn(|row| measured[row].min(again[row]));
    }
    eprint!("{}", table(&recorded, &measured));
    let regressions = regressions(&recorded, &measured);
    if regressions.is_empty() {
        return Ok(());
    }
    let toolchain = match baseline["rustc"].as_str() {
        Some(of) if Ok(of) != rustc().as_deref() => format!("\nThe baseline was made with {of}, this is {}.", rustc()?),
        _ => String::new(),
    };
    Err(format!(
        "{}.{toolchain}\nFind out where: `callgrind_annotate {}`, one file for each row in this order. If that is what the change \
         is worth, `cargo xtask gate --record` and commit {FILE}.",
        regressions.join("\n"),
        dumps().with_extension("1").display(),
    ))
}

fn record() -> Result<()> {
    let mut runs = Vec::new();
    for run in 1..=RUNS {
        runs.push(measure()?);
        eprintln!("  run {run}/{RUNS}: {:?}", runs[run - 1]);
    }
    let figures = settled(&runs)?;
    let rows: Map<String, Value> = ROWS.iter().zip(figures).map(|((name, _), figure)| ((*name).into(), figure.into())).collect();
    let baseline = json!({ "processor": env::consts::ARCH, "rustc": rustc()?, "instructions_a_call": rows });
    let text = serde_json::to_string_pretty(&baseline).map_err(|error| error.to_string())?;
    fs::write(file(), text + "\n").map_err(|error| format!("{FILE}: {error}"))?;
    eprintln!("written: {FILE}");
    Ok(())
}

/// The least of each row, if runs agree.
fn settled(runs: &[Figures]) -> Result<Figures> {
    let mut least = [u64::MAX; ROWS.len()];
    for (row, (name, _)) in ROWS.iter().enumerate() {
        let of_row = || runs.iter().map(|run| run[row]);
        least[row] = of_row().min().unwrap_or_default();
        let spread = percent_over(least[row], of_row().max().unwrap_or_default());
        if spread > SPREAD_PERCENT {
            return Err(format!(
                "{name}: {RUNS} runs differ by {spread:.1} %, so that they say nothing; nothing else may run meanwhile"
            ));
        }
    }
    Ok(least)
}

/// A sentence for each row that costs too much more.
fn regressions(recorded: &Figures, measured: &Figures) -> Vec<String> {
    let mut sentences = Vec::new();
    for (row, (name, what)) in ROWS.iter().enumerate() {
        let change = percent_over(recorded[row], measured[row]);
        if change > REGRESSION_PERCENT {
            let (was, is) = (recorded[row], measured[row]);
            sentences.push(format!(
                "{name} ({what}): {is} instructions a call, {change:+.1} % against the recorded {was}; {REGRESSION_PERCENT} % are allowed"
            ));
        }
    }
    sentences
}

fn percent_over(was: u64, is: u64) -> f64 {
    100.0 * (is as f64 - was as f64) / was.max(1) as f64
}

fn table(recorded: &Figures, measured: &Figures) -> String {
    let mut text = String::new();
    for (row, (name, what)) in ROWS.iter().enumerate() {
        let (was, is) = (recorded[row], measured[row]);
        let change = percent_over(was, is);
        let note = if change < -REGRESSION_PERCENT { "  record it: `cargo xtask gate --record`" } else { "" };
        text.push_str(&format!("  {name:<13} {is:>9} instructions a call, recorded {was:>9}, {change:+6.1} %  {what}{note}\n"));
    }
    text
}

/// The baseline, from the root of the repository.
const FILE: &str = "bench/instructions.json";

fn file() -> PathBuf {
    work::root().join(FILE)
}

fn baseline() -> Result<Value> {
    let text = work::read(&file())?;
    serde_json::from_str(&text).map_err(|error| format!("{FILE}: {error}"))
}

fn is_of_this_machine(baseline: &Value) -> bool {
    baseline["processor"] == env::consts::ARCH
}

fn figures_of(baseline: &Value) -> Result<Figures> {
    let mut figures = [0; ROWS.len()];
    for (figure, (name, _)) in figures.iter_mut().zip(ROWS) {
        *figure = baseline["instructions_a_call"][name]
            .as_u64()
            .filter(|figure| *figure > 0)
            .ok_or_else(|| format!("{FILE} has no figure for `{name}`: `cargo xtask gate --record`"))?;
    }
    Ok(figures)
}

fn rustc() -> Result<String> {
    Ok(work::output(work::command("rustc").arg("--version"))?.trim().into())
}

fn folder() -> PathBuf {
    work::target().join("gate")
}

/// The counter adds a number for each row.
fn dumps() -> PathBuf {
    folder().join("callgrind")
}

/// Runs the measured program and returns instructions of a call.
fn measure() -> Result<Figures> {
    let data = folder().join("data");
    // What was compiled by another version of the program stays unused, and grows.
    let _ = fs::remove_dir_all(folder());
    work::create_dir(&data)?;
    // The counter is slow, compiling is long: that is done under valgrind alone.
    work::output(valgrind(&["--tool=none"]).args(program(&data, 0)))?;
    let begins = "--zero-before=*measured_begins*";
    let ends = "--dump-before=*measured_ends*";
    let to = format!("--callgrind-out-file={}", dumps().display());
    work::output(valgrind(&["--tool=callgrind", begins, ends, &to]).args(program(&data, CALLS)))?;
    let mut figures = [0; ROWS.len()];
    for (row, figure) in figures.iter_mut().enumerate() {
        let dump = dumps().with_extension((row + 1).to_string());
        let instructions = total(&work::read(&dump)?).ok_or_else(|| format!("{} has no total", dump.display()))?;
        *figure = instructions / CALLS;
    }
    Ok(figures)
}

fn valgrind(flags: &[&str]) -> std::process::Command {
    let mut valgrind = work::command("valgrind");
    // The C library's instructions that fill or copy by themselves count as one for each byte: clearing a sandbox would be most of what
    // is counted.
    let loops = "glibc.cpu.x86_rep_stosb_threshold=0x40000000:glibc.cpu.x86_rep_movsb_threshold=0x40000000";
    valgrind.arg("--quiet").args(flags).env("GLIBC_TUNABLES", loops);
    valgrind
}

fn program(data: &Path, calls: u64) -> [String; 4] {
    let program = work::target().join("debug/examples/gate");
    let shown = |path: &Path| path.display().to_string();
    [shown(&program), shown(&guests::directory()), shown(data), calls.to_string()]
}

/// The line `totals: N` of what the counter writes.
fn total(dump: &str) -> Option<u64> {
    dump.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: Figures = [100_000, 200_000, 300_000, 5_000, 6_000, 40_000];

    #[test]
    fn more_than_ten_percent_is_a_regression_of_its_row() {
        assert!(regressions(&RECORDED, &RECORDED).is_empty());
        assert!(
            regressions(&RECORDED, &[110_000, 1, 330_000, 5_000, 6_600, 44_000]).is_empty(),
            "ten percent are allowed, less is welcome"
        );
        let found = regressions(&RECORDED, &[110_001, 200_000, 300_000, 5_000, 6_000, 60_000]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("hello-wasip2 (") && found[0].contains("110001 instructions a call, +10.0 %"), "{found:?}");
        assert!(found[1].starts_with("process (") && found[1].contains("+50.0 % against the recorded 40000"), "{found:?}");
    }

    #[test]
    fn a_baseline_is_made_of_runs_that_agree() {
        let [one, two, three] = [RECORDED, RECORDED.map(|figure| figure + figure / 100), RECORDED.map(|figure| figure + 10)];
        assert_eq!(settled(&[two, one, three]), Ok(RECORDED));
        let apart = settled(&[RECORDED, [100_000, 200_000, 310_000, 5_000, 6_000, 40_000], RECORDED]).unwrap_err();
        assert!(apart.starts_with("json-command: "), "{apart}");
    }

    #[test]
    fn what_is_written_is_read() {
        let rows: Map<String, Value> =
            ROWS.iter().zip(RECORDED).map(|((name, _), figure)| ((*name).into(), figure.into())).collect();
        assert_eq!(figures_of(&json!({ "instructions_a_call": rows })), Ok(RECORDED));
        let mut fewer = rows.clone();
        fewer.remove("process");
        assert!(figures_of(&json!({ "instructions_a_call": fewer })).unwrap_err().contains("`process`"));
        assert!(figures_of(&Value::Null).is_err());
        assert_eq!(total("version: 1\nsummary: 7\n\nfn=(1) a\n0 7\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("version: 1\n"), None);
    }

    #[test]
    fn the_baseline_in_the_repository_is_good() {
        figures_of(&baseline().unwrap()).unwrap();
    }
}
