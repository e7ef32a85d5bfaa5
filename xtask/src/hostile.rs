//! The full form of what `cargo xtask test` samples: every attack again and again, every call that fails, a million alternations, fuzzing.
//!
//! Each row runs one test program with variables that ask for all of it, also behind a row that failed, and what it reports becomes part of
//! one file. The tests bound themselves in count; a row that takes longer than anything may is ended and has failed.

use crate::work::{self, Steps};
use crate::{Result, guests};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Longer than any of them takes on a machine of two cores that does something else meanwhile.
const ROW_MAX: Duration = Duration::from_secs(60 * 60);

/// Between two looks whether a row is over.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long each fuzz target is tried.
const FUZZ_S: u32 = 60;

/// What a variable stands for that a test writes its figures to.
const REPORT: &str = "{report}";

/// What a variable stands for that shall be another number each time.
const NOW: &str = "{now}";

/// A test program in its full form.
struct Row {
    name: &'static str,
    /// What asks for it; [`REPORT`] and [`NOW`] are filled in.
    environment: &'static [(&'static str, &'static str)],
    /// What `cargo test --release --workspace` runs.
    tests: &'static [&'static str],
}

/// One line for each.
const ROWS: &[Row] = &[
    Row { name: "matrix", environment: &[("FORNAX_HOSTILE", REPORT)], tests: &["--test", "hostile"] },
    Row {
        name: "canary",
        environment: &[("FORNAX_CANARY_ALTERNATIONS", "170000"), ("FORNAX_NOTES", REPORT)],
        tests: &["--test", "canary"],
    },
    Row {
        name: "faults",
        environment: &[("FORNAX_FAULTS", "all"), ("FORNAX_FAULTS_REPORT", REPORT)],
        tests: &["--test", "faults"],
    },
    Row {
        name: "overload",
        environment: &[("FORNAX_OVERLOAD_SECONDS", "10"), ("FORNAX_NOTES", REPORT)],
        tests: &["--test", "overload"],
    },
    Row {
        name: "slow-clients",
        environment: &[("FORNAX_SLOW_CLIENTS", "4000"), ("FORNAX_NOTES", REPORT)],
        tests: &["--test", "slow_clients"],
    },
    Row {
        name: "reloads",
        environment: &[("FORNAX_RELOADS", "1000"), ("FORNAX_NOTES", REPORT)],
        tests: &["--test", "serve", "reloads"],
    },
    Row { name: "seeds", environment: &[("FORNAX_SEED", NOW)], tests: &["--lib", "fuzzing"] },
];

/// Runs every row and every fuzz target, and says where the report is.
pub(crate) fn run() -> Result<()> {
    let folder = work::target().join("hostile");
    work::create_dir(&folder)?;
    let (targets, fuzzed) = (targets()?, fuzz_installed());
    let mut steps = Steps::new(2 + ROWS.len() + if fuzzed { targets.len() } else { 0 });
    guests::build(&mut steps)?;
    let mut report = Report { text: String::from("# Hostile tests, in full\n\n"), failed: Vec::new() };
    for row in ROWS {
        let own = folder.join(format!("{}.md", row.name));
        // An older run's would pass for this one's.
        let _ = fs::remove_file(&own);
        report.step(&mut steps, row.name, &folder, &own, &mut row.command(&own));
    }
    for target in targets.iter().filter(|_| fuzzed) {
        let own = folder.join(format!("fuzz-{target}.md"));
        report.step(&mut steps, &format!("fuzz {target}"), &folder, &own, &mut fuzz(target));
    }
    if !fuzzed {
        report.text.push_str("Fuzz targets were NOT tried: `cargo fuzz` or nightly is not installed.\n");
    }
    let file = folder.join("report.md");
    fs::write(&file, &report.text).map_err(|error| format!("{}: {error}", file.display()))?;
    eprintln!("{:.0} s; the figures are in {}", steps.seconds(), file.display());
    match &report.failed[..] {
        [] => Ok(()),
        failed => Err(format!("{} failed: {}", failed.len(), failed.join(", "))),
    }
}

impl Row {
    fn command(&self, report: &Path) -> Command {
        // What they measure is what is shipped, or nearly: without optimisation the tests' own clients take the cores they share.
        let mut cargo = work::cargo(["test", "--release", "--workspace"]);
        // Their threads would disturb each other's measurements.
        cargo.args(work::locked()).args(self.tests).args(["--", "--nocapture", "--test-threads=1"]);
        for (name, value) in self.environment {
            match *value {
                REPORT => cargo.env(name, report),
                NOW => cargo.env(name, now().to_string()),
                value => cargo.env(name, value),
            };
        }
        cargo
    }
}

/// The report as it grows.
struct Report {
    text: String,
    failed: Vec<String>,
}

impl Report {
    /// Runs `command` with a log of its own, and adds its time, what it wrote to `own`, and the last lines of a failure.
    fn step(&mut self, steps: &mut Steps, name: &str, folder: &Path, own: &Path, command: &mut Command) {
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        let began = Instant::now();
        let result = steps.step(name, || bounded(command, &log, ROW_MAX));
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        let printed = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let _ = write!(self.text, "## {name}: {word}, {:.0} s\n\n", began.elapsed().as_secs_f64());
        if let Ok(figures) = fs::read_to_string(own) {
            let _ = write!(self.text, "{}\n\n", figures.trim_end());
        }
        let shown = match &result {
            Ok(()) => printed.lines().filter(|line| is_figure(line)).map(str::to_owned).collect(),
            Err(error) => {
                self.failed.push(name.to_owned());
                eprintln!("{error}; the whole of it is in {}", log.display());
                last(&printed, 40)
            }
        };
        if !shown.is_empty() {
            let _ = write!(self.text, "```text\n{}\n```\n\n", shown.join("\n"));
        }
    }
}

/// What is worth a line of what tests and libFuzzer print.
fn is_figure(line: &str) -> bool {
    line.starts_with("test result: ") && !line.contains(" 0 passed") || line.starts_with("Done ") || line.starts_with("NOTE: ")
}

fn last(text: &str, lines: usize) -> Vec<String> {
    let all: Vec<_> = text.lines().map(str::to_owned).collect();
    all[all.len().saturating_sub(lines)..].to_vec()
}

/// Runs a child that prints into `log`, and ends it, and what it started, when it takes longer than `max`.
fn bounded(command: &mut Command, log: &Path, max: Duration) -> Result<()> {
    let open = || fs::File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
    let (stdout, stderr) = open().map_err(|error| format!("{}: {error}", log.display()))?;
    // A group of its own, by which the test program and its servers are reached.
    command.process_group(0).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(|error| work::could_not_start(command, &error))?;
    let until = Instant::now() + max;
    loop {
        match child.try_wait().map_err(|error| work::could_not_start(command, &error))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if Instant::now() > until => {
                // All fail only if it has just ended.
                let _ = work::command("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not over after {} s", max.as_secs()));
            }
            None => thread::sleep(LOOK_EVERY),
        }
    }
}

/// The names of `fuzz/fuzz_targets/`.
fn targets() -> Result<Vec<String>> {
    let folder = work::root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut names: Vec<_> = entries.filter_map(|entry| stem(entry.ok()?.path())).collect();
    names.sort();
    Ok(names)
}

/// What is found goes to the target directory: what is kept in the repository, somebody chooses.
fn fuzz(target: &str) -> Command {
    let found = work::target().join("hostile/corpus").join(target);
    let mut cargo = work::command("cargo");
    // What called this program chose another toolchain.
    cargo.env_remove("RUSTUP_TOOLCHAIN").env("CARGO_TARGET_DIR", work::target().join("fuzz"));
    cargo.args(["+nightly", "fuzz", "run", target]).arg(&found).arg(format!("fuzz/corpus/{target}"));
    cargo.args(["--", &format!("-max_total_time={FUZZ_S}"), "-print_final_stats=1"]);
    // libFuzzer writes into the first folder it is given, which must be there.
    let _ = fs::create_dir_all(&found);
    cargo
}

fn fuzz_installed() -> bool {
    let mut nightly = work::command("cargo");
    nightly.env_remove("RUSTUP_TOOLCHAIN").args(["+nightly", "--version"]);
    let installed = work::installed("cargo-fuzz") && nightly.output().is_ok_and(|output| output.status.success());
    if !installed {
        eprintln!(
            "NOTE: `cargo fuzz` or nightly is NOT installed: fuzz targets go untried; `cargo install --locked cargo-fuzz`, \
             `rustup toolchain install nightly`"
        );
    }
    installed
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_asks_for_all_of_its_test() {
        for row in ROWS {
            let command = row.command(Path::new("/report"));
            let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
            assert!(args.join(" ").contains(&row.tests.join(" ")), "{args:?}");
            for (name, _) in row.environment {
                let value = command.get_envs().find(|(key, _)| key == name).and_then(|(_, value)| value).expect("a value");
                assert!(!value.is_empty() && !value.to_string_lossy().contains('{'), "{name}={}", value.display());
            }
        }
        assert!(targets().unwrap().contains(&"head".to_string()));
    }

    #[test]
    fn what_fails_or_takes_too_long_has_failed() {
        let log = std::env::temp_dir().join(format!("xtask-hostile-{}", std::process::id()));
        let mut failing = work::command("sh");
        assert!(bounded(failing.args(["-c", "echo said; exit 3"]), &log, ROW_MAX).unwrap_err().contains('3'));
        assert_eq!(fs::read_to_string(&log).unwrap(), "said\n");
        let mut endless = work::command("sh");
        let late = Duration::from_secs(1);
        assert!(bounded(endless.args(["-c", "sleep 600 & echo $!; wait"]), &log, late).unwrap_err().contains("not over"));
        let started = fs::read_to_string(&log).unwrap();
        let goes_on = || {
            let status = fs::read_to_string(format!("/proc/{}/status", started.trim())).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        };
        let until = Instant::now() + Duration::from_secs(10);
        while goes_on() && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
        assert!(!goes_on(), "{started} goes on");
        assert!(bounded(&mut work::command("true"), &log, ROW_MAX).is_ok());
        fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_report_has_the_figures_and_says_what_failed() {
        let folder = std::env::temp_dir().join(format!("xtask-report-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let own = folder.join("good.md");
        fs::write(&own, "| figures |\n").unwrap();
        let mut report = Report { text: String::new(), failed: Vec::new() };
        let mut steps = Steps::new(2);
        report.step(&mut steps, "good", &folder, &own, work::command("sh").args(["-c", "echo 'test result: ok. 3 passed'"]));
        report.step(&mut steps, "bad", &folder, Path::new("/none"), work::command("sh").args(["-c", "echo why; false"]));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(report.failed, ["bad"]);
        for part in ["## good: passed", "| figures |", "test result: ok. 3 passed", "## bad: FAILED", "why"] {
            assert!(report.text.contains(part), "{part}: {}", report.text);
        }
    }
}
