//! Who may depend on whom. The table is the arrows of ARCHITECTURE.md; what it does not allow is forbidden.

use super::{Repo, Report, lines_where};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a member may depend on inside the workspace. `*` in `may`: everything but [`OUTSIDE`].
struct Rule {
    member: &'static str,
    may: &'static [&'static str],
    /// What its tests may see besides.
    tests: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule { member: "crates/base", may: &[], tests: &["testkit"] },
    Rule { member: "crates/egress", may: &["base"], tests: &["testkit"] },
    Rule { member: "crates/front", may: &["base"], tests: &["testkit"] },
    Rule { member: "crates/guest", may: &["base", "egress"], tests: &["testkit"] },
    Rule { member: "crates/registry", may: &["base", "egress"], tests: &["testkit"] },
    Rule { member: "crates/fornax", may: &["*"], tests: &["testkit"] },
    Rule { member: "crates/testkit", may: &["*"], tests: &[] },
    Rule { member: "bench", may: &["*", "fornax", "testkit"], tests: &[] },
    Rule { member: "xtask", may: &[], tests: &[] },
];

/// `guest` only by the feature `host`.
const INTERFACE: Rule = Rule { member: "interfaces/*", may: &["base", "egress", "guest"], tests: &["testkit", "front"] };

/// Not part of the product, or its top: nobody builds on them who is not named in a rule.
const OUTSIDE: &[&str] = &["fornax", "testkit", "bench", "xtask"];

/// Who may depend on wasmtime, and on whatever is named after it.
const WASMTIME: &[&str] = &["crates/guest", "bench"];

/// Client libraries and stores. A new driver gets its line here with the backend that brings it.
pub(super) const DRIVERS: &[&str] = &[
    "redb",
    "redis",
    "fred",
    "async-nats",
    "rdkafka",
    "tokio-postgres",
    "postgres",
    "deadpool-postgres",
    "deadpool-redis",
    "sqlx",
    "rusqlite",
    "libsql",
    "mongodb",
    "object_store",
    "aws-sdk-s3",
    "azure_core",
    "azure_identity",
    "azure_security_keyvault_secrets",
    "azure_storage_blobs",
    "opentelemetry",
    "opentelemetry-otlp",
    "opentelemetry_sdk",
    "reqwest",
];

/// Second TLS stacks. A backend whose driver insists on one picks another driver or its rustls feature.
const TLS: &[&str] = &["openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

/// A workspace member, as `cargo metadata` tells it.
struct Member<'a> {
    name: &'a str,
    /// Its folder, from the root.
    folder: String,
    package: &'a Value,
}

impl<'a> Member<'a> {
    fn all(repo: &'a Repo) -> Vec<Self> {
        let root = repo.metadata["workspace_root"].as_str().unwrap_or_default();
        let packages = repo.metadata["packages"].as_array().into_iter().flatten();
        packages
            .filter_map(|package| {
                let manifest = package["manifest_path"].as_str()?.strip_prefix(root)?.trim_start_matches('/');
                let folder = manifest.strip_suffix("/Cargo.toml")?.to_string();
                Some(Self { name: package["name"].as_str()?, folder, package })
            })
            .collect()
    }

    fn rule(&self) -> Option<&'static Rule> {
        if self.is_interface() { Some(&INTERFACE) } else { RULES.iter().find(|rule| rule.member == self.folder) }
    }

    fn is_interface(&self) -> bool {
        self.folder.starts_with("interfaces/")
    }

    fn dependencies(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let all = self.package["dependencies"].as_array().into_iter().flatten();
        all.filter_map(|dependency| Some((dependency["name"].as_str()?, dependency)))
    }

    fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }

    /// Where its manifest names `dependency`.
    fn line(&self, repo: &Repo, dependency: &str) -> usize {
        let names = |line: &str| line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
        repo.file(&self.manifest()).and_then(|file| lines_where(&file.text, names).next().map(|(line, _)| line)).unwrap_or(1)
    }
}

/// Directions between members, and where wasmtime may enter.
pub(super) fn directions(repo: &Repo, report: &mut Report) {
    let members = Member::all(repo);
    let names: BTreeSet<&str> = members.iter().map(|member| member.name).collect();
    for member in &members {
        let Some(rule) = member.rule() else {
            report.add(&member.manifest(), 1, "a member without a rule; say in xtask/src/tidy/deps.rs what it may depend on");
            continue;
        };
        for (name, dependency) in member.dependencies() {
            let complaint = if names.contains(name) {
                inside(member, rule, name, dependency)
            } else if name.starts_with("wasmtime") && !WASMTIME.contains(&member.folder.as_str()) {
                wasmtime(member, dependency)
            } else {
                None
            };
            if let Some(complaint) = complaint {
                report.add(&member.manifest(), member.line(repo, name), complaint);
            }
        }
        host_only(repo, member, report);
    }
}

fn inside(member: &Member<'_>, rule: &Rule, name: &str, dependency: &Value) -> Option<String> {
    let allowed = rule.may.contains(&name) || (rule.may.contains(&"*") && !OUTSIDE.contains(&name));
    let test = dependency["kind"] == "dev";
    if test && (allowed || rule.tests.contains(&name)) {
        return None;
    }
    if allowed && !(member.is_interface() && name == "guest" && dependency["optional"] != true) {
        return None;
    }
    Some(match name {
        "guest" if member.is_interface() => "`guest` must be optional here, behind the feature `host`".to_string(),
        "testkit" => "`testkit` is for tests; move it to [dev-dependencies]".to_string(),
        _ => format!(
            "`{}` may not depend on `{name}`; it may see: {}. Move the shared type to `base`, or let `fornax` join the two",
            member.name,
            if rule.may.is_empty() { "no member".to_string() } else { rule.may.join(", ") }
        ),
    })
}

fn wasmtime(member: &Member<'_>, dependency: &Value) -> Option<String> {
    if !member.is_interface() {
        return Some(format!("`{}` may not see wasmtime; it enters in `guest`, which wraps what others need", member.name));
    }
    let fine = dependency["optional"] == true || dependency["kind"] == "dev";
    (!fine).then(|| "wasmtime must be optional here, behind the feature `host`".to_string())
}

/// Only the features `host` and `seam` of an interface bring `guest` and wasmtime.
fn host_only(repo: &Repo, member: &Member<'_>, report: &mut Report) {
    if !member.is_interface() {
        return;
    }
    for (feature, parts) in member.package["features"].as_object().into_iter().flatten() {
        let brings = parts.as_array().into_iter().flatten().filter_map(Value::as_str);
        let brings: Vec<&str> = brings.filter(|part| *part == "dep:guest" || part.starts_with("dep:wasmtime")).collect();
        if !brings.is_empty() && !matches!(feature.as_str(), "host" | "seam") {
            let line = member.line(repo, feature);
            report.add(
                &member.manifest(),
                line,
                format!("the feature `{feature}` brings {}; only `host` may", brings.join(", ")),
            );
        }
    }
}

/// Drivers are named only by those who hold backends, and an interface can leave every driver out.
pub(super) fn drivers(repo: &Repo, report: &mut Report) {
    for member in Member::all(repo) {
        let holder = member.is_interface() || matches!(member.folder.as_str(), "crates/registry" | "crates/egress");
        for (name, dependency) in member.dependencies().filter(|(name, _)| DRIVERS.contains(name)) {
            let line = member.line(repo, name);
            let test = dependency["kind"] == "dev" || matches!(member.folder.as_str(), "crates/testkit" | "bench");
            if !holder && !test {
                let complaint = format!("the driver `{name}` belongs into a backend: interfaces/<name>/src/backends/");
                report.add(&member.manifest(), line, complaint);
            } else if member.is_interface() && !test && dependency["optional"] != true {
                let complaint = format!("the driver `{name}` must be optional, enabled by the feature of its backend");
                report.add(&member.manifest(), line, complaint);
            }
        }
    }
}

/// A crate is found by its folder's name.
pub(super) fn folder_names(repo: &Repo, report: &mut Report) {
    for member in Member::all(repo) {
        let folder = member.folder.rsplit('/').next().unwrap_or_default();
        if folder != member.name {
            let complaint = format!("the crate `{}` lies in the folder `{folder}`; give both one name", member.name);
            report.add(&member.manifest(), member.line(repo, "name"), complaint);
        }
    }
}

/// One TLS provider: rustls with ring.
pub(super) fn one_tls(repo: &Repo, report: &mut Report) {
    let Some(lock) = repo.file("Cargo.lock") else { return };
    for crate_name in TLS {
        let entry = format!("name = \"{crate_name}\"");
        for (line, _) in lines_where(&lock.text, |line| line == entry) {
            let complaint = format!(
                "`{crate_name}` is a second TLS stack; use rustls with ring (`cargo tree -i {crate_name}` shows who brings it)"
            );
            report.add(&lock.path, line, complaint);
        }
    }
}

/// Lock files are tracked, and everything comes from crates.io.
pub(super) fn lock_files(repo: &Repo, report: &mut Report) {
    for path in ["Cargo.lock", "fuzz/Cargo.lock", "guests/Cargo.lock"] {
        let Some(lock) = repo.file(path) else {
            report.add(path, 1, "is not tracked; commit it, so that everybody builds the same");
            continue;
        };
        let source = |line: &str| {
            line.starts_with("source = ") && line != "source = \"registry+https://github.com/rust-lang/crates.io-index\""
        };
        for (line, text) in lines_where(&lock.text, source) {
            report.add(path, line, format!("{text}: only crates.io is a source; publish the patch there or do without"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A workspace of members `(folder, dependencies)`.
    fn repo(members: &[(&str, Value)]) -> Repo {
        let package = |(folder, dependencies): &(&str, Value)| {
            let name = folder.rsplit('/').next().unwrap();
            json!({ "name": name, "manifest_path": format!("/r/{folder}/Cargo.toml"), "dependencies": dependencies, "features": {} })
        };
        let packages: Vec<Value> = members.iter().map(package).collect();
        Repo { metadata: json!({ "workspace_root": "/r", "packages": packages }), ..Repo::default() }
    }

    fn complaints(check: fn(&Repo, &mut Report), members: &[(&str, Value)]) -> Vec<String> {
        let mut report = Report::default();
        check(&repo(members), &mut report);
        report.found.into_iter().map(|(path, _, message)| format!("{path}: {message}")).collect()
    }

    fn on(name: &str) -> Value {
        json!([{ "name": name, "kind": null, "optional": false }])
    }

    #[test]
    fn the_allowed_directions_pass() {
        let members = [
            ("crates/base", json!([])),
            ("crates/egress", on("base")),
            ("crates/front", json!([{ "name": "base", "kind": null }, { "name": "testkit", "kind": "dev" }])),
            ("crates/guest", json!([{ "name": "egress", "kind": null }, { "name": "wasmtime", "kind": null }])),
            ("crates/registry", on("egress")),
            ("crates/testkit", on("guest")),
            ("crates/fornax", json!([{ "name": "keyvalue", "kind": null }, { "name": "testkit", "kind": "dev" }])),
            (
                "interfaces/keyvalue",
                json!([{ "name": "guest", "kind": null, "optional": true }, { "name": "wasmtime", "optional": true }]),
            ),
            ("xtask", json!([])),
        ];
        assert_eq!(complaints(directions, &members), Vec::<String>::new());
    }

    #[test]
    fn forbidden_directions_are_named() {
        let base = ("crates/base", json!([]));
        let wrong = [
            ("crates/front", on("guest")),
            ("crates/front", on("wasmtime")),
            ("crates/base", on("front")),
            ("crates/guest", on("keyvalue")),
            ("interfaces/sql", on("keyvalue")),
            ("interfaces/sql", on("guest")),
            ("interfaces/sql", on("wasmtime")),
            ("crates/fornax", on("testkit")),
            ("xtask", on("base")),
            ("crates/new", on("base")),
        ];
        for (folder, dependencies) in wrong {
            let mut members = vec![base.clone(), (folder, dependencies.clone())];
            for other in ["crates/guest", "interfaces/keyvalue", "crates/front", "crates/testkit"] {
                if other != folder {
                    members.push((other, json!([])));
                }
            }
            let found = complaints(directions, &members);
            assert_eq!(found.len(), 1, "{folder} {dependencies}: {found:?}");
            assert!(found[0].starts_with(folder), "{found:?}");
        }
    }

    #[test]
    fn only_host_brings_the_engine() {
        let mut repo = repo(&[("interfaces/sql", json!([]))]);
        repo.metadata["packages"][0]["features"] =
            json!({ "host": ["dep:guest", "dep:wasmtime"], "redis": ["dep:redis", "dep:guest"] });
        let mut report = Report::default();
        directions(&repo, &mut report);
        assert_eq!(report.found.len(), 1);
        assert!(report.found[0].2.contains("`redis`"), "{report:?}");
    }

    #[test]
    fn drivers_stay_with_backends() {
        let optional = json!([{ "name": "redis", "kind": null, "optional": true }]);
        assert!(complaints(drivers, &[("interfaces/sql", optional), ("crates/registry", on("redb"))]).is_empty());
        assert!(complaints(drivers, &[("interfaces/sql", on("redis"))])[0].contains("must be optional"));
        assert!(complaints(drivers, &[("crates/fornax", on("redb"))])[0].contains("backends/"));
    }

    #[test]
    fn folders_and_lock_files() {
        let mut wrong = repo(&[("crates/base", json!([]))]);
        wrong.metadata["packages"][0]["name"] = json!("fornax-base");
        let mut report = Report::default();
        folder_names(&wrong, &mut report);
        assert!(report.found[0].2.contains("fornax-base"), "{report:?}");

        let lock = "name = \"ring\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        let other = "name = \"openssl-sys\"\nsource = \"git+https://example.com\"\n";
        assert!(super::super::found(one_tls, &[("Cargo.lock", lock)]).is_empty());
        assert_eq!(super::super::found(one_tls, &[("Cargo.lock", other)]), ["Cargo.lock:1"]);
        let (root, fuzz) = (("Cargo.lock", lock), ("fuzz/Cargo.lock", lock));
        assert_eq!(super::super::found(lock_files, &[root, fuzz]), ["guests/Cargo.lock:1"]);
        assert_eq!(super::super::found(lock_files, &[root, fuzz, ("guests/Cargo.lock", other)]), ["guests/Cargo.lock:2"]);
    }
}
