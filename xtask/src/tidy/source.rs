//! What Rust source may say where.

use super::rust::{closing, has_word, is_word};
use super::{Repo, Report, deps, lines_where};

/// Lines of a file that has grown two subjects.
const LINES_MAX: usize = 800;

/// Where `unsafe` is allowed, and why: a compiled module is mapped, which wasmtime can only call unsafe, because it trusts the file.
const UNSAFE: &[&str] = &["crates/guest/src/publish.rs", "crates/guest/src/publish/"];

/// The process's environment is read where the program is put together, and by tests and tools.
const ENVIRONMENT: &[&str] = &["crates/fornax/", "crates/testkit/", "xtask/", "bench/"];

/// Tables of what is compiled in.
const TABLES: &[&str] = &["crates/fornax/src/interfaces.rs"];

/// Only `guest`, and the `host` feature of interfaces, know the engine.
pub(super) fn wasmtime(repo: &Repo, report: &mut Report) {
    let engine = |line: &str| ["wasmtime", "wasmtime_wasi", "wasmtime_wasi_http"].iter().any(|name| has_word(line, name));
    for file in repo.host_rust() {
        let inside = file.in_interface();
        let host =
            inside.is_some_and(|path| path == "src/host.rs" || path.starts_with("src/host/") || path.starts_with("tests/"));
        if host || file.under(&["crates/guest/", "bench/", "xtask/"]) {
            continue;
        }
        for (line, _) in lines_where(&file.code, engine) {
            let instead = if inside.is_some() { "src/host.rs of the interface" } else { "crates/guest, behind its own types" };
            report.add(&file.path, line, format!("names wasmtime; it belongs into {instead}"));
        }
    }
}

/// `guest` offers a seam; who plugs in is none of its business. What guests export is: entries are named after it.
pub(super) fn interfaces_in_guest(repo: &Repo, report: &mut Report) {
    let folder = |path: &str| path.strip_prefix("interfaces/").and_then(|rest| Some(rest.split_once('/')?.0.to_string()));
    let mut names: Vec<String> = repo.paths.iter().filter_map(|path| folder(path)).collect();
    names.dedup();
    for file in repo
        .host_rust()
        .filter(|file| file.under(&["crates/guest/src/"]) && !file.under(&["crates/guest/src/entry/"]) && !file.is_test())
    {
        for name in &names {
            let package = format!("wasi:{name}");
            // Names in texts count too, prose in comments does not; a line that has code is not prose.
            let texts =
                file.text.lines().zip(file.code.lines()).map(|(text, code)| if code.trim().is_empty() { "" } else { text });
            for (line, _) in texts.enumerate().filter(|(_, text)| text.split("//").next().unwrap_or_default().contains(&package))
            {
                let complaint =
                    format!("`guest` names `{package}`; say it in interfaces/{name}/src/host.rs through `guest::Interface`");
                report.add(&file.path, line + 1, complaint);
            }
        }
    }
}

/// Drivers only in backends, `registry` and `egress`.
pub(super) fn drivers(repo: &Repo, report: &mut Report) {
    for file in repo.host_rust() {
        let backend = file.in_interface().is_some_and(|path| path.starts_with("src/backends/"));
        if backend || file.is_test() || file.under(&["crates/registry/", "crates/egress/", "crates/testkit/", "bench/"]) {
            continue;
        }
        for driver in deps::DRIVERS {
            let name = driver.replace('-', "_");
            let used = |line: &str| {
                has_word(line, &name) && (line.contains(&format!("{name}::")) || line.contains(&format!("use {name}")))
            };
            // A module of that name is ours.
            let ours = |line: &str| line.contains(&format!("::{name}::")) || line.contains(&format!("mod {name}"));
            for (line, _) in lines_where(&file.code, |line| used(line) && !ours(line)) {
                report.add(
                    &file.path,
                    line,
                    format!("uses the driver `{driver}`; it belongs into src/backends/ of an interface"),
                );
            }
        }
    }
}

/// The environment is configuration: read at the top, handed down as values.
pub(super) fn environment(repo: &Repo, report: &mut Report) {
    for file in repo.host_rust() {
        let backend = file.in_interface().is_some_and(|path| path.starts_with("src/backends/"));
        if backend || file.is_test() || file.path.ends_with("build.rs") || file.under(ENVIRONMENT) {
            continue;
        }
        for line in uses_of_env(&file.code) {
            let complaint = "reads std::env; take the value as an argument, `fornax` or a backend's options fill it";
            report.add(&file.path, line, complaint);
        }
    }
}

/// Lines that name `std::env`, also inside `use std::{…}`.
fn uses_of_env(code: &str) -> Vec<usize> {
    let mut lines: Vec<usize> = lines_where(code, |line| has_word(line, "std::env")).map(|(line, _)| line).collect();
    for (start, _) in code.match_indices("use std::{") {
        let open = start + "use std::".len();
        let names = &code[open..closing(code, open)];
        if has_word(names, "env") {
            let before = names.find("env").unwrap_or_default();
            lines.push(line_of(code, open + before));
        }
    }
    lines
}

/// A feature selects a module or a row of a table; inside functions and on fields it makes every combination a program of its own.
pub(super) fn features(repo: &Repo, report: &mut Report) {
    for file in repo.host_rust() {
        let table = file.under(TABLES) || file.in_interface() == Some("src/backends/mod.rs");
        if table || file.is_test() {
            continue;
        }
        let instead = "features only select modules and rows of tables; put the code into a module of its own";
        for (start, attribute) in attributes(&file.code, "#[cfg(") {
            let behind = &file.code[start + attribute.len()..];
            let item = behind.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#["));
            if has_word(attribute, "feature") && !item.is_some_and(is_module) {
                report.add(&file.path, line_of(&file.code, start), instead);
            }
        }
        for (line, _) in
            lines_where(&file.code, |line| (line.contains("cfg!(") || line.contains("cfg_attr(")) && has_word(line, "feature"))
        {
            report.add(&file.path, line, instead);
        }
    }
}

fn is_module(item: &str) -> bool {
    let item = match item.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest[closing(rest, 0)..].trim_start(),
        Some(rest) => rest.trim_start(),
        None => item,
    };
    item.starts_with("mod ")
}

/// `unsafe` only where this file says.
pub(super) fn unsafe_code(repo: &Repo, report: &mut Report) {
    for file in repo.host_rust().filter(|file| !file.under(UNSAFE)) {
        for (line, _) in lines_where(&file.code, |line| has_word(line, "unsafe")) {
            report.add(
                &file.path,
                line,
                format!("`unsafe` is allowed only in {}; use a safe API, or argue for a place there", UNSAFE.join(", ")),
            );
        }
    }
}

/// What is not finished is an issue, not a panic.
pub(super) fn unfinished(repo: &Repo, report: &mut Report) {
    for file in repo.files.iter().filter(|file| file.is_rust()) {
        for name in ["todo", "unimplemented", "dbg"] {
            let call = format!("{name}!");
            for (line, _) in lines_where(&super::rust::code(&file.text), |line| {
                line.match_indices(&call).any(|(at, _)| !line[..at].chars().next_back().is_some_and(is_word))
            }) {
                report.add(&file.path, line, format!("`{call}` is not for this repository; return an error, or file an issue"));
            }
        }
    }
}

/// An exception without a reason is never removed.
pub(super) fn lint_reasons(repo: &Repo, report: &mut Report) {
    for file in repo.files.iter().filter(|file| file.is_rust()) {
        let code = super::rust::code(&file.text);
        for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (start, attribute) in attributes(&code, opening) {
                if !has_word(attribute, "reason") {
                    report.add(&file.path, line_of(&code, start), "a lint exception without a reason; add `reason = \"…\"`");
                }
            }
        }
    }
}

pub(super) fn file_length(repo: &Repo, report: &mut Report) {
    for file in repo.files.iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            report.add(&file.path, LINES_MAX, format!("{lines} lines, at most {LINES_MAX}; split it by subject"));
        }
    }
}

/// Every attribute that begins with `opening`, whole, and where it stands.
fn attributes<'a>(code: &'a str, opening: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(opening).map(|(start, _)| {
        let open = start + opening.find('[').unwrap_or_default();
        (start, &code[start..closing(code, open)])
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    const NOTHING: Vec<String> = Vec::new();

    #[test]
    fn wasmtime_enters_in_guest_and_host() {
        let text = "//! wasmtime's way.\nuse wasmtime::Store;\n";
        let allowed =
            [("crates/guest/src/lib.rs", text), ("interfaces/sql/src/host.rs", text), ("interfaces/sql/src/host/draft.rs", text)];
        assert_eq!(found(wasmtime, &allowed), NOTHING);
        let forbidden = [
            ("crates/front/src/lib.rs", text),
            ("interfaces/sql/src/lib.rs", text),
            ("interfaces/sql/src/backends/redis.rs", text),
        ];
        assert_eq!(
            found(wasmtime, &forbidden),
            ["crates/front/src/lib.rs:2", "interfaces/sql/src/lib.rs:2", "interfaces/sql/src/backends/redis.rs:2"]
        );
    }

    #[test]
    fn guest_names_no_interface() {
        let guest = "// wasi:sql is elsewhere\nlet a = \"wasi:sql/store\";\nlet b = \"wasi:http\"; // not wasi:sql\n";
        let files =
            [("interfaces/sql/src/lib.rs", ""), ("crates/guest/src/link.rs", guest), ("crates/guest/src/entry/row.rs", guest)];
        assert_eq!(found(interfaces_in_guest, &files), ["crates/guest/src/link.rs:2"]);
    }

    #[test]
    fn drivers_are_used_in_backends() {
        let text = "mod redb;\nuse redb::Database;\nlet a = backends::redb::open();\n";
        assert_eq!(
            found(drivers, &[("interfaces/keyvalue/src/backends/redb.rs", text), ("crates/registry/src/index.rs", text)]),
            NOTHING
        );
        assert_eq!(found(drivers, &[("interfaces/keyvalue/src/lib.rs", text)]), ["interfaces/keyvalue/src/lib.rs:2"]);
    }

    #[test]
    fn the_environment_is_read_at_the_top() {
        let text = "use std::fs;\nuse std::{\n    fs,\n    env,\n};\nlet a = std::env::var(\"A\");\n#[cfg(test)]\nmod tests { use std::env; }\n";
        assert_eq!(found(environment, &[("crates/fornax/src/main.rs", text), ("crates/base/tests/a.rs", text)]), NOTHING);
        assert_eq!(
            found(environment, &[("crates/base/src/lib.rs", text)]),
            ["crates/base/src/lib.rs:6", "crates/base/src/lib.rs:4"]
        );
    }

    #[test]
    fn features_select_modules() {
        let fine = "#[cfg(feature = \"host\")]\n#[path = \"x\"]\npub(crate) mod host;\n#[cfg(unix)]\nfn a() {}\n";
        assert_eq!(found(features, &[("interfaces/sql/src/lib.rs", fine)]), NOTHING);
        let wrong = "#[cfg(any(feature = \"a\", test))]\nfn a() {}\nlet b = cfg!(feature = \"b\");\n";
        assert_eq!(
            found(features, &[("crates/base/src/lib.rs", wrong)]),
            ["crates/base/src/lib.rs:1", "crates/base/src/lib.rs:3"]
        );
        assert_eq!(found(features, &[("crates/fornax/src/interfaces.rs", wrong)]), NOTHING);
    }

    #[test]
    fn unsafe_has_places() {
        let text = "// unsafe\n#![deny(unsafe_code)]\nunsafe { map() }\n";
        assert_eq!(found(unsafe_code, &[("crates/guest/src/publish/load.rs", text), ("guests/hello/src/lib.rs", text)]), NOTHING);
        assert_eq!(found(unsafe_code, &[("crates/guest/src/instance.rs", text)]), ["crates/guest/src/instance.rs:3"]);
    }

    #[test]
    fn unfinished_work_and_exceptions_without_reasons() {
        let text = "fn a() { todo!() }\nlet b = \"todo!()\";\nmy_dbg!(b);\ndbg!(b);\n";
        assert_eq!(
            found(unfinished, &[("crates/base/src/lib.rs", text)]),
            ["crates/base/src/lib.rs:1", "crates/base/src/lib.rs:4"]
        );
        let text = "#[allow(dead_code)]\n#![expect(\n    dead_code,\n    reason = \"why\"\n)]\n";
        assert_eq!(found(lint_reasons, &[("guests/a/src/lib.rs", text)]), ["guests/a/src/lib.rs:1"]);
    }

    #[test]
    fn files_stay_short() {
        let long = "\n".repeat(LINES_MAX + 1);
        assert_eq!(found(file_length, &[("a.rs", &long), ("b.rs", &long[1..]), ("c.md", &long)]), [format!("a.rs:{LINES_MAX}")]);
    }
}
