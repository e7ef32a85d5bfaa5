//! Texts with units: durations, sizes, and `${NAME}`.

use std::time::Duration;

/// Reads `200ms`, `5s`, `2m`, `1h`, `1m 30s`. A number without a unit is none.
pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// Reads `64MiB`, `10MB`, or bytes.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().map(|bytesize::ByteSize(bytes)| bytes)
}

/// Writes a size in the largest unit that leaves no fraction.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

/// Why a text's variables cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpandError {
    Unset(String),
    NoName,
}

/// Replaces each `${NAME}`; `$${` stands for `${` itself. What was put in is not looked at again.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let (name, after) = rest[at + 2..].split_once('}').ok_or(ExpandError::NoName)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_name) {
            return Err(ExpandError::NoName);
        }
        expanded.push_str(&env(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, expected) in [
            ("200ms", Some(Duration::from_millis(200))),
            ("5s", Some(Duration::from_secs(5))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3600))),
            ("1m 30s", Some(Duration::from_secs(90))),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("5 apples", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, expected) in [
            ("64MiB", Some(64 << 20)),
            ("10MB", Some(10_000_000)),
            ("1.5 GiB", Some(3 << 29)),
            ("65536", Some(65_536)),
            ("", None),
            ("-1", None),
            ("big", None),
        ] {
            assert_eq!(size_bytes(text), expected, "{text:?}");
        }
        for (bytes, expected) in
            [(1 << 30, "1 GiB"), (3 << 29, "1536 MiB"), (4096, "4 KiB"), (1000, "1000 bytes"), (0, "0 bytes")]
        {
            assert_eq!(size_text(bytes), expected);
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        let env = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("", Ok("")),
            ("plain $ {A}", Ok("plain $ {A}")),
            ("${A}-${A}", Ok("1-1")),
            ("ü${A}ü", Ok("ü1ü")),
            ("${NESTED}", Ok("${A}")),
            ("$${A}", Ok("${A}")),
            ("$$${A}", Ok("$${A}")),
            ("${B}", Err(ExpandError::Unset("B".to_owned()))),
            ("${A", Err(ExpandError::NoName)),
            ("${}", Err(ExpandError::NoName)),
            ("${A-B}", Err(ExpandError::NoName)),
            ("${1}", Err(ExpandError::NoName)),
        ] {
            assert_eq!(expand(text, &env), expected.map(str::to_owned), "{text:?}");
        }
    }
}
