//! What is noted of a request when its answer has been sent: a line of the access log, and the numbers of the pages.
//!
//! Both are written when the body is dropped, which is when its last byte was handed over or its client left; so a line says
//! how many bytes there were, and a time how long it took. Where neither is wanted, there is nothing of this.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base::{Counted, Counts, Looked, Route, Target};
use http::header::{self, HeaderMap, HeaderName};
use http::{Request, Version};

use crate::http::date;

/// Of a request's target, and of a field that a client may fill as it likes: a line stays short enough for whatever reads it.
const TARGET_BYTES_MAX: usize = 4 << 10;
const FIELD_BYTES_MAX: usize = 1 << 10;

/// The status of a request whose client left before there was one; what others write, too.
const CLIENT_LEFT: u16 = 499;

/// One request, until its answer has been sent.
#[derive(Debug)]
pub(crate) struct Seen {
    began: Instant,
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
    /// What the cache had for it.
    pub(crate) cache: Option<Looked>,
    line: Option<Line>,
    counted: Option<(Arc<Counts>, Option<Arc<Route>>)>,
}

/// What the access log says of a request.
#[derive(Debug)]
struct Line {
    client: IpAddr,
    at: SystemTime,
    request: String,
    referer: String,
    user_agent: String,
}

impl Default for Seen {
    fn default() -> Self {
        Self { began: Instant::now(), status: CLIENT_LEFT, body_bytes: 0, cache: None, line: None, counted: None }
    }
}

impl Seen {
    /// Begins a line of the access log.
    pub(crate) fn by<B>(client: IpAddr, request: &Request<B>) -> Self {
        let mut line = String::new();
        quote(&mut line, request.method().as_str().as_bytes(), TARGET_BYTES_MAX);
        line.push(' ');
        let (target, version) = match (request.version(), request.uri().path_and_query()) {
            // In pieces on the way; what its reader knows is the path.
            (Version::HTTP_2, Some(path)) => (path.to_string(), " HTTP/2.0"),
            (Version::HTTP_2, None) => (request.uri().to_string(), " HTTP/2.0"),
            (Version::HTTP_10, _) => (request.uri().to_string(), " HTTP/1.0"),
            _ => (request.uri().to_string(), " HTTP/1.1"),
        };
        quote(&mut line, target.as_bytes(), TARGET_BYTES_MAX);
        line.push_str(version);
        let line = Line {
            client: client.to_canonical(),
            at: SystemTime::now(),
            request: line,
            referer: field(request.headers(), &header::REFERER),
            user_agent: field(request.headers(), &header::USER_AGENT),
        };
        let mut seen = Self::default();
        seen.line = Some(line);
        seen
    }

    /// Counts the request here; of no route where none was found.
    pub(crate) fn count(&mut self, counts: Arc<Counts>, route: Option<Arc<Route>>) {
        self.counted = Some((counts, route));
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if let Some((counts, route)) = &self.counted {
            let route = route.as_ref().map(|route| (route.path.as_str(), matches!(route.target, Target::Modules(_))));
            counts.count(Counted { route, cache: self.cache, status: self.status, time: self.began.elapsed() });
        }
        if let Some(line) = &self.line {
            tracing::info!(target: "access", "{}", line.text(self.status, self.body_bytes));
        }
    }
}

impl Line {
    /// Apache's combined form.
    fn text(&self, status: u16, body_bytes: u64) -> String {
        let Self { client, at, request, referer, user_agent } = self;
        let bytes = if body_bytes == 0 { "-".to_owned() } else { body_bytes.to_string() };
        format!("{client} - - [{}] \"{request}\" {status} {bytes} \"{referer}\" \"{user_agent}\"", date::apache(*at))
    }
}

/// The first value of a field, or `-`.
fn field(headers: &HeaderMap, name: &HeaderName) -> String {
    let mut text = String::new();
    quote(&mut text, headers.get(name).map_or(b"-", |value| value.as_bytes()), FIELD_BYTES_MAX);
    text
}

/// Adds what can stand between quotes in one line: a client must not be able to end either.
fn quote(text: &mut String, bytes: &[u8], bytes_max: usize) {
    for byte in &bytes[..bytes.len().min(bytes_max)] {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            // Writing to a String does not fail.
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    if bytes.len() > bytes_max {
        text.push_str("...");
    }
}

/// How long a request took, for people: `1.5ms`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let text = format!("{:.3}", duration.as_secs_f64() * 1e9 / unit);
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(request: Request<()>) -> String {
        let client = "::ffff:10.1.2.3".parse().expect("an address");
        let seen = Seen::by(client, &request);
        let mut line = seen.line.as_ref().map(|line| line.text(200, 12)).expect("a line");
        let (from, to) = (line.find('[').expect("a date"), line.find(']').expect("a date"));
        line.replace_range(from + 1..to, "now");
        line
    }

    #[test]
    fn a_line_has_the_combined_form() {
        let request = Request::get("/a?b=c").header("referer", "http://x/").header("user-agent", "curl/8");
        let expected = "10.1.2.3 - - [now] \"GET /a?b=c HTTP/1.1\" 200 12 \"http://x/\" \"curl/8\"";
        assert_eq!(line(request.body(()).expect("a request")), expected);
        let request = Request::builder().method("HEAD").uri("/").version(Version::HTTP_10);
        let expected = "10.1.2.3 - - [now] \"HEAD / HTTP/1.0\" 200 12 \"-\" \"-\"";
        assert_eq!(line(request.body(()).expect("a request")), expected);
        let request = Request::builder().uri("https://a.example/a?b").version(Version::HTTP_2);
        let expected = "10.1.2.3 - - [now] \"GET /a?b HTTP/2.0\" 200 12 \"-\" \"-\"";
        assert_eq!(line(request.body(()).expect("a request")), expected);
    }

    #[test]
    fn a_client_cannot_write_lines_of_its_own() {
        let nasty = http::HeaderValue::from_bytes(b"a\" 200 1 \"\\ \t\xc3\xbc").expect("a value");
        let request = Request::get("/%0a\"x").header("user-agent", nasty).header("referer", "r".repeat(5000));
        let line = line(request.body(()).expect("a request"));
        assert!(line.contains("\"GET /%0a\\\"x HTTP/1.1\""), "{line}");
        assert!(line.ends_with(r#" "a\" 200 1 \"\\ \x09\xc3\xbc""#), "{line}");
        assert!(line.contains(&format!("\"{}...\"", "r".repeat(FIELD_BYTES_MAX))), "{line}");
    }

    #[test]
    fn durations_are_short() {
        for (nanos, text) in
            [(0, "0s"), (999, "999ns"), (1_500, "1.5µs"), (2_000_000, "2ms"), (1_234_567, "1.235ms"), (90_000_000_000, "90s")]
        {
            assert_eq!(duration_text(Duration::from_nanos(nanos)), text);
        }
    }
}
