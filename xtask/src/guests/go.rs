//! Guests in Go: the commands of the module `guests/go`, built for WASI preview 1. Go's own cache knows what has changed.

use super::{Guest, Language, build_directory, entries, sources};
use crate::Result;
use crate::work;
use std::path::Path;
use std::process::Command;

pub(super) const LANGUAGE: Language = Language {
    name: "Go",
    needs: &["go", "gofmt"],
    install: "install Go 1.24 or newer, https://go.dev/doc/install",
    list,
    prepare: |_| Ok(()),
    build,
    format,
    lint,
};

fn list() -> Result<Vec<Guest>> {
    let module = sources().join("go");
    let names = entries(&module)?.into_iter().filter(|name| module.join(name).join("main.go").is_file());
    Ok(names
        .map(|name| Guest {
            source: format!("guests/go/{name}/main.go"),
            target: "wasip1".into(),
            built: Path::new("go").join(&name),
            name,
        })
        .collect())
}

fn build(guests: &[Guest]) -> Result<()> {
    let folder = build_directory().join("go");
    work::create_dir(&folder)?;
    // Without the state of the repository, which would change every program with every commit.
    let mut go = go(&["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]);
    go.arg(&folder);
    for guest in guests {
        go.arg(format!("./{}", guest.name));
    }
    work::run(&mut go)
}

fn format() -> Result<()> {
    let others = work::output(work::command("gofmt").args(["-l", "."]).current_dir(sources().join("go")))?;
    match others.trim() {
        "" => Ok(()),
        files => Err(format!("not as `gofmt` writes them, in guests/go: {}", files.replace('\n', ", "))),
    }
}

/// And the tests of the packages that guests share, which run here, not in a guest.
fn lint(_: &[Guest]) -> Result<()> {
    work::run(&mut go(&["vet", "./..."]))?;
    work::run(go(&["test", "./internal/..."]).env_remove("GOOS").env_remove("GOARCH"))
}

/// `go`, in the module. It takes the compiler that is installed and fetches nothing.
fn go(args: &[&str]) -> Command {
    let mut go = work::command("go");
    go.current_dir(sources().join("go")).args(args);
    go.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "-mod=readonly"), ("GOWORK", "off")]);
    go
}
