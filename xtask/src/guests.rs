//! `cargo xtask guests`: builds the WebAssembly programs of `guests/` from source, for tests, the demo and benchmarks.

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

pub(crate) const COMMAND: Command = Command {
    name: "guests",
    summary: "build every guest program of guests/ from source",
    help: "
Usage: cargo xtask guests

Builds every program of the workspace guests/ in release mode, adds missing Rust targets with `rustup target add`, and puts the
results into <target>/guests/<package>.wasm. A package is built for wasm32-wasip2 unless its Cargo.toml says otherwise:

    [package.metadata.fornax]
    target = \"wasm32-wasip1\"

What has not changed is not built again.",
    run,
};

/// The target of a guest whose package names none.
const TARGET: &str = "wasm32-wasip2";

fn run(args: &[String]) -> Result<()> {
    Args::parse_whole(args, &[], &[])?;
    build(&mut Steps::new(2))
}

/// A program of `guests/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) name: String,
    target: String,
    /// The file cargo makes: libraries get underscores for dashes, programs do not.
    file: String,
}

/// Every program of the workspace; libraries that only support them are none.
pub(crate) fn list() -> Result<Vec<Guest>> {
    let metadata =
        work::output(work::cargo(["metadata", "--no-deps", "--format-version=1"]).current_dir(work::root().join("guests")))?;
    programs(&serde_json::from_str(&metadata).map_err(|error| format!("`cargo metadata`: {error}"))?)
}

fn programs(metadata: &Value) -> Result<Vec<Guest>> {
    let packages = metadata["packages"].as_array().ok_or("`cargo metadata` lists no packages")?;
    let mut guests = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default().to_string();
        let target = package["metadata"]["fornax"]["target"].as_str().unwrap_or(TARGET).to_string();
        let files: Vec<String> = package["targets"].as_array().into_iter().flatten().filter_map(file).collect();
        match files.len() {
            0 => {}
            1 => guests.push(Guest { name, target, file: files.into_iter().next().unwrap_or_default() }),
            _ => return Err(format!("guest `{name}` has several programs; one package is one guest")),
        }
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guests)
}

/// The file of a cargo target that is a program.
fn file(target: &Value) -> Option<String> {
    let name = target["name"].as_str()?;
    let kinds = target["kind"].as_array()?;
    if kinds.iter().any(|kind| kind == "bin") {
        Some(format!("{name}.wasm"))
    } else {
        kinds.iter().any(|kind| kind == "cdylib").then(|| format!("{}.wasm", name.replace('-', "_")))
    }
}

/// Where built guests lie.
pub(crate) fn directory() -> PathBuf {
    work::target().join("guests")
}

/// Builds all of them: two steps.
pub(crate) fn build(steps: &mut Steps) -> Result<()> {
    let guests = list()?;
    let targets: BTreeSet<&str> = guests.iter().map(|guest| guest.target.as_str()).collect();
    steps.step(&format!("Rust targets: {}", targets.iter().copied().collect::<Vec<_>>().join(", ")), || add_targets(&targets))?;
    steps.step(&format!("guests: {} programs", guests.len()), || {
        for target in &targets {
            build_for(target, guests.iter().filter(|guest| guest.target == *target))?;
        }
        collect(&guests)
    })
}

/// Adds what the toolchain lacks. Looks before it asks `rustup`, which would go to the network.
fn add_targets(targets: &BTreeSet<&str>) -> Result<()> {
    let sysroot = work::output(work::command("rustc").args(["--print", "sysroot"]))?;
    let libraries = PathBuf::from(sysroot.trim()).join("lib/rustlib");
    let missing: Vec<&str> = targets.iter().copied().filter(|target| !libraries.join(target).join("lib").is_dir()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    work::run(work::command("rustup").args(["target", "add"]).args(&missing)).map_err(|error| {
        format!("{error}\nguests need the Rust targets {}: install them with rustup or your distribution", missing.join(", "))
    })
}

fn build_for<'a>(target: &str, guests: impl Iterator<Item = &'a Guest>) -> Result<()> {
    let mut cargo = work::cargo(["build", "--release", "--locked", "--target", target]);
    cargo.current_dir(work::root().join("guests")).env("CARGO_TARGET_DIR", build_directory());
    for guest in guests {
        cargo.args(["-p", &guest.name]);
    }
    work::run(&mut cargo)
}

fn build_directory() -> PathBuf {
    work::target().join("guests-build")
}

/// Copies the programs under the names of their packages and removes those of packages that are no more, so that no test passes with one.
fn collect(guests: &[Guest]) -> Result<()> {
    let directory = directory();
    work::create_dir(&directory)?;
    let mut wanted = BTreeMap::new();
    for guest in guests {
        let built = build_directory().join(&guest.target).join("release").join(&guest.file);
        wanted.insert(format!("{}.wasm", guest.name), built);
    }
    let present = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for entry in present.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wasm") && !wanted.contains_key(&name) {
            fs::remove_file(entry.path()).map_err(|error| format!("{}: {error}", entry.path().display()))?;
        }
    }
    let mut changed = 0;
    for (name, built) in &wanted {
        changed += usize::from(work::copy_if_changed(built, &directory.join(name))?);
    }
    eprintln!("{} guests in {}, {changed} of them new", wanted.len(), directory.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn programs_and_their_targets() {
        let metadata = json!({ "packages": [
            { "name": "hello-std", "metadata": null, "targets": [{ "name": "hello_std", "kind": ["cdylib"] }] },
            { "name": "run-it", "metadata": { "fornax": { "target": "wasm32-wasip1" } }, "targets": [{ "name": "run-it", "kind": ["bin"] }] },
            { "name": "common", "metadata": null, "targets": [{ "name": "common", "kind": ["lib"] }] },
        ]});
        let guest = |name: &str, target: &str, file: &str| Guest { name: name.into(), target: target.into(), file: file.into() };
        assert_eq!(
            programs(&metadata).unwrap(),
            [guest("hello-std", TARGET, "hello_std.wasm"), guest("run-it", "wasm32-wasip1", "run-it.wasm")]
        );
    }

    #[test]
    fn one_package_is_one_guest() {
        let target = json!({ "name": "a", "kind": ["bin"] });
        let metadata = json!({ "packages": [{ "name": "two", "targets": [target, target] }] });
        assert!(programs(&metadata).unwrap_err().contains("`two`"));
    }
}
