//! Guides that lie are worse than none: what they name must be there.

use super::{File, Repo, Report};

/// Read by people who look for a place in the code.
const GUIDES: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "STYLE.md"];

/// Folders of the root; a word that begins with one is a path.
const FOLDERS: &[&str] =
    &["crates", "interfaces", "guests", "sdk", "bench", "xtask", "docs", "examples", "deploy", ".ci", ".cargo", ".github"];

/// Every path a guide names in backticks or in a code block exists.
pub(super) fn paths(repo: &Repo, report: &mut Report) {
    for file in repo.files.iter().filter(|file| GUIDES.contains(&file.path.as_str())) {
        for (line, word) in code_words(&file.text) {
            if let Some(path) = named_path(repo, word)
                && !repo.exists(&path)
            {
                report.add(&file.path, line, format!("names `{word}`, which does not exist; correct the guide or the code"));
            }
        }
    }
}

/// Words in backticks and in fenced blocks, with their lines.
fn code_words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let spans: Vec<&str> = if fenced { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        words.extend(spans.iter().flat_map(|span| span.split_whitespace()).map(|word| (index + 1, word)));
    }
    words
}

/// The path that `word` claims to be, as far as it has no placeholder; none where it claims nothing.
fn named_path(repo: &Repo, word: &str) -> Option<String> {
    let word = word.trim_matches(|c: char| matches!(c, ',' | ';' | '(' | ')' | '"' | '\'' | ':')).trim_end_matches('.');
    let word = word.strip_prefix("./").unwrap_or(word);
    let word = word.split([':', '#']).next().unwrap_or(word);
    let (first, rest) = word.split_once('/')?;
    let legible = |c: char| c.is_ascii_alphanumeric() || "._-/*<>{},…".contains(c);
    if !word.chars().all(legible) {
        return None;
    }
    let path = if FOLDERS.contains(&first) {
        word.to_string()
    } else if rest.ends_with(".rs") && repo.exists(&format!("crates/{first}")) {
        // The short form of the guides: `front/http/router.rs`.
        let rest = rest.strip_prefix("src/").unwrap_or(rest);
        format!("crates/{first}/src/{rest}")
    } else {
        return None;
    };
    let fixed: Vec<&str> = path.split('/').take_while(|part| !is_placeholder(part)).collect();
    Some(fixed.join("/"))
}

fn is_placeholder(part: &str) -> bool {
    part.contains(['*', '<', '{', '…']) || part.contains("NNNN") || part.split('.').next().is_some_and(|stem| stem == "NAME")
}

/// Every link from one file to another leads somewhere.
pub(super) fn links(repo: &Repo, report: &mut Report) {
    for file in repo.files.iter().filter(|file| file.path.ends_with(".md")) {
        let mut fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            let prose: String = line.split('`').step_by(2).collect();
            for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|_| !fenced) {
                if let Some(path) = local(file, target)
                    && !repo.exists(&path)
                {
                    report.add(&file.path, index + 1, format!("links to `{target}`, which does not exist; correct the link"));
                }
            }
        }
    }
}

/// Where a link leads in the repository; none where it leads out of it or into its own page.
fn local(file: &File, target: &str) -> Option<String> {
    let target = target.split(['#', ' ']).next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let mut folders: Vec<&str> = file.path.split('/').collect();
    folders.pop();
    if target.starts_with('/') {
        folders.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(folders.pop()),
            name => folders.push(name),
        }
    }
    (!folders.is_empty()).then(|| folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn named_paths_exist() {
        let guide = "See `crates/base/src/gate.rs:12` and `interfaces/<name>/src/`, `front/http/router.rs`.\n\
                     Not a path: `text/plain`, `GET /crates/x`, crates/none.\n\
                     `crates/base/src/gone.rs` and `crates/front/src/no.rs`\n```\ncd guests/hello\n```\n";
        let files = [
            ("README.md", guide),
            ("crates/base/src/gate.rs", ""),
            ("crates/front/src/http/router.rs", ""),
            ("interfaces/keyvalue/src/lib.rs", ""),
        ];
        assert_eq!(found(paths, &files), ["README.md:3", "README.md:3", "README.md:5"]);
    }

    #[test]
    fn links_lead_somewhere() {
        let page =
            "[a](../README.md#top) [b](https://example.com) [c](#here) [d](gone.md)\n`[e](f)`\n```\n[g](h)\n```\n[i](/docs/a.md)";
        assert_eq!(found(links, &[("docs/a.md", page), ("README.md", "")]), ["docs/a.md:1"]);
    }
}
