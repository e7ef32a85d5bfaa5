//! `cargo xtask dist`: the program as users get it.

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result};
use serde_json::Value;

pub(crate) const COMMAND: Command = Command {
    name: "dist",
    summary: "build the optimised program with its licences into <target>/dist",
    help: "
Usage: cargo xtask dist

Builds `fornax` with the profile `dist` (fat LTO, one codegen unit; takes minutes) and puts it with the licences, the README and the
change log into <target>/dist/fornax-<version>-<target triple>/ and, where `tar` is installed, into a .tar.gz of that name.",
    run,
};

/// What goes along with the program.
const TEXTS: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"];

fn run(args: &[String]) -> Result<()> {
    Args::parse_whole(args, &[], &[])?;
    let mut steps = Steps::new(2);
    steps.step("build fornax, profile dist", || {
        work::run(work::cargo(["build", "--profile", "dist", "-p", "fornax", "--bin", "fornax"]).args(work::locked()))
    })?;
    let name = format!("fornax-{}-{}", version()?, work::host_triple()?);
    steps.step("package", || {
        let directory = work::target().join("dist").join(&name);
        package(&directory, &name)
    })
}

fn package(directory: &std::path::Path, name: &str) -> Result<()> {
    work::create_dir(directory)?;
    work::copy_if_changed(&work::target().join("dist/fornax"), &directory.join("fornax"))?;
    for text in TEXTS {
        work::copy_if_changed(&work::root().join(text), &directory.join(text))?;
    }
    eprintln!("{}", directory.display());
    if work::installed("tar") {
        let archive = format!("{name}.tar.gz");
        let parent = directory.parent().unwrap_or(directory);
        work::run(work::command("tar").current_dir(parent).args(["czf", &archive, name]))?;
        eprintln!("{}", parent.join(archive).display());
    }
    Ok(())
}

fn version() -> Result<String> {
    let metadata = work::output(&mut work::cargo(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| format!("`cargo metadata`: {error}"))?;
    let fornax = metadata["packages"].as_array().and_then(|all| all.iter().find(|package| package["name"] == "fornax"));
    Ok(fornax.and_then(|package| package["version"].as_str()).ok_or("no package `fornax`")?.to_string())
}
