//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md as checks, so that taste and direction do not depend on who reviews.
//!
//! A check looks at the whole repository in memory and reports what is wrong, where, and what to do instead; it never writes. Files are
//! those git tracks or would track. A check is one function and one row in [`CHECKS`].

mod deps;
mod guides;
mod rust;
mod source;
mod text;

use crate::args::Args;
use crate::work;
use crate::{Command, Result};
use serde_json::Value;
use std::fmt;

pub(crate) const COMMAND: Command = Command {
    name: "tidy",
    summary: "check the invariants of the repository",
    help: "
Usage: cargo xtask tidy

Checks what compilers do not: who may depend on whom, where wasmtime, drivers, the environment, `unsafe` and features may be named,
that one TLS provider is linked, that files stay short, lint exceptions have reasons, guides name paths that exist, and every guest is
run by a test. Prints every violation as file:line with what to do instead.",
    run,
};

type Check = fn(&Repo, &mut Report);

/// All checks, by the name shown beside a violation.
const CHECKS: &[(&str, Check)] = &[
    ("dependencies", deps::directions),
    ("drivers-optional", deps::drivers),
    ("folder-names", deps::folder_names),
    ("one-tls", deps::one_tls),
    ("lock-files", deps::lock_files),
    ("wasmtime", source::wasmtime),
    ("interfaces-in-guest", source::interfaces_in_guest),
    ("drivers", source::drivers),
    ("environment", source::environment),
    ("features", source::features),
    ("unsafe", source::unsafe_code),
    ("unfinished", source::unfinished),
    ("lint-reasons", source::lint_reasons),
    ("file-length", source::file_length),
    ("paths-of-machines", text::machine_paths),
    ("links", guides::links),
    ("guide-paths", guides::paths),
    ("guests-tested", text::guests_tested),
    ("golden-tables", text::golden_tables),
];

fn run(args: &[String]) -> Result<()> {
    Args::parse_whole(args, &[], &[])?;
    let repo = Repo::load()?;
    let violations = check(&repo);
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => {
            eprintln!("tidy: {} files, {} checks, nothing to say", repo.files.len(), CHECKS.len());
            Ok(())
        }
        count => Err(format!("tidy: {count} violation{}", if count == 1 { "" } else { "s" })),
    }
}

/// For `cargo xtask test`.
pub(crate) fn all() -> Result<()> {
    run(&[])
}

fn check(repo: &Repo) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, check) in CHECKS {
        let mut report = Report::default();
        check(repo, &mut report);
        violations.extend(report.found.into_iter().map(|(path, line, message)| Violation { check: name, path, line, message }));
    }
    violations.sort();
    violations
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    line: usize,
    check: &'static str,
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, check, message } = self;
        write!(f, "{path}:{line}: {message} [{check}]")
    }
}

/// What one check found.
#[derive(Debug, Default)]
struct Report {
    found: Vec<(String, usize, String)>,
}

impl Report {
    /// `line` counts from 1. The message says what is wrong and what to do instead.
    fn add(&mut self, path: &str, line: usize, message: impl Into<String>) {
        self.found.push((path.to_string(), line, message.into()));
    }

    #[cfg(test)]
    fn lines(&self) -> Vec<String> {
        self.found.iter().map(|(path, line, _)| format!("{path}:{line}")).collect()
    }
}

/// A text file of the repository.
#[derive(Debug)]
struct File {
    /// From the root, with slashes.
    path: String,
    text: String,
    /// For Rust: `text` without comments, contents of literals and test modules, same lines and columns.
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { rust::without_tests(&rust::code(text)) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Below a crate's `tests` or `examples`, or a file of unit tests: only compiled for tests.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.starts_with("tests") || self.path.split('/').any(|folder| matches!(folder, "tests" | "examples" | "benches"))
    }

    /// Below one of these folders, or one of these files.
    fn under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| match place.strip_suffix('/') {
            Some(folder) => self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
            None => self.path == *place,
        })
    }

    /// `x/y` of `interfaces/<name>/x/y`.
    fn in_interface(&self) -> Option<&str> {
        self.path.strip_prefix("interfaces/")?.split_once('/').map(|(_, rest)| rest)
    }
}

/// What checks look at.
#[derive(Debug, Default)]
struct Repo {
    files: Vec<File>,
    /// Every tracked path, also of files that are not text.
    paths: Vec<String>,
    /// `cargo metadata --no-deps`.
    metadata: Value,
    /// The programs of `guests/`: names, and the files they come from.
    guests: Vec<(String, String)>,
}

impl Repo {
    fn load() -> Result<Self> {
        let listed =
            work::output(work::command("git").args(["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]))
                .map_err(|error| format!("{error}; tidy asks git which files belong to the repository"))?;
        let root = work::root();
        let paths: Vec<String> = listed.lines().filter(|path| root.join(path).is_file()).map(str::to_string).collect();
        let texts = paths.iter().filter_map(|path| Some(File::new(path, &std::fs::read_to_string(root.join(path)).ok()?)));
        let metadata = work::output(&mut work::cargo(["metadata", "--no-deps", "--format-version=1"]))?;
        Ok(Self {
            files: texts.collect(),
            metadata: serde_json::from_str(&metadata).map_err(|error| format!("`cargo metadata`: {error}"))?,
            guests: crate::guests::list()?.into_iter().map(|guest| (guest.name, guest.source)).collect(),
            paths,
        })
    }

    /// Rust that is compiled for the host.
    fn host_rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust() && !file.under(&["guests/", "sdk/"]))
    }

    /// The file with this path.
    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file or folder of this name is there.
    fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.paths.iter().any(|known| known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files.iter().map(|(path, text)| File::new(path, text)).collect(),
            paths: files.iter().map(|(path, _)| path.to_string()).collect(),
            ..Self::default()
        }
    }
}

/// The lines on which `find` says yes, counted from 1.
fn lines_where<'a>(text: &'a str, find: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = (usize, &'a str)> + 'a {
    text.lines().enumerate().filter(move |(_, line)| find(line)).map(|(index, line)| (index + 1, line))
}

/// Runs one check on files in memory and returns `path:line` of what it found.
#[cfg(test)]
fn found(check: Check, files: &[(&str, &str)]) -> Vec<String> {
    let mut report = Report::default();
    check(&Repo::of(files), &mut report);
    report.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let file = File::new("interfaces/keyvalue/src/backends/redb.rs", "");
        assert!(file.under(&["interfaces/"]) && !file.under(&["interface/"]));
        assert!(file.under(&["interfaces/keyvalue/src/backends/redb.rs"]) && !file.under(&["interfaces/keyvalue"]));
        assert_eq!(file.in_interface(), Some("src/backends/redb.rs"));
        assert!(File::new("crates/base/tests/gate.rs", "").is_test());
        assert!(File::new("crates/base/src/tests_support.rs", "").is_test());
        assert!(!file.is_test());
    }

    #[test]
    fn a_violation_says_where_and_which_check() {
        let violation = Violation { check: "unsafe", path: "a.rs".into(), line: 3, message: "no".into() };
        assert_eq!(violation.to_string(), "a.rs:3: no [unsafe]");
    }

    #[test]
    fn folders_exist_by_their_files() {
        let repo = Repo::of(&[("crates/base/src/lib.rs", "")]);
        assert!(repo.exists("crates/base/") && repo.exists("crates/base/src/lib.rs"));
        assert!(!repo.exists("crates/bas") && !repo.exists("crates/front/"));
    }
}
