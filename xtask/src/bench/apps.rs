//! Apps that scenarios serve, written down below <target>/bench.

use super::peers;
use crate::{Result, work};
use std::fs;
use std::path::PathBuf;

/// An app of this text; the path as servers are given it.
pub(super) fn write(name: &str, text: &str) -> Result<String> {
    let folder = work::target().join("bench/apps");
    work::create_dir(&folder)?;
    let file = folder.join(format!("{name}.toml"));
    put(&file, text.as_bytes())?;
    Ok(file.display().to_string())
}

/// A module of a built guest, with more lines of its own.
pub(super) fn module(name: &str, guest: &str, lines: &str) -> String {
    format!("[[module]]\nname = \"{name}\"\nsource = \"{}\"\n{lines}\n", peers::guest(guest))
}

pub(super) fn route(path: &str, lines: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\n{lines}\n")
}

/// How many apps a server of many has.
pub(super) const MANY: usize = 1000;

/// An app of [`MANY`] modules with distinct bytes, each the lean hello and at `/1`, `/2` and so on. Its data stays between runs, with the
/// compiled code in it.
pub(super) fn many() -> Result<String> {
    let folder = work::target().join("bench/many");
    work::create_dir(&folder)?;
    let hello = peers::guest("hello-wasip2");
    let hello = fs::read(&hello).map_err(|error| format!("{hello}: {error}"))?;
    let mut text = format!("[server]\ndata = \"{}\"\n", folder.join("data").display());
    for number in 1..=MANY {
        let file = folder.join(format!("app{number}.wasm"));
        let bytes = [hello.as_slice(), &custom_section("app", &number.to_string())].concat();
        put(&file, &bytes)?;
        text.push_str(&format!("[[module]]\nname = \"app{number}\"\nsource = \"{}\"\n", file.display()));
        text.push_str(&route(&format!("/{number}"), &format!("module = \"app{number}\"")));
    }
    let file = folder.join("fornax.toml");
    put(&file, text.as_bytes())?;
    Ok(file.display().to_string())
}

/// Writes where something is to change: a file that is as it was keeps its time.
fn put(file: &PathBuf, bytes: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
}

/// A section that means nothing, so that two artifacts differ.
fn custom_section(name: &str, content: &str) -> Vec<u8> {
    // Both lengths are below 128 and so one byte each.
    let content = [&[name.len() as u8], name.as_bytes(), content.as_bytes()].concat();
    [&[0, content.len() as u8], content.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_their_lengths() {
        assert_eq!(custom_section("app", "12"), b"\x00\x06\x03app12");
    }
}
