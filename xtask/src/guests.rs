//! `cargo xtask guests`: builds the WebAssembly programs of `guests/` from source, for tests, the demo and benchmarks.
//!
//! Whoever works on the host should not need every language a guest may be written in, and CI must not pass because one was missing. So a
//! language that is not installed is named and its guests are left out, but with `CI` set it is an error. Guests are listed from their
//! sources whether they can be built here or not: what tidy asks of a guest does not depend on the machine.
//!
//! A language is one file and one row in [`LANGUAGES`].

mod c;
mod go;
mod rust;

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

pub(crate) const COMMAND: Command = Command {
    name: "guests",
    summary: "build every guest program of guests/ from source",
    help: "
Usage: cargo xtask guests

Builds every program of guests/ and puts the results into <target>/guests/<guest>.wasm:

  Rust   each package of the workspace, for wasm32-wasip2 unless its Cargo.toml says otherwise; adds missing targets with `rustup`:
             [package.metadata.fornax]
             target = \"wasm32-wasip1\"
  Go     each guests/go/<guest>/main.go, for wasip1
  C      each guests/c/<guest>.c, for wasm32-wasi

A language that is not installed is named and its guests are left out; with CI set that is an error. What has not changed is not built
again.",
    run,
};

fn run(args: &[String]) -> Result<()> {
    Args::parse_whole(args, &[], &[])?;
    build(&mut Steps::new(2))
}

/// A program of `guests/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) name: String,
    /// The file that makes it a guest, from the root of the repository, with slashes.
    pub(crate) source: String,
    /// What the compiler is told to build it for.
    target: String,
    /// What the compiler makes, below [`build_directory`].
    built: PathBuf,
}

/// What guests are written in.
struct Language {
    name: &'static str,
    /// Programs on the `PATH`, and files, that have to be there.
    needs: &'static [&'static str],
    /// How to get them.
    install: &'static str,
    /// Every guest in this language, sorted by name. Runs also where the language is not installed.
    list: fn() -> Result<Vec<Guest>>,
    /// Gets what a clean machine lacks. Runs before `build`.
    prepare: fn(&[Guest]) -> Result<()>,
    /// Builds what has changed of these.
    build: fn(&[Guest]) -> Result<()>,
    /// Fails where the formatter would change something. Gets nothing that has to be built.
    format: fn() -> Result<()>,
    /// Fails where the language's own linter complains about one of these.
    lint: fn(&[Guest]) -> Result<()>,
}

const LANGUAGES: &[Language] = &[rust::LANGUAGE, go::LANGUAGE, c::LANGUAGE];

/// Every guest; libraries that only support them are none.
pub(crate) fn list() -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for language in LANGUAGES {
        guests.extend((language.list)()?);
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    match guests.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some([one, two]) => Err(format!("{} and {} are both called `{}`", one.source, two.source, one.name)),
        _ => Ok(guests),
    }
}

/// Where built guests lie.
pub(crate) fn directory() -> PathBuf {
    work::target().join("guests")
}

/// Builds all of them: two steps.
pub(crate) fn build(steps: &mut Steps) -> Result<()> {
    let guests = steps.step("languages of the guests", || {
        list()?;
        let mut guests = Vec::new();
        for language in installed()? {
            let written = (language.list)()?;
            (language.prepare)(&written)?;
            guests.push((language, written));
        }
        Ok(guests)
    })?;
    steps.step(&format!("guests: {} programs", guests.iter().map(|(_, guests)| guests.len()).sum::<usize>()), || {
        for (language, guests) in &guests {
            (language.build)(guests)?;
        }
        collect(guests.iter().flat_map(|(_, guests)| guests))
    })
}

/// Fails where a formatter would change something.
pub(crate) fn format() -> Result<()> {
    installed()?.into_iter().try_for_each(|language| (language.format)())
}

/// Fails where a linter complains.
pub(crate) fn lint() -> Result<()> {
    installed()?.into_iter().try_for_each(|language| (language.lint)(&(language.list)()?))
}

/// The languages that can be built here. Says which cannot, once, and in CI fails.
fn installed() -> Result<Vec<&'static Language>> {
    let (here, missing): (Vec<_>, Vec<_>) = LANGUAGES.iter().partition(|language| lacks(language).is_empty());
    let sentences: Vec<String> = missing
        .iter()
        .map(|language| format!("{} is NOT installed ({}): {}", language.name, lacks(language).join(", "), language.install))
        .collect();
    if sentences.is_empty() {
        return Ok(here);
    }
    if env::var_os("CI").is_some() {
        return Err(sentences.join("\n"));
    }
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| sentences.iter().for_each(|sentence| eprintln!("NOTE: guests are left out, {sentence}")));
    Ok(here)
}

/// What a language needs and this machine has not.
fn lacks(language: &Language) -> Vec<&'static str> {
    let there = |need: &str| if need.starts_with('/') { Path::new(need).exists() } else { work::installed(need) };
    language.needs.iter().copied().filter(|need| !there(need)).collect()
}

fn build_directory() -> PathBuf {
    work::target().join("guests-build")
}

/// The guests' folder in the repository.
fn sources() -> PathBuf {
    work::root().join("guests")
}

/// Copies the programs under their names and removes all others, so that no test passes with one that is no more.
fn collect<'a>(guests: impl Iterator<Item = &'a Guest>) -> Result<()> {
    let directory = directory();
    work::create_dir(&directory)?;
    let (mut names, mut changed) = (BTreeSet::new(), 0);
    for guest in guests {
        let name = format!("{}.wasm", guest.name);
        changed += usize::from(work::copy_if_changed(&build_directory().join(&guest.built), &directory.join(&name))?);
        names.insert(name);
    }
    let present = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for entry in present.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wasm") && !names.contains(&name) {
            fs::remove_file(entry.path()).map_err(|error| format!("{}: {error}", entry.path().display()))?;
        }
    }
    eprintln!("{} guests in {}, {changed} of them new", names.len(), directory.display());
    Ok(())
}

/// The names of what is in a folder of `guests/`, sorted.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_has_a_source_and_a_name_of_its_own() {
        for guest in list().unwrap() {
            assert!(work::root().join(&guest.source).is_file(), "{guest:?}");
        }
    }

    #[test]
    fn what_a_language_lacks_is_named() {
        let here = env::current_exe().unwrap().display().to_string();
        let here: &'static str = here.leak();
        let needs: &'static [&'static str] = Box::leak(Box::new([here, "/no/such/file", "no-such-program"]));
        assert_eq!(lacks(&Language { needs, ..rust::LANGUAGE }), ["/no/such/file", "no-such-program"]);
    }
}
