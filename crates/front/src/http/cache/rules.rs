//! What HTTP lets a shared cache do (RFC 9111), in two questions: may a stored answer be given to this request, and may this
//! answer be stored, for how long.
//!
//! Where the RFC leaves a choice, or a field cannot be read, the answer is no: a call too many costs time, an answer too
//! many shows one client what was meant for another. Nothing is ever given when it is stale.

use std::time::{Duration, SystemTime};

use base::field_tokens;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, response};

/// Fields of a request that ask for something only the module can judge. With `Authorization` an answer may be one person's.
const BYPASS: [HeaderName; 5] =
    [header::AUTHORIZATION, header::RANGE, header::IF_RANGE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE];

/// Names in `Vary`: more is no choice among representations but none.
const VARY_MAX: usize = 16;

/// How old a stored answer may be for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    max_age: Option<Duration>,
    min_fresh: Duration,
}

impl Wish {
    /// Reads a request; none where it must reach the module.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if !reads || BYPASS.iter().any(|name| headers.contains_key(name)) {
            return None;
        }
        let directives = Directives::of(headers)?;
        if directives.has("no-cache") || directives.has("no-store") {
            return None;
        }
        if !headers.contains_key(header::CACHE_CONTROL) && headers.contains_key(header::PRAGMA) {
            // HTTP/1.0's `no-cache`, which is the only thing the field ever said.
            return None;
        }
        let max_age = directives.seconds("max-age");
        if max_age == Some(Duration::ZERO) {
            return None;
        }
        Some(Self { max_age, min_fresh: directives.seconds("min-fresh").unwrap_or_default() })
    }

    /// Whether an answer of this age that is good for so much longer will do.
    pub(super) fn allows(self, age: Duration, left: Duration) -> bool {
        self.max_age.is_none_or(|max_age| age <= max_age) && left >= self.min_fresh
    }
}

/// For how long an answer may be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// Its age when it came.
    pub(super) age: Duration,
    /// From now on; more than 0.
    pub(super) left: Duration,
}

/// Whether answers of this status may be stored at all (RFC 9110, 15.1, less 206).
pub(super) fn is_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 404 | 405 | 410 | 414 | 501)
}

/// Judges an answer to a GET without `Authorization`: `ttl` is what the route allows, which the answer may only shorten.
pub(super) fn freshness(head: &response::Parts, ttl: Duration, now: SystemTime) -> Option<Freshness> {
    let headers = &head.headers;
    if !is_cacheable(head.status) || headers.contains_key(header::SET_COOKIE) || headers.contains_key(header::CONTENT_RANGE) {
        return None;
    }
    let directives = Directives::of(headers)?;
    if ["no-store", "no-cache", "private"].iter().any(|name| directives.has(name)) {
        return None;
    }
    let age = match headers.get(header::AGE) {
        None => Duration::ZERO,
        Some(value) => Duration::from_secs(value.to_str().ok()?.trim().parse().ok()?),
    };
    let lifetime = match directives.seconds("s-maxage").or_else(|| directives.seconds("max-age")) {
        None if headers.contains_key(header::EXPIRES) => expires_in(headers, now),
        lifetime => lifetime,
    };
    let left = lifetime.map_or(ttl, |lifetime| lifetime.saturating_sub(age).min(ttl));
    (!left.is_zero()).then_some(Freshness { age, left })
}

/// The fields that an answer depends on, sorted; none where it depends on more than fields.
pub(super) fn vary(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    if !is_readable(headers, &header::VARY) {
        return None;
    }
    let mut names = Vec::new();
    for token in field_tokens(headers, &header::VARY).filter(|token| !token.is_empty()) {
        if token == "*" || names.len() == VARY_MAX {
            return None;
        }
        names.push(token.parse::<HeaderName>().ok()?);
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Some(names)
}

/// `Expires` less `Date`; at once where it is no date, as `0` is not.
fn expires_in(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = |name| headers.get(name).and_then(|value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let from = date(header::DATE).unwrap_or(now);
    Some(date(header::EXPIRES).and_then(|at: SystemTime| at.duration_since(from).ok()).unwrap_or_default())
}

fn is_readable(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().all(|value| value.to_str().is_ok())
}

/// `Cache-Control`.
struct Directives<'a>(&'a HeaderMap);

impl<'a> Directives<'a> {
    /// None where the field cannot be read.
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        is_readable(headers, &header::CACHE_CONTROL).then_some(Self(headers))
    }

    /// Each name and what follows its `=`. A comma inside of quotes cuts too: what comes out of that is seen as directives of
    /// its own, which can only forbid or shorten.
    fn all(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        field_tokens(self.0, &header::CACHE_CONTROL).map(|token| match token.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (token, None),
        })
    }

    fn has(&self, name: &str) -> bool {
        self.all().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The smallest number of seconds that is said; what is no number is none left.
    fn seconds(&self, name: &str) -> Option<Duration> {
        let values = self.all().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let seconds = |value: Option<&str>| {
            let text = value.unwrap_or_default().trim_matches('"');
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // RFC 9111, 1.2.2: what is too large is very long.
            if is_number { text.parse().unwrap_or(u64::from(u32::MAX)) } else { 0 }
        };
        values.map(|(_, value)| Duration::from_secs(seconds(value))).min()
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    const TTL: Duration = Duration::from_secs(600);

    fn wish(method: &str, fields: &[(&str, &str)]) -> Option<Wish> {
        let mut request = Request::builder().method(method);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Wish::of(&request.body(()).expect("a request"))
    }

    #[test]
    fn requests_say_whether_a_stored_answer_will_do() {
        let any = Some(Wish { max_age: None, min_fresh: Duration::ZERO });
        for (method, fields, expected) in [
            ("GET", &[][..], any),
            ("HEAD", &[], any),
            ("GET", &[("cookie", "a=1"), ("if-none-match", "\"a\"")], any),
            ("GET", &[("cache-control", "max-stale, only-if-cached")], any),
            ("POST", &[], None),
            ("OPTIONS", &[], None),
            ("GET", &[("authorization", "Basic x")], None),
            ("GET", &[("range", "bytes=0-1")], None),
            ("GET", &[("if-match", "*")], None),
            ("GET", &[("if-unmodified-since", "x")], None),
            ("GET", &[("cache-control", "no-cache")], None),
            ("GET", &[("cache-control", "foo, NO-STORE")], None),
            ("GET", &[("cache-control", "foo"), ("cache-control", "no-store")], None),
            ("GET", &[("cache-control", "max-age=0")], None),
            ("GET", &[("cache-control", "max-age=x")], None),
            ("GET", &[("pragma", "no-cache")], None),
        ] {
            assert_eq!(wish(method, fields), expected, "{method} {fields:?}");
        }
        let picky = wish("GET", &[("cache-control", "max-age=10, min-fresh=\"5\"")]).expect("a wish");
        let seconds = Duration::from_secs;
        assert!(picky.allows(seconds(10), seconds(5)));
        assert!(!picky.allows(seconds(11), seconds(5)) && !picky.allows(seconds(10), seconds(4)));
        let mut odd = Request::new(());
        odd.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_bytes(b"\xff").expect("a value"));
        assert_eq!(Wish::of(&odd), None);
    }

    fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(()).expect("a response").into_parts().0
    }

    #[test]
    fn answers_say_whether_and_how_long_they_may_be_given_again() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (fields, expected_s) in [
            (&[][..], Some(600)),
            (&[("cache-control", "public")], Some(600)),
            (&[("cache-control", "max-age=60")], Some(60)),
            (&[("cache-control", "max-age=\"60\"")], Some(60)),
            (&[("cache-control", "max-age=6000")], Some(600)),
            (&[("cache-control", "max-age=99999999999999999999")], Some(600)),
            (&[("cache-control", "max-age=60, s-maxage=30")], Some(30)),
            (&[("cache-control", "s-maxage=90"), ("cache-control", "max-age=0")], Some(90)),
            (&[("cache-control", "max-age=60, max-age=5")], Some(5)),
            (&[("cache-control", "max-age=60"), ("age", "20")], Some(40)),
            (&[("cache-control", "max-age=60"), ("age", "60")], None),
            (&[("age", "20")], Some(600)),
            (&[("age", "old")], None),
            (&[("cache-control", "max-age=0")], None),
            (&[("cache-control", "max-age=soon")], None),
            (&[("cache-control", "max-age")], None),
            (&[("cache-control", "max-age=-1")], None),
            (&[("cache-control", "No-Store")], None),
            (&[("cache-control", "no-cache=\"x-a\"")], None),
            (&[("cache-control", "max-age=60, private")], None),
            (&[("cache-control", "private=\"x-a, x-b\"")], None),
            (&[("set-cookie", "a=1")], None),
            (&[("content-range", "bytes 0-1/2")], None),
            (&[("date", date), ("expires", "Sun, 06 Nov 1994 08:49:47 GMT")], Some(10)),
            (&[("date", date), ("expires", date)], None),
            (&[("expires", "0")], None),
            (&[("expires", "0"), ("cache-control", "max-age=60")], Some(60)),
        ] {
            let found = freshness(&head(200, fields), TTL, SystemTime::now()).map(|freshness| freshness.left.as_secs());
            assert_eq!(found, expected_s, "{fields:?}");
        }
        for status in [200, 203, 204, 300, 301, 404, 405, 410, 414, 501] {
            assert!(freshness(&head(status, &[]), TTL, SystemTime::now()).is_some(), "{status}");
        }
        for status in [201, 206, 302, 303, 304, 307, 400, 401, 403, 429, 500, 502, 503] {
            let explicit = head(status, &[("cache-control", "public, max-age=60")]);
            assert_eq!(freshness(&explicit, TTL, SystemTime::now()), None, "{status}");
        }
    }

    #[test]
    fn vary_names_fields_or_forbids() {
        let names = |fields: &[(&str, &str)]| {
            vary(&head(200, fields).headers).map(|names| names.iter().map(HeaderName::to_string).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]), Some(vec![]));
        let expected = vec!["accept".to_owned(), "accept-language".to_owned()];
        assert_eq!(names(&[("vary", "Accept-Language, accept,"), ("vary", "ACCEPT")]), Some(expected));
        assert_eq!(names(&[("vary", "accept, *")]), None);
        assert_eq!(names(&[("vary", "not a name")]), None);
        assert_eq!(names(&[("vary", &(0..17).map(|n| format!("x-{n},")).collect::<String>())]), None);
    }
}
