//! The servers of the comparisons: how each is started, and what a row of it is called.

use super::Context;
use super::measure::{Field, Load};
use crate::{Result, guests, work};
use std::path::Path;

/// The floor.
pub(super) const NATIVE: &str = "native hyper";
/// Whom we compare with, as it comes.
pub(super) const WASMTIME: &str = "wasmtime serve";
/// We are; what is said behind a comma tells several rows apart.
pub(super) const FORNAX: &str = "fornax";

pub(super) const FRESH: &str = "fresh instance";
pub(super) const NONE: &str = "none";

/// A program and its arguments.
pub(super) type Words = Vec<String>;

pub(super) fn words(program: &Path, arguments: &[&str]) -> Words {
    let arguments = arguments.iter().map(ToString::to_string);
    std::iter::once(program.display().to_string()).chain(arguments).collect()
}

/// A built guest.
pub(super) fn guest(name: &str) -> String {
    guests::directory().join(format!("{name}.wasm")).display().to_string()
}

/// Fornax with an artifact or an app.
pub(super) fn fornax(context: &Context, file: &str, flags: &[&str]) -> Words {
    words(&context.tools.fornax, &[&["run", file, "--listen", "127.0.0.1:0"], flags].concat())
}

pub(super) fn native(context: &Context) -> Words {
    words(&context.tools.native, &[])
}

/// `wasmtime serve` with as few flags as the guest needs, so that its default is what is measured.
pub(super) fn wasmtime(context: &Context, guest_name: &str, flags: &[&str]) -> Result<Words> {
    let file = guest(guest_name);
    Ok(words(&context.tools.wasmtime()?, &[&["serve"], flags, &["--addr=127.0.0.1:0", &file]].concat()))
}

/// What a hand that knows its engine adds to `wasmtime serve`: warm slots enough, pages that stay, one reset a call.
pub(super) const TUNED: &[&str] = &[
    "-Opooling-allocator",
    "-Opooling-max-unused-warm-slots=1000",
    "-Opooling-memory-keep-resident=4194304",
    "-Opooling-table-keep-resident=65536",
    "-Opooling-decommit-batch-size=1",
    "-Opooling-pagemap-scan=auto",
];

/// The usual three: native, `wasmtime serve`, Fornax, asked for the same.
pub(super) fn three(context: &Context, guest_name: &str, wasmtime_flags: &[&str], load: &Load) -> Result<Field> {
    let mut field = Field::default();
    field.add(NATIVE, NONE, native(context), load.clone());
    field.add(WASMTIME, FRESH, wasmtime(context, guest_name, wasmtime_flags)?, load.clone());
    field.add(FORNAX, FRESH, fornax(context, &guest(guest_name), &[]), load.clone());
    Ok(field)
}

/// Native and Fornax, for what only Fornax serves; native answers the hello.
pub(super) fn two(context: &Context, file: &str, flags: &[&str], load: Load) -> Field {
    let mut field = Field::default();
    field.add(NATIVE, NONE, native(context), Load::hello());
    field.add(FORNAX, FRESH, fornax(context, file, flags), load);
    field
}

/// What else one could take for a hello, none of which isolates a request.
pub(super) fn languages(context: &Context, field: &mut Field) -> Result<()> {
    match context.tools.go()? {
        Some(go) => field.add("Go net/http", NONE, words(&go, &[]), Load::hello()),
        None => field.notes.push("Go is not installed: its row is left out".into()),
    }
    if work::installed("node") {
        let script = work::root().join("bench/peers/hello.js").display().to_string();
        field.add("Node http", NONE, words(Path::new("node"), &[&script]), Load::hello());
    } else {
        field.notes.push("Node is not installed: its row is left out".into());
    }
    Ok(())
}
