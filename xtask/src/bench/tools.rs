//! The programs a run needs: ours are built, those of others installed or found.

use crate::work::{self, command};
use crate::{Result, demo};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where they are.
pub(super) struct Tools {
    pub(super) fornax: PathBuf,
    pub(super) native: PathBuf,
    pub(super) load: PathBuf,
    profile: String,
    wasmtime: OnceLock<Result<PathBuf>>,
}

impl Tools {
    /// Builds Fornax, the native server and the load generator, all with the same profile.
    pub(super) fn build(profile: &str) -> Result<Self> {
        work::run(work::cargo(["build", "--profile", profile, "-p", "bench", "--bins"]).args(work::locked()))?;
        let fornax = demo::build(profile)?;
        let beside = |name: &str| fornax.with_file_name(name);
        Ok(Self {
            native: beside("bench-native"),
            load: beside("bench-load"),
            fornax,
            profile: profile.to_string(),
            wasmtime: OnceLock::new(),
        })
    }

    /// An example of `fornax` or `guest`, built when it is asked for: few scenarios need one.
    pub(super) fn example(&self, name: &str) -> Result<PathBuf> {
        // Both packages, so that their dependencies have the features they have in Fornax, and are not compiled once more.
        let build = ["build", "--profile", &self.profile, "-p", "fornax", "-p", "guest", "--example", name];
        work::run(work::cargo(build).args(work::locked()))?;
        Ok(self.fornax.with_file_name("examples").join(name))
    }

    /// `wasmtime` of the generation Fornax is built on, installed when it is not there.
    pub(super) fn wasmtime(&self) -> Result<PathBuf> {
        self.wasmtime.get_or_init(wasmtime).clone()
    }

    /// The hello in Go, built where Go is installed.
    pub(super) fn go(&self) -> Result<Option<PathBuf>> {
        if !work::installed("go") {
            return Ok(None);
        }
        let program = work::target().join("tools/bench-go");
        let source = work::root().join("bench/peers/hello.go");
        work::run(command("go").args(["build", "-o"]).arg(&program).arg(source))?;
        Ok(Some(program))
    }
}

fn wasmtime() -> Result<PathBuf> {
    let tools = work::target().join("tools");
    let program = tools.join("bin/wasmtime");
    if program.is_file() && work::output(command(&program).arg("--version"))?.starts_with("wasmtime 48.") {
        return Ok(program);
    }
    eprintln!("installing wasmtime-cli 48 into {}: about ten minutes, once", tools.display());
    let build = work::target().join("tools-build");
    let mut install = work::cargo(["install", "--locked", "--version", "^48", "--force", "wasmtime-cli", "--root"]);
    work::run(install.arg(&tools).env("CARGO_TARGET_DIR", &build))?;
    // Gigabytes that nothing needs again.
    std::fs::remove_dir_all(&build).map_err(|error| format!("{}: {error}", build.display()))?;
    Ok(program)
}
