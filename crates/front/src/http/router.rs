//! Host, path, method → who shall answer.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::{ClientLimits, Error, Found, Kind, Picked, Quantity, Route, Snapshot};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Version, header};

use crate::http::forwarded::Origin;

/// The longest that is registered has 17 letters; a longer one is no method, and would be noted wherever methods are.
const METHOD_BYTES_MAX: usize = 64;

/// Who answers a request.
pub(crate) struct Way {
    pub(crate) picked: Picked,
    pub(crate) stored: Stored,
    /// The route, where its requests are counted.
    pub(crate) counted: Option<Arc<Route>>,
}

/// What a request has to do with answers that were given before.
pub(crate) enum Stored {
    /// Nothing.
    No,
    /// One no older than this may do.
    MayDo(Duration),
    /// They are of the past when the request has been answered: what this route has of the same address.
    Outdated(Arc<Route>),
}

/// Finds the way, or the error and, for 405, the methods that would do. The host is [`host_of`] the request.
pub(crate) fn route<B>(
    snapshot: &Snapshot,
    host: &str,
    request: &Request<B>,
    client: SocketAddr,
) -> Result<Way, (Error, Option<HeaderValue>)> {
    let path = request.uri().path();
    if !path.starts_with('/') || *request.method() == Method::CONNECT {
        // `CONNECT host:port` and `OPTIONS *` address the server, and it is neither a proxy nor a resource.
        return Err((Error::new(Kind::BadRequest, "the request target must be a path"), None));
    }
    match snapshot.routes.find(host, path, request.method()) {
        Found::Route(route) => Ok(Way {
            picked: route.pick(Some(client), rand_u64),
            stored: stored(snapshot, host, request, route),
            counted: route.counts.is_some().then(|| Arc::clone(route)),
        }),
        Found::Nothing => Err((Error::new(Kind::NotFound, "no route matches this host and path"), None)),
        Found::OtherMethods(methods) => {
            let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let error = Error::new(Kind::MethodNotAllowed, "no route for this path takes this method");
            Err((error, HeaderValue::try_from(allow).ok()))
        }
    }
}

/// A request whose method may change something (RFC 9110, 9.2.1) is about what a GET is answered with, by whichever route.
fn stored<B>(snapshot: &Snapshot, host: &str, request: &Request<B>, route: &Route) -> Stored {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) {
        return route.cache_ttl.map_or(Stored::No, Stored::MayDo);
    }
    match snapshot.routes.find(host, request.uri().path(), &Method::GET) {
        Found::Route(read) if read.cache_ttl.is_some() => Stored::Outdated(Arc::clone(read)),
        _ => Stored::No,
    }
}

/// The host without its port. Exactly one `Host`, well-formed; an absolute target, which is what HTTP/2 always has, must agree
/// with it (RFC 9112, 3.2; RFC 9113, 8.3.1).
pub(crate) fn host_of<'a, B>(request: &'a Request<B>, origin: &Origin, limits: &ClientLimits) -> Result<&'a str, Error> {
    let scheme = &origin.scheme;
    let bad = |text: &'static str| Error::new(Kind::BadRequest, text);
    let size = |bytes: u32| Quantity::Bytes(Some(bytes.into()));
    let target = request.uri().path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > limits.target_bytes as usize {
        return Err(Error::new(Kind::UriTooLong, format!("the request target is longer than {}", size(limits.target_bytes))));
    }
    // hyper's own bound is that of its buffer, which it may overshoot.
    if request.version() == Version::HTTP_2 {
        is_as_http1_has_it(request).map_err(bad)?;
    }
    if !target.is_ascii() {
        return Err(bad("the request target must be ASCII: other characters are percent-encoded"));
    }
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if fields > limits.fields_bytes as usize {
        return Err(Error::new(
            Kind::HeadersTooLarge,
            format!("the request's fields are larger than {}", size(limits.fields_bytes)),
        ));
    }
    // hyper holds HTTP/1 to it by itself.
    if request.headers().len() > limits.fields as usize {
        return Err(Error::new(Kind::HeadersTooLarge, format!("the request has more than {} fields", limits.fields)));
    }
    if request.method().as_str().len() > METHOD_BYTES_MAX {
        return Err(bad("the request method is longer than 64 bytes"));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(value), None) = (hosts.next(), hosts.next()) else {
        return Err(bad("a request must have exactly one Host header"));
    };
    let text = value.to_str().map_err(|_| bad("the Host header is not valid"))?;
    if !is_host_and_port(text) {
        return Err(bad("the Host header is not valid"));
    }
    // What a trusted proxy has told by a field need not be what it speaks itself.
    let is_same = |one: &Scheme, other: &Scheme| one.as_str().eq_ignore_ascii_case(other.as_str());
    let is_known = |named: &Scheme| {
        is_same(named, scheme) || origin.is_told && (is_same(named, &Scheme::HTTP) || is_same(named, &Scheme::HTTPS))
    };
    if request.uri().scheme().is_some_and(|named| !is_known(named)) {
        return Err(bad("the request target names another scheme than the one it came by"));
    }
    if let Some(authority) = request.uri().authority()
        && !without_default_port(authority.as_str(), scheme).eq_ignore_ascii_case(without_default_port(text, scheme))
    {
        return Err(bad("the request target and the Host header name different hosts"));
    }
    Ok(without_port(text))
}

/// What HTTP/1 cannot say, and h2 lets pass (RFC 9113, 8.2.1 and 8.3.1; RFC 9110, 8.6).
fn is_as_http1_has_it<B>(request: &Request<B>) -> Result<(), &'static str> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if request.uri().path_and_query().is_some_and(|target| !target.as_str().starts_with(['/', '*'])) {
        return Err("the request target must be a path");
    }
    if request.headers().values().map(HeaderValue::as_bytes).any(|value| is_blank(value.first()) || is_blank(value.last())) {
        return Err("a field's value begins or ends with a blank");
    }
    if request.headers().get_all(header::CONTENT_LENGTH).iter().any(HeaderValue::is_empty) {
        return Err("the length of the body is no number");
    }
    Ok(())
}

fn is_host_and_port(text: &str) -> bool {
    let host = without_port(text);
    let port = text[host.len()..].strip_prefix(':');
    is_host(host)
        && port
            .is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok()))
}

/// An address, or a name as DNS has them. RFC 3986 allows more, which no name has and somebody may take for something else.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    let name = host.strip_suffix('.').unwrap_or(host);
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_inner))
}

fn without_default_port<'a>(authority: &'a str, scheme: &Scheme) -> &'a str {
    authority.strip_suffix(if *scheme == Scheme::HTTPS { ":443" } else { ":80" }).unwrap_or(authority)
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // The colons of an IPv6 literal are inside its brackets.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

fn rand_u64() -> u64 {
    // Spreading calls needs no more than a well-mixed number, which ids are.
    base::RequestId::next().as_u64()
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("request method", size(METHOD_BYTES_MAX));
    }

    fn by(scheme: &Scheme, is_told: bool) -> Origin {
        Origin { client: SocketAddr::from(([192, 0, 2, 1], 1)), scheme: scheme.clone(), is_told }
    }

    fn of<'a>(request: &'a Request<()>, origin: &Origin) -> Result<&'a str, Error> {
        host_of(request, origin, &ClientLimits::default())
    }

    fn host(uri: &str, hosts: &[&str]) -> Result<String, Kind> {
        host_by(&Scheme::HTTP, uri, hosts)
    }

    fn host_by(scheme: &Scheme, uri: &str, hosts: &[&str]) -> Result<String, Kind> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        of(&request.body(()).expect("a request"), &by(scheme, false)).map(str::to_owned).map_err(|error| error.kind)
    }

    #[test]
    fn exactly_one_good_host_is_needed() {
        assert_eq!(host("/", &["example.com"]).as_deref(), Ok("example.com"));
        assert_eq!(host("/", &["example.com:8080"]).as_deref(), Ok("example.com"));
        assert_eq!(host("/", &["[::1]:8080"]).as_deref(), Ok("[::1]"));
        assert_eq!(host("/", &["[::1]"]).as_deref(), Ok("[::1]"));
        assert_eq!(host("/", &["[::ffff:127.0.0.1]"]).as_deref(), Ok("[::ffff:127.0.0.1]"));
        assert_eq!(host("/", &["a_b.example.:8080"]).as_deref(), Ok("a_b.example."));
        assert_eq!(host("http://a.example/x", &["A.example"]).as_deref(), Ok("A.example"));
        assert_eq!(host("http://a.example:80/x", &["a.example"]).as_deref(), Ok("a.example"));
        assert_eq!(host("/", &["a:"]).as_deref(), Ok("a"), "an empty port is the default one (RFC 3986, 3.2.3)");
        for bad in [
            &[][..],
            &["a", "b"],
            &["a b"],
            &[""],
            &["user@a"],
            &["a/b"],
            &["a:b"],
            &["a:99999"],
            &[":80"],
            &["[::1]:x"],
            &["[::1]x"],
            &["[::1"],
            &["::1"],
            &["[]"],
            &["[::g]"],
            &["[1.2.3.4]"],
            &["[v1.a]"],
            &["[fe80::1%25lo]"],
            &["a,b"],
            &["a;b"],
            &["*"],
            &["a..b"],
            &[".a"],
            &["."],
            &["a%41"],
            &["a:+1"],
            &["a:-1"],
        ] {
            assert_eq!(host("/", bad), Err(Kind::BadRequest), "{bad:?}");
        }
        assert_eq!(host("http://a.example/x", &["b.example"]), Err(Kind::BadRequest));
        assert_eq!(host("https://a.example/x", &["a.example"]), Err(Kind::BadRequest));
        let large = Request::builder().uri("/").header(header::HOST, "a").header("x", "v".repeat(65 << 10));
        let many = (0..100).fold(Request::builder().uri("/").header(header::HOST, "a"), |many, _| many.header("x", "v"));
        for too_large in [large, many] {
            let error = of(&too_large.body(()).expect("a request"), &by(&Scheme::HTTP, false)).expect_err("too large");
            assert_eq!(error.kind, Kind::HeadersTooLarge);
        }
        assert_eq!(host(&format!("/{}", "a".repeat(9000)), &["a"]), Err(Kind::UriTooLong));
    }

    #[test]
    fn a_target_names_the_scheme_it_came_by() {
        let host = |uri, hosts: &[&str]| host_by(&Scheme::HTTPS, uri, hosts);
        assert_eq!(host("/", &["a.example"]).as_deref(), Ok("a.example"));
        assert_eq!(host("https://a.example/x", &["a.example"]).as_deref(), Ok("a.example"));
        assert_eq!(host("https://a.example:443/x", &["a.example"]).as_deref(), Ok("a.example"));
        assert_eq!(host("https://a.example:80/x", &["a.example"]), Err(Kind::BadRequest));
        assert_eq!(host("http://a.example/x", &["a.example"]), Err(Kind::BadRequest));
        for (uri, expected) in
            [("http://a.example/", Ok("a.example")), ("https://a.example/", Ok("a.example")), ("ftp://a.example/", Err(()))]
        {
            let request = Request::get(uri).header(header::HOST, "a.example").body(()).expect("a request");
            assert_eq!(of(&request, &by(&Scheme::HTTPS, true)).map_err(|_| ()), expected, "told by a proxy: {uri}");
        }
    }
}
