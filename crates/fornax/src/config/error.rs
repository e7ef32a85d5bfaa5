//! What is wrong with a configuration, in one sentence: what, where, and what to do about it.
//!
//! A sentence shows texts as they stand in the file, never with their variables replaced, and never a value of `env` or of
//! a backend: those are where secrets are.

use std::fmt;
use std::ops::Range;
use std::path::Path;

/// Why a configuration or a flag is refused. `Display` is one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    what: String,
    place: String,
    hint: String,
}

impl ConfigError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), place: String::new(), hint: String::new() }
    }

    pub(super) fn in_file(what: impl Into<String>, file: &Path) -> Self {
        Self { place: format!(" in {}", file.display()), ..Self::new(what) }
    }

    /// Adds what to do.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// Adds the candidate that was probably meant, or else `otherwise`.
    pub(super) fn nearest<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>, otherwise: &str) -> Self {
        match nearest(word, candidates) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None => self.hint(otherwise),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        f.write_str(&self.place)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl std::error::Error for ConfigError {}

/// The file a configuration is read from: turns places into lines and columns.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Origin<'_> {
    /// An error at a place of the file; line and column count from 1, the column in characters.
    pub(super) fn error(&self, at: Range<usize>, what: impl Into<String>) -> ConfigError {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ConfigError { place: format!(" in {} at line {line}, column {column}", self.file.display()), ..ConfigError::new(what) }
    }

    /// What the JSON reader found. It names a place, and nothing of the file.
    pub(super) fn json_error(&self, error: &serde_json::Error) -> ConfigError {
        let line_at: usize = self.text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = self.text.floor_char_boundary((line_at + error.column().saturating_sub(1)).min(self.text.len()));
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        self.error(at..at, format!("no JSON: {what}"))
    }

    /// Says in our words what the TOML reader found. Its own display shows whole lines, and so their secrets.
    pub(super) fn toml_error(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().unwrap_or_default();
        let found = self.text.get(at.clone()).unwrap_or_default();
        let message = error.message();
        let because = |what: String| self.error(at, what);
        if let Some((key, known)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
            let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
            let all = format!("the keys here are `{}`", known.join("`, `"));
            return because(format!("unknown key `{key}`")).nearest(key, known, &all);
        }
        if let Some(key) = message.strip_prefix("missing field ") {
            return because(format!("missing key {key}"));
        }
        if let Some((unexpected, expected)) =
            message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
        {
            let error = because(format!("expected {} but found {}", expected_name(expected), found_name(unexpected)));
            return match (expected, unexpected) {
                ("a sequence", "map") if found.starts_with('[') => error.hint(format!("write `[{found}]`")),
                ("a string", "map" | "sequence") => error,
                ("a string", _) => error.hint("put it in quotes"),
                _ => error,
            };
        }
        if message == "duplicate key" || message.starts_with("cannot extend value") {
            let error = because(format!("duplicate key `{found}`"));
            return if found == "tenant" {
                error.hint("beside `[tenant.NAME]`, name the tenant in each `[[module]]` and `[[route]]`")
            } else {
                error
            };
        }
        because(message.trim_end_matches(", expected literal string").to_owned())
    }
}

fn expected_name(serde: &str) -> &str {
    match serde {
        "a sequence" => "a list",
        "a map" => "a table",
        "i64" => "a whole number",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Keeps the kind and drops the value, which may be a secret.
fn found_name(serde: &str) -> &'static str {
    match serde.split(' ').next().unwrap_or_default() {
        "integer" => "a whole number",
        "floating" => "a number with a fraction",
        "string" => "a string",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        _ => "something else",
    }
}

/// The candidate a typing mistake away from `word`: a change in each three letters, and another case is none.
fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let (best, distance) = candidates.into_iter().map(|c| (c, distance(c))).min_by_key(|(_, distance)| *distance)?;
    (distance <= (word.chars().count() + 1) / 3).then_some(best)
}
