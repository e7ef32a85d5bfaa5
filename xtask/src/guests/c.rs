//! Guests in C: each file of `guests/c` is a command, built against wasi-libc.

use super::{Guest, Language, build_directory, entries, sources};
use crate::Result;
use crate::work;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

pub(super) const LANGUAGE: Language = Language {
    name: "C for WASI",
    needs: &[
        "clang-19",
        "wasm-ld-19",
        "/usr/lib/wasm32-wasi/libc.a",
        "/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a",
    ],
    install: "apt-get install clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc",
    list,
    prepare: |_| Ok(()),
    build,
    format: || Ok(()),
    // Its warnings are errors where it is built.
    lint: |_| Ok(()),
};

fn list() -> Result<Vec<Guest>> {
    let files = entries(&sources().join("c"))?;
    let names = files.iter().filter_map(|file| file.strip_suffix(".c"));
    Ok(names
        .map(|name| Guest {
            name: name.into(),
            source: format!("guests/c/{name}.c"),
            target: "wasm32-wasi".into(),
            built: Path::new("c").join(format!("{name}.wasm")),
        })
        .collect())
}

fn build(guests: &[Guest]) -> Result<()> {
    let folder = build_directory().join("c");
    work::create_dir(&folder)?;
    // The flags are in this program, so that one newer than the result counts as a change.
    let program = std::env::current_exe().ok().and_then(|program| modified(&program));
    for guest in guests {
        let (source, built) = (work::root().join(&guest.source), build_directory().join(&guest.built));
        if modified(&built).is_some_and(|built| modified(&source) < Some(built) && program < Some(built)) {
            continue;
        }
        let mut clang = work::command("clang-19");
        clang.arg(format!("--target={}", guest.target)).args(["--sysroot=/usr", "-O2", "-Wall", "-Wextra", "-Werror"]);
        work::run(clang.arg(&source).arg("-o").arg(&built))?;
    }
    Ok(())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
