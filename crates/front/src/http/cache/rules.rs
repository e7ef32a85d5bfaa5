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

/// What a number of seconds that is larger stands for (RFC 9111, 1.2.2): no sum of two is too large for a clock.
const SECONDS_MAX: u64 = 1 << 31;

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

/// Judges an answer to a GET without `Authorization`: `ttl` is what the route allows, which the answer may only shorten. It
/// bounds the age of what is given, so an answer that comes with an age has less of it left.
pub(super) fn freshness(head: &response::Parts, ttl: Duration, now: SystemTime) -> Option<Freshness> {
    let headers = &head.headers;
    if !is_cacheable(head.status) || headers.contains_key(header::SET_COOKIE) || headers.contains_key(header::CONTENT_RANGE) {
        return None;
    }
    let directives = Directives::of(headers)?;
    if ["no-store", "no-cache", "private"].iter().any(|name| directives.has(name)) {
        return None;
    }
    let date = match headers.get(header::DATE) {
        None => now,
        Some(value) => date_of(value)?,
    };
    let age = age(headers, date, now)?;
    let lifetime = match directives.seconds("s-maxage").or_else(|| directives.seconds("max-age")) {
        // At once where it is no date, as `0` is not.
        None => headers.get(header::EXPIRES).map(|at| {
            let at = date_of(at).unwrap_or(date);
            at.duration_since(date).unwrap_or_default()
        }),
        lifetime => lifetime,
    };
    let left = lifetime.map_or(ttl, |lifetime| lifetime.min(ttl)).saturating_sub(age);
    (!left.is_zero()).then_some(Freshness { age, left })
}

/// How old an answer is that comes now: what it says itself, or what its date says if that is more (RFC 9111, 4.2.3). None
/// where it cannot be read.
fn age(headers: &HeaderMap, date: SystemTime, now: SystemTime) -> Option<Duration> {
    let said = match headers.get(header::AGE) {
        None => 0,
        Some(value) => seconds_of(value.to_str().ok()?.trim())?,
    };
    // Dates have no fractions.
    let apparent = now.duration_since(date).unwrap_or_default().as_secs();
    Some(Duration::from_secs(said.max(apparent).min(SECONDS_MAX)))
}

fn date_of(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// A number of seconds; none where it is no number.
fn seconds_of(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
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
        let seconds = |value: Option<&str>| seconds_of(value.unwrap_or_default().trim_matches('"')).unwrap_or_default();
        values.map(|(_, value)| Duration::from_secs(seconds(value))).min()
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::assert_documented;
    use http::Response;

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("names in `vary`", VARY_MAX);
    }

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
        let now = httpdate::parse_http_date(date).expect("a date") + Duration::from_millis(900);
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
            (&[("cache-control", "max-age=6000"), ("age", "20")], Some(580)),
            (&[("age", "20")], Some(580)),
            (&[("age", "600")], None),
            (&[("age", "18446744073709551615")], None),
            (&[("age", "99999999999999999999999")], None),
            (&[("age", "+1")], None),
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
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT")], Some(590)),
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT"), ("age", "5"), ("cache-control", "max-age=60")], Some(50)),
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT"), ("age", "15"), ("cache-control", "max-age=60")], Some(45)),
            (&[("date", "Sun, 06 Nov 1994 08:48:37 GMT"), ("cache-control", "max-age=60")], None),
            (&[("date", "Sun, 06 Nov 1994 08:50:37 GMT"), ("cache-control", "max-age=60")], Some(60)),
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT"), ("expires", "Sun, 06 Nov 1994 08:49:47 GMT")], Some(10)),
            (&[("date", "yesterday")], None),
            (&[("expires", "0")], None),
            (&[("expires", "0"), ("cache-control", "max-age=60")], Some(60)),
        ] {
            let found = freshness(&head(200, fields), TTL, now).map(|freshness| freshness.left.as_secs());
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
