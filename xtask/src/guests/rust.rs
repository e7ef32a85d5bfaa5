//! Guests in Rust: the packages of the workspace `guests/`.

use super::{Guest, Language, build_directory, sources};
use crate::Result;
use crate::work;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) const LANGUAGE: Language = Language {
    name: "Rust",
    // It builds this program.
    needs: &[],
    install: "install it with rustup",
    list,
    prepare: add_targets,
    build,
    format,
    lint,
};

/// The target of a guest whose package names none.
const TARGET: &str = "wasm32-wasip2";

fn list() -> Result<Vec<Guest>> {
    let metadata = work::output(work::cargo(["metadata", "--no-deps", "--format-version=1"]).current_dir(sources()))?;
    programs(&serde_json::from_str(&metadata).map_err(|error| format!("`cargo metadata`: {error}"))?, &work::root())
}

fn programs(metadata: &Value, root: &Path) -> Result<Vec<Guest>> {
    let packages = metadata["packages"].as_array().ok_or("`cargo metadata` lists no packages")?;
    let mut guests = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default().to_string();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let source = manifest.strip_prefix(root).unwrap_or(manifest).display().to_string();
        let target = package["metadata"]["fornax"]["target"].as_str().unwrap_or(TARGET).to_string();
        let mut files = package["targets"].as_array().into_iter().flatten().filter_map(file);
        let Some(file) = files.next() else { continue };
        if files.next().is_some() {
            return Err(format!("guest `{name}` has several programs; one package is one guest"));
        }
        let built = Path::new(&target).join("release").join(file);
        guests.push(Guest { name, source, target, built });
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guests)
}

/// The file cargo makes of a target that is a program: libraries get underscores for dashes, programs do not.
fn file(target: &Value) -> Option<String> {
    let name = target["name"].as_str()?;
    let kinds = target["kind"].as_array()?;
    if kinds.iter().any(|kind| kind == "bin") {
        Some(format!("{name}.wasm"))
    } else {
        kinds.iter().any(|kind| kind == "cdylib").then(|| format!("{}.wasm", name.replace('-', "_")))
    }
}

fn targets(guests: &[Guest]) -> BTreeSet<&str> {
    guests.iter().map(|guest| guest.target.as_str()).collect()
}

/// Adds what the toolchain lacks. Looks before it asks `rustup`, which would go to the network.
fn add_targets(guests: &[Guest]) -> Result<()> {
    let sysroot = work::output(work::command("rustc").args(["--print", "sysroot"]))?;
    let libraries = PathBuf::from(sysroot.trim()).join("lib/rustlib");
    let missing: Vec<&str> = targets(guests).into_iter().filter(|target| !libraries.join(target).join("lib").is_dir()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    work::run(work::command("rustup").args(["target", "add"]).args(&missing)).map_err(|error| {
        format!("{error}\nguests need the Rust targets {}: install them with rustup or your distribution", missing.join(", "))
    })
}

fn build(guests: &[Guest]) -> Result<()> {
    for_each_target(guests, &["build"], build_directory(), &[])
}

fn format() -> Result<()> {
    work::run(work::cargo(["fmt", "--all", "--check"]).current_dir(sources()))
}

/// In a directory of its own: clippy's artifacts and those of the build would push each other out.
fn lint(guests: &[Guest]) -> Result<()> {
    for_each_target(guests, &["clippy"], work::target().join("guests-clippy"), &["--", "-D", "warnings"])
}

/// Runs a command of cargo once for each target, with the packages that are for it and, by them, the libraries they use.
fn for_each_target(guests: &[Guest], command: &[&str], directory: PathBuf, tail: &[&str]) -> Result<()> {
    for target in targets(guests) {
        let mut cargo = work::cargo(command.iter().copied());
        cargo.args(["--release", "--locked", "--target", target]).current_dir(sources()).env("CARGO_TARGET_DIR", &directory);
        for guest in guests.iter().filter(|guest| guest.target == target) {
            cargo.args(["-p", &guest.name]);
        }
        work::run(cargo.args(tail))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn programs_and_their_targets() {
        let metadata = json!({ "packages": [
            { "name": "run-it", "metadata": { "fornax": { "target": "wasm32-wasip1" } }, "manifest_path": "/r/guests/run-it/Cargo.toml",
              "targets": [{ "name": "run-it", "kind": ["bin"] }, { "name": "build-script-build", "kind": ["custom-build"] }] },
            { "name": "hello-std", "metadata": null, "manifest_path": "/r/guests/hello-std/Cargo.toml",
              "targets": [{ "name": "hello_std", "kind": ["cdylib"] }] },
            { "name": "common", "metadata": null, "targets": [{ "name": "common", "kind": ["lib"] }] },
        ]});
        let guest = |name: &str, target: &str, built: &str| Guest {
            name: name.into(),
            source: format!("guests/{name}/Cargo.toml"),
            target: target.into(),
            built: built.into(),
        };
        assert_eq!(
            programs(&metadata, Path::new("/r")).unwrap(),
            [
                guest("hello-std", TARGET, "wasm32-wasip2/release/hello_std.wasm"),
                guest("run-it", "wasm32-wasip1", "wasm32-wasip1/release/run-it.wasm")
            ]
        );
    }

    #[test]
    fn one_package_is_one_guest() {
        let target = json!({ "name": "a", "kind": ["bin"] });
        let metadata = json!({ "packages": [{ "name": "two", "targets": [target, target] }] });
        assert!(programs(&metadata, Path::new("/r")).unwrap_err().contains("`two`"));
    }
}
