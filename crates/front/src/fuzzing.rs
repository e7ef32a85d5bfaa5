//! What is true of any bytes: for the targets of `fuzz/`, and for tests of a few seconds over inputs made of the same corpus.
//!
//! Each function takes what somebody else made of chance, and panics where something is not as it must be.

use std::net::SocketAddr;
use std::sync::Arc;

use base::{About, Found, Kind, Page, PageKind, Pattern, Route, RouteTable, Target};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Uri, header};

use crate::http::forwarded::Origin;
use crate::http::head::Framing;
use crate::http::router::host_of;

/// Routes of one table: enough for any two of them to stand in each other's way.
const ROUTES_MAX: usize = 64;

/// The bytes of a connection say the same however they are cut into reads, and once a request is ambiguous no other byte changes that.
///
/// # Panics
///
/// If not.
pub fn head(bytes: &[u8]) {
    let mut whole = Framing::default();
    whole.read(bytes);
    let mut singly = Framing::default();
    let mut ambiguous_at = None;
    for byte in bytes.chunks(1) {
        singly.read(byte);
        assert!(ambiguous_at.is_none() || ambiguous_at == singly.ambiguous_at(), "it was {ambiguous_at:?}: {singly:?}");
        ambiguous_at = singly.ambiguous_at();
    }
    assert_eq!(format!("{whole:?}"), format!("{singly:?}"), "byte by byte");
    // The pieces are as long as the bytes say that they are cut from.
    let (mut cut, mut rest) = (Framing::default(), bytes);
    while let Some(first) = rest.first() {
        let (piece, behind) = rest.split_at(usize::from(*first).clamp(1, rest.len()));
        cut.read(piece);
        rest = behind;
    }
    assert_eq!(format!("{whole:?}"), format!("{cut:?}"), "in pieces");
}

/// Lines: a request target, a `Host`, then routes, `PATH` or `HOST PATH`. A host that is taken is one; a path is answered by a route
/// that fits it, and by nobody only where none fits.
///
/// # Panics
///
/// If not.
pub fn router(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let host = host(target, lines.next().unwrap_or_default()).unwrap_or_default();
    let path = Uri::try_from(target).map(|uri| uri.path().to_owned()).unwrap_or_default();
    let routes: Vec<_> = lines.filter_map(|line| route(str::from_utf8(line).ok()?)).take(ROUTES_MAX).collect();
    let fits: Vec<_> = routes.iter().map(|route| fits(route, &host, &path)).collect();
    let table = match RouteTable::build(routes) {
        Ok(table) => table,
        Err(error) => return assert!(error.to_string().contains("match the same paths"), "{error}"),
    };
    match table.find(&host, &path, &Method::GET) {
        Found::Route(found) => {
            let at = table.routes().iter().position(|route| Arc::ptr_eq(route, found)).expect("a route of the table");
            assert!(fits[at], "{found:?} does not fit {host} {path}");
            let (to_module, below) = found.path.split(&path);
            assert_eq!(format!("{to_module}{below}"), path);
            assert!(below.is_empty() || below.starts_with('/'), "{below} of {path} by {found:?}");
            assert!(
                found.path.parameters(&path).all(|(name, value)| !name.is_empty() && !value.is_empty() && path.contains(value))
            );
        }
        Found::Nothing => assert!(!fits.contains(&true), "one of {:?} fits {host} {path}", table.routes()),
        Found::OtherMethods(methods) => panic!("all methods are as good, and not {methods:?}"),
    }
}

/// The host of a request, where it is one and has one.
fn host(target: &[u8], host: &[u8]) -> Option<String> {
    let mut request = Request::new(());
    *request.uri_mut() = Uri::try_from(target).ok()?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_bytes(host).ok()?);
    let origin = Origin { client: SocketAddr::from(([127, 0, 0, 1], 1)), scheme: Scheme::HTTP, is_told: false };
    match host_of(&request, &origin, &base::ClientLimits::default()) {
        Ok(host) => {
            assert!(!host.is_empty() && host.is_ascii() && !host.contains(['@', '/', ' ', '\\', '?', '#']), "the host {host:?}");
            Some(host.to_owned())
        }
        Err(error) => {
            assert!(matches!(error.kind, Kind::BadRequest | Kind::UriTooLong), "{error:?}");
            None
        }
    }
}

fn route(line: &str) -> Option<Route> {
    let (host, path) = line.split_once(' ').map_or((None, line), |(host, path)| (Some(host.to_owned()), path));
    let path = match Pattern::parse(path) {
        Ok(path) => path,
        Err(error) => {
            assert!(error.to_string().contains("the path `"), "{error}");
            return None;
        }
    };
    let page = Page { kind: PageKind::Health, tenant: "t".into() };
    let target = Target::Page(Arc::new(page));
    Some(Route { host, path, methods: Vec::new(), target, cache_ttl: None, about: About::default(), counts: None })
}

/// What the documentation says of a route, without a table.
fn fits(route: &Route, host: &str, path: &str) -> bool {
    let fits_host = route.host.as_ref().is_none_or(|pattern| {
        let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
        match pattern.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => pattern == host,
        }
    });
    let text = route.path.as_str();
    let (folder, is_folder) = text.strip_suffix("/*").map_or((text, false), |folder| (folder, true));
    let (pattern, path): (Vec<_>, Vec<_>) = (folder.split('/').skip(1).collect(), path.split('/').skip(1).collect());
    let fits_length = if is_folder { pattern.len() <= path.len() } else { pattern.len() == path.len() };
    let same = |(pattern, segment): (&&str, &&str)| pattern == segment || pattern.starts_with('{') && !segment.is_empty();
    fits_host && fits_length && pattern.iter().zip(&path).all(same)
}

#[cfg(test)]
mod tests {
    use testkit::each_mutation;

    #[test]
    fn framing_does_not_depend_on_how_a_stream_is_cut() {
        each_mutation("head", 20_000, super::head);
    }

    #[test]
    fn routes_and_hosts_are_as_documented_for_any_text() {
        each_mutation("router", 20_000, super::router);
    }
}
