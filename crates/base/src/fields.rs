//! HTTP fields that are meant for one connection only.

use http::header::{self, HeaderMap, HeaderName};

/// Meant for one connection, whether `Connection` says so or not (RFC 9110, 7.6.1; the first two are older).
static HOP_BY_HOP: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what is meant for one connection only, on the way in as on the way out.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of it.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    // Only what is there: the list may be long.
    let there = field_tokens(headers, &header::CONNECTION).filter(|name| headers.contains_key(*name));
    let named: Vec<HeaderName> = there.filter_map(|name| name.parse().ok()).collect();
    // These frame the body or are ours: naming them in `Connection` must not make them disappear.
    for name in named.iter().filter(|name| **name != header::CONTENT_LENGTH && **name != header::HOST) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The comma-separated tokens of every field called `name`.
pub fn field_tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(fields: &[(&'static str, &str)]) -> Vec<String> {
        let name = |name: &'static str| HeaderName::from_static(name);
        let mut headers: HeaderMap = fields.iter().map(|(known, value)| (name(known), value.parse().expect("a value"))).collect();
        strip_hop_by_hop(&mut headers);
        headers.keys().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn what_is_meant_for_one_connection_goes_no_further() {
        for name in &HOP_BY_HOP {
            let mut headers = HeaderMap::from_iter([(name.clone(), "x".parse().expect("a value"))]);
            strip_hop_by_hop(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
        assert_eq!(stripped(&[("host", "a"), ("x-a", "1")]), ["host", "x-a"]);
        assert_eq!(stripped(&[("connection", "close, X-A , host,content-length, b@d,"), ("x-a", "1"), ("host", "a")]), ["host"]);
        assert_eq!(stripped(&[("connection", &"x-a,".repeat(10_000)), ("x-a", "1"), ("x-b", "2")]), ["x-b"]);
    }
}
