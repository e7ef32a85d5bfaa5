//! What no file may contain, and what tests must name.

use super::{Repo, Report, lines_where};

/// Places of one machine. Written in pieces, so that this file is not a violation.
const MACHINES: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Addresses of package registries, which a client finds by itself.
const REGISTRIES: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("registry.", "npmjs.org"),
    concat!("pypi", ".org"),
    concat!("proxy.", "golang.org"),
    concat!("repo.", "maven"),
    concat!("deb.", "debian.org"),
];

/// Nothing that is true on one machine only.
pub(super) fn machine_paths(repo: &Repo, report: &mut Report) {
    for file in &repo.files {
        // A test may look for such a path in what must not show one.
        let machines = if file.is_rust() && file.is_test() { &[] } else { MACHINES };
        for place in machines {
            for (line, _) in lines_where(&file.text, |line| begins_path(line, place)) {
                report.add(
                    &file.path,
                    line,
                    format!("names `{place}`, a place of one machine; use a path from the repository's root"),
                );
            }
        }
        for host in REGISTRIES {
            for (line, _) in lines_where(&file.text, |line| line.contains(host)) {
                report.add(&file.path, line, format!("names the registry `{host}`; its client knows where it is"));
            }
        }
    }
}

/// `place` at the beginning of a path, not in the middle of one.
fn begins_path(line: &str, place: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '>' | '*');
    line.match_indices(place).any(|(at, _)| !line[..at].chars().next_back().is_some_and(inside))
}

/// Each of these tables is run by the whole-program tests, and so is the guest it is called after.
const GOLDEN: &str = "guests/golden/";

/// A guest no test runs proves nothing and breaks in silence.
pub(super) fn guests_tested(repo: &Repo, report: &mut Report) {
    let tests: Vec<_> = repo
        .files
        .iter()
        .filter(|file| file.is_rust() && file.under(&["crates/", "interfaces/"]))
        .filter(|file| file.under(&["crates/testkit/"]) || file.path.contains("/tests/"))
        .collect();
    for (guest, source) in &repo.guests {
        let literal = format!("\"{guest}\"");
        let tested = repo.exists(&format!("{GOLDEN}{guest}.toml")) || tests.iter().any(|file| file.text.contains(&literal));
        if !tested {
            let complaint = format!(
                "no test runs the guest {literal}; write {GOLDEN}{guest}.toml, name it in crates/*/tests or interfaces/*/tests, or remove it"
            );
            report.add(source, 1, complaint);
        }
    }
}

/// A table of no guest would be left out by the test as one of a language that is not installed.
pub(super) fn golden_tables(repo: &Repo, report: &mut Report) {
    for path in repo.paths.iter().filter(|path| path.starts_with(GOLDEN)) {
        let stem = path[GOLDEN.len()..].strip_suffix(".toml").unwrap_or_default();
        let name = stem.split('.').next().unwrap_or_default();
        if !repo.guests.iter().any(|(guest, _)| guest == name) {
            report.add(path, 1, "is not called after a guest; tables are `<guest>.toml` or `<guest>.<variant>.toml`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn paths_of_one_machine() {
        let [first, second, ..] = MACHINES else { unreachable!("there are four") };
        let text = format!("a = \"{first}main\"\nb = \"src{first}main\"\nc = {second}x\nd = \"https://{}/x\"\n", REGISTRIES[0]);
        assert_eq!(found(machine_paths, &[("a.toml", &text)]), ["a.toml:1", "a.toml:3", "a.toml:4"]);
        assert_eq!(found(machine_paths, &[("crates/a/tests/b.rs", &text)]), ["crates/a/tests/b.rs:4"]);
    }

    #[test]
    fn every_guest_is_run_by_a_test() {
        let mut repo = Repo::of(&[
            ("guests/golden/c-hello.toml", ""),
            ("guests/golden/hello.readonly.toml", ""),
            ("guests/golden/loop.toml", ""),
            ("crates/fornax/tests/http.rs", "serve(\"hello\")"),
            ("crates/fornax/src/main.rs", "\"hostile-loop\""),
        ]);
        let sources = [
            ("hello", "guests/hello/Cargo.toml"),
            ("hostile-loop", "guests/hostile/loop/Cargo.toml"),
            ("c-hello", "guests/c/c-hello.c"),
        ];
        repo.guests = sources.map(|(name, source)| (name.into(), source.into())).into();
        let mut report = Report::default();
        guests_tested(&repo, &mut report);
        golden_tables(&repo, &mut report);
        assert_eq!(report.lines(), ["guests/hostile/loop/Cargo.toml:1", "guests/golden/loop.toml:1"]);
    }
}
