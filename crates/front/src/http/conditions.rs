//! What a request insists on: `If-Match` and its kin, and `Range` (RFC 9110, 13 and 14).
//!
//! Files and stored answers are asked the same questions. A field that cannot be read is as good as none, which is what
//! the RFC wants of all but `If-Match`: there a client means to protect something, and nothing matches what is unreadable.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderName};

/// Ranges of one request that are looked at: more is no question about a file but an attack on who answers it.
const RANGES_MAX: usize = 32;

/// What is known of a representation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'a> {
    /// As in `ETag`: quoted, with `W/` where it is weak.
    pub(crate) etag: Option<&'a str>,
    /// As in `Last-Modified`.
    pub(crate) modified: Option<SystemTime>,
}

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer as if there were none.
    Send,
    /// 304: the client has it.
    NotModified,
    /// 412: the client does not want this one.
    Failed,
}

/// Which bytes are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them; also where several ranges are asked for, which may be answered in full.
    Whole,
    /// These, at least one.
    Bytes(Range<u64>),
    /// 416: none that exist.
    Unsatisfiable,
}

/// Judges the conditions of a GET or HEAD, in the order of RFC 9110, 13.2.2.
pub(crate) fn evaluate(headers: &HeaderMap, validators: Validators<'_>) -> Verdict {
    let modified_since = |date: SystemTime| validators.modified.is_none_or(|modified| whole_seconds(modified) > date);
    if headers.contains_key(header::IF_MATCH) {
        if !names(headers, &header::IF_MATCH, validators.etag, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(modified_since) {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if names(headers, &header::IF_NONE_MATCH, validators.etag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|date| !modified_since(date)) {
        return Verdict::NotModified;
    }
    Verdict::Send
}

/// The part of `size` bytes that a GET asks for.
pub(crate) fn part(headers: &HeaderMap, size: u64, validators: Validators<'_>) -> Part {
    let Some(range) = only(headers, &header::RANGE) else { return Part::Whole };
    if headers.contains_key(header::IF_RANGE) && !is_same(headers, validators) {
        return Part::Whole;
    }
    parse_range(range, size)
}

/// `If-Range`: a strong tag, or the very date; a date proves as much as a strong tag only where there is one.
fn is_same(headers: &HeaderMap, validators: Validators<'_>) -> bool {
    let (Some(text), Some(etag)) = (only(headers, &header::IF_RANGE), validators.etag) else { return false };
    if text.starts_with(['"', 'W']) {
        return is_strong(etag) && text == etag;
    }
    let date = httpdate::parse_http_date(text).ok();
    is_strong(etag) && date.is_some() && date == validators.modified.map(whole_seconds)
}

fn parse_range(text: &str, size: u64) -> Part {
    let Some((unit, set)) = text.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let mut asked = Vec::new();
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        let Some(range) = parse_spec(spec, size) else { return Part::Whole };
        asked.push(range);
        if asked.len() > RANGES_MAX {
            return Part::Whole;
        }
    }
    match asked.as_slice() {
        [] => Part::Whole,
        [range] if range.is_empty() => Part::Unsatisfiable,
        [range] => Part::Bytes(range.clone()),
        many if many.iter().all(Range::is_empty) => Part::Unsatisfiable,
        _ => Part::Whole,
    }
}

/// `0-499`, `500-`, `-500`; an empty range where there are no such bytes, none for what is no range at all.
fn parse_spec(spec: &str, size: u64) -> Option<Range<u64>> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number with more digits than any size is still a number.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let length: u64 = number(last)?;
        return Some(size.saturating_sub(length)..size);
    }
    let first: u64 = number(first)?;
    let end = if last.is_empty() { size } else { number(last)?.saturating_add(1).min(size) };
    if !last.is_empty() && number(last)? < first {
        return None;
    }
    Some(if first < size { first..end } else { 0..0 })
}

/// How two tags are compared (RFC 9110, 8.8.3.2).
#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of tags has `*` or this one.
fn names(headers: &HeaderMap, name: &HeaderName, etag: Option<&str>, comparison: Comparison) -> bool {
    let own = etag.unwrap_or_default();
    let is_own = |tag: &str| match comparison {
        Comparison::Strong => is_strong(own) && tag == own,
        Comparison::Weak => !own.is_empty() && opaque(tag) == opaque(own),
    };
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.into_iter().any(|value| value.trim() == "*" || tags(value).any(is_own))
}

/// The entity tags of a list; commas may be inside of them.
fn tags(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let quote = if rest.starts_with("W/\"") { 2 } else { 0 };
        let inside = rest.get(quote..)?.strip_prefix('"')?;
        let end = quote + 1 + inside.find('"')? + 1;
        let (tag, after) = rest.split_at(end);
        rest = after;
        Some(tag)
    })
}

fn is_strong(etag: &str) -> bool {
    etag.starts_with('"')
}

fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

/// HTTP dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(only(headers, name)?).ok()
}

/// The value of a field that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use base::tests_support::assert_documented;

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("ranges of one request", format!("{RANGES_MAX}; more than one is answered in full"));
    }

    /// 1994-11-06 08:49:37 and half a second.
    const MODIFIED: Duration = Duration::from_millis(784_111_777_500);
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))).collect()
    }

    fn validators(etag: &str) -> Validators<'_> {
        Validators { etag: Some(etag), modified: Some(SystemTime::UNIX_EPOCH + MODIFIED) }
    }

    #[test]
    fn conditions_are_judged_in_order() {
        use Verdict::{Failed, NotModified, Send};
        for (fields, expected) in [
            (&[][..], Send),
            (&[("if-none-match", "\"a\"")], NotModified),
            (&[("if-none-match", "W/\"a\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"x,y\", W/\"b\" ,\"a\"")], NotModified),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], NotModified),
            (&[("if-none-match", "\"b\", \"c,\"a\"")], Send),
            (&[("if-none-match", "a")], Send),
            // A tag is a better answer than a date.
            (&[("if-none-match", "\"b\""), ("if-modified-since", DATE)], Send),
            (&[("if-modified-since", DATE)], NotModified),
            (&[("if-modified-since", EARLIER)], Send),
            (&[("if-modified-since", "yesterday")], Send),
            (&[("if-match", "\"a\"")], Send),
            (&[("if-match", "*")], Send),
            (&[("if-match", "\"b\"")], Failed),
            (&[("if-match", "W/\"a\"")], Failed),
            (&[("if-match", "nonsense")], Failed),
            (&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], NotModified),
            (&[("if-match", "\"a\""), ("if-unmodified-since", EARLIER)], Send),
            (&[("if-unmodified-since", DATE)], Send),
            (&[("if-unmodified-since", EARLIER)], Failed),
            (&[("if-unmodified-since", "never")], Send),
        ] {
            assert_eq!(evaluate(&headers(fields), validators("\"a\"")), expected, "{fields:?}");
        }
        assert_eq!(evaluate(&headers(&[("if-match", "W/\"a\"")]), validators("W/\"a\"")), Failed, "weak tags never match");
        assert_eq!(evaluate(&headers(&[("if-none-match", "\"a\"")]), validators("W/\"a\"")), NotModified);
    }

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        use Part::{Bytes, Unsatisfiable, Whole};
        for (text, expected) in [
            ("bytes=0-0", Bytes(0..1)),
            ("bytes=0-9", Bytes(0..10)),
            ("bytes=2-5", Bytes(2..6)),
            ("bytes=2-", Bytes(2..10)),
            ("bytes=2-99", Bytes(2..10)),
            ("bytes=2-99999999999999999999999", Bytes(2..10)),
            ("bytes=-3", Bytes(7..10)),
            ("bytes=-99", Bytes(0..10)),
            ("BYTES = 1 - 2 ", Bytes(1..3)),
            ("bytes=,1-2,", Bytes(1..3)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=10-11, 12-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-1, 4-5", Whole),
            ("bytes=0-1, 20-", Whole),
            ("bytes=5-2", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1", Whole),
            ("lines=1-2", Whole),
            ("nonsense", Whole),
        ] {
            assert_eq!(part(&headers(&[("range", text)]), 10, validators("\"a\"")), expected, "{text}");
        }
        let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
        assert_eq!(part(&twice, 10, validators("\"a\"")), Whole);
        let many = format!("bytes={}", "0-1,".repeat(40));
        assert_eq!(part(&headers(&[("range", &many)]), 10, validators("\"a\"")), Whole);
        for text in ["bytes=0-", "bytes=-1"] {
            assert_eq!(part(&headers(&[("range", text)]), 0, validators("\"a\"")), Unsatisfiable, "{text}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_answered_in_full() {
        let ask = |etag: &str, condition: &str| {
            part(&headers(&[("range", "bytes=1-2"), ("if-range", condition)]), 10, validators(etag)) != Part::Whole
        };
        assert!(ask("\"a\"", "\"a\""));
        assert!(ask("\"a\"", DATE));
        assert!(!ask("\"a\"", "\"b\""));
        assert!(!ask("\"a\"", EARLIER));
        assert!(!ask("\"a\"", "nonsense"));
        assert!(!ask("W/\"a\"", "W/\"a\""));
        assert!(!ask("W/\"a\"", DATE), "what is not proven by the tag is not proven by the date");
    }
}
