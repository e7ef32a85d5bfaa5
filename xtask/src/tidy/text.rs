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

/// A guest no test runs proves nothing and breaks in silence.
pub(super) fn guests_tested(repo: &Repo, report: &mut Report) {
    let tests: Vec<_> = repo
        .files
        .iter()
        .filter(|file| file.is_rust() && file.under(&["crates/", "interfaces/"]))
        .filter(|file| file.under(&["crates/testkit/"]) || file.path.contains("/tests/"))
        .collect();
    for guest in &repo.guests {
        let literal = format!("\"{guest}\"");
        if !tests.iter().any(|file| file.text.contains(&literal)) {
            let complaint =
                format!("no test runs the guest {literal}; name it in crates/*/tests or interfaces/*/tests, or remove it");
            report.add(&manifest(repo, guest), 1, complaint);
        }
    }
}

/// The manifest of a guest.
fn manifest(repo: &Repo, guest: &str) -> String {
    let name = format!("name = \"{guest}\"");
    let manifests = repo.files.iter().filter(|file| file.under(&["guests/"]) && file.path.ends_with("Cargo.toml"));
    manifests
        .filter(|file| file.text.lines().any(|line| line == name))
        .map(|file| file.path.clone())
        .next()
        .unwrap_or_else(|| "guests/Cargo.toml".into())
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
    fn every_guest_is_named_by_a_test() {
        let mut repo = Repo::of(&[
            ("guests/hostile/loop/Cargo.toml", "[package]\nname = \"hostile-loop\"\n"),
            ("guests/hello/Cargo.toml", "[package]\nname = \"hello\"\n"),
            ("crates/fornax/tests/http.rs", "serve(\"hello\")"),
            ("crates/fornax/src/main.rs", "\"hostile-loop\""),
        ]);
        repo.guests = vec!["hello".into(), "hostile-loop".into()];
        let mut report = Report::default();
        guests_tested(&repo, &mut report);
        assert_eq!(report.lines(), ["guests/hostile/loop/Cargo.toml:1"]);
    }
}
