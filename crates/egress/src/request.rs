//! From what a guest asks for to what goes on the wire.
//!
//! A guest chooses its headers, and a connection serves more than one request: nothing it writes may make the server see
//! another number of requests than we do.

use base::{Body, field_tokens, strip_hop_by_hop};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Uri, Version};
use http_body::Body as _;

use crate::{Error, Origin};

/// Makes the request fit for a connection to `origin`: its path alone as target, `Host` from the origin, one
/// Content-Length that the body can keep, HTTP/1.1.
pub(crate) fn prepare(request: &mut Request<Body>, origin: &Origin) -> Result<(), Error> {
    if *request.method() == Method::CONNECT {
        return Err(Error::InvalidRequest("CONNECT asks for a tunnel".to_owned()));
    }
    let size = request.body().size_hint().exact();
    let length = content_length(request.headers())?;
    if let (Some(length), Some(size)) = (length, size)
        && length != size
    {
        return Err(Error::InvalidRequest(format!("Content-Length is {length}, the body has {size} bytes")));
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    *request.version_mut() = Version::HTTP_11;

    let host = HeaderValue::try_from(origin.authority()).map_err(|error| Error::Internal(error.into()))?;
    let headers = request.headers_mut();
    let trailers = wants_trailers(headers);
    strip_hop_by_hop(headers);
    headers.insert(header::HOST, host);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if trailers {
        // TE is for this connection only, and `Connection` has to say so (RFC 9110, 10.1.4).
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(())
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    field_tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// The length the guest promises. hyper writes what it finds, so two that differ must not get there.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
        let Some(value) = digits.and_then(|text| text.parse::<u64>().ok()) else {
            return Err(Error::InvalidRequest("Content-Length is not a number".to_owned()));
        };
        if length.is_some_and(|length| length != value) {
            return Err(Error::InvalidRequest("two values of Content-Length differ".to_owned()));
        }
        length = Some(value);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(headers: &[(&str, &str)], body: Body) -> Result<Request<Body>, Error> {
        let mut request = Request::builder().method("POST").uri("http://example.com:81/a?b=c");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).expect("a request");
        let origin = Origin::of(request.uri()).expect("an origin");
        prepare(&mut request, &origin).map(|()| request)
    }

    #[test]
    fn what_is_for_one_connection_goes_no_further() {
        let request = prepared(
            &[
                ("host", "other.example"),
                ("connection", "close, X-One"),
                ("connection", "x-two, host, content-length"),
                ("keep-alive", "timeout=5"),
                ("te", "gzip, trailers"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("proxy-authorization", "secret"),
                ("proxy-connection", "keep-alive"),
                ("x-one", "1"),
                ("x-two", "2"),
                ("x-three", "3"),
            ],
            Body::Empty,
        )
        .expect("a good request");
        assert_eq!(request.uri(), "/a?b=c");
        let mut left: Vec<_> = request.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("text"))).collect();
        left.sort();
        assert_eq!(left, ["connection: te", "host: example.com:81", "te: trailers", "x-three: 3"]);
    }

    #[test]
    fn the_length_is_one_number_and_true() {
        let full = || Body::from(bytes::Bytes::from_static(b"abc"));
        let same = prepared(&[("content-length", "3"), ("content-length", "3")], full()).expect("the same twice");
        assert_eq!(same.headers().get_all("content-length").iter().count(), 1);
        for (headers, body) in [
            (&[("content-length", "3"), ("content-length", "4")][..], full()),
            (&[("content-length", "4")], full()),
            (&[("content-length", "+3")], full()),
            (&[("content-length", "3, 3")], full()),
            (&[("content-length", "")], full()),
            (&[("content-length", "5")], Body::Empty),
        ] {
            assert!(matches!(prepared(headers, body), Err(Error::InvalidRequest(_))), "{headers:?}");
        }
    }

    #[test]
    fn a_tunnel_is_refused() {
        let mut request = Request::builder().method("CONNECT").uri("http://a/").body(Body::Empty).expect("a request");
        let origin = Origin::of(request.uri()).expect("an origin");
        assert!(matches!(prepare(&mut request, &origin), Err(Error::InvalidRequest(_))));
    }
}
