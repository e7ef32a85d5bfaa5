//! Where things are, how children run, and how long work shows its progress.
//!
//! Children see the environment of the person who called, less what `cargo run` adds for this program; the target directory is made
//! absolute and passed on, so that everybody below agrees about it whatever the working directory.

use crate::Result;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use std::{env, fs};

/// The repository.
pub(crate) fn root() -> PathBuf {
    // `cargo run` sets it; a binary called by itself knows where it was compiled.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target` in the repository.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => env::current_dir().unwrap_or_else(|_| root()).join(dir),
        None => root().join("target"),
    }
}

/// What `rustc` calls this machine.
pub(crate) fn host_triple() -> Result<String> {
    let version = output(command("rustc").arg("-vV"))?;
    let triple = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("`rustc -vV` names no host")?;
    Ok(triple.to_string())
}

/// A program, run in the repository.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).env("CARGO_TARGET_DIR", target()).stdin(Stdio::null());
    // What cargo tells about this package would make build scripts of others run again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `cargo` with these arguments. In CI the lock file is law.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args);
    cargo
}

/// `--locked` in CI, nothing at a developer's desk, where a new dependency must be able to enter the lock file.
pub(crate) fn locked() -> Option<&'static str> {
    env::var_os("CI").map(|_| "--locked")
}

/// Runs a child with our terminal, which shows its own progress.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| could_not_start(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", shown(command))) }
}

/// Runs a child for what it prints on stdout; what it says on stderr is shown only when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| could_not_start(command, &error))?;
    if status.success() {
        return String::from_utf8(stdout).map_err(|_| format!("`{}` printed something that is not UTF-8", shown(command)));
    }
    eprint!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    Err(format!("`{}` failed ({status})", shown(command)))
}

pub(crate) fn could_not_start(command: &Command, error: &std::io::Error) -> String {
    format!("could not run `{}`: {error}", command.get_program().to_string_lossy())
}

/// Whether `program` can be run here.
pub(crate) fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    let text = text.join(" ");
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Copies where the bytes differ, by renaming, so that a program that has the old file open or starts just now sees one whole file.
pub(crate) fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let bytes = fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let fresh = to.with_extension(format!("{}.tmp", std::process::id()));
    let write = fs::copy(from, &fresh).and_then(|_| fs::rename(&fresh, to));
    write.map_err(|error| format!("{}: {error}", to.display()))?;
    Ok(true)
}

/// The steps of a long command: `[2/7] clippy …`, then how long it took.
pub(crate) struct Steps {
    total: usize,
    done: usize,
    start: Instant,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, done: 0, start: Instant::now() }
    }

    /// Does one step and says so before and after.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.done += 1;
        let (done, total) = (self.done, self.total);
        eprintln!("[{done}/{total}] {name} …");
        let start = Instant::now();
        let result = work();
        let word = if result.is_ok() { "done" } else { "FAILED" };
        eprintln!("[{done}/{total}] {name}: {word} in {:.1} s", start.elapsed().as_secs_f64());
        result.map_err(|error| format!("{name}: {error}"))
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
