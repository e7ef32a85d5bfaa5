//! Who a request is from, and by which scheme it was sent, where a proxy stands in front.
//!
//! Behind a proxy every connection is the proxy's, so what it says of its client must count; but anybody can write the same
//! fields, and a proxy passes on what its client wrote. So they count from proxies the operator names, and from nobody else;
//! of a list only what trusted proxies wrote counts, which is its end: it is read from the right up to the first address that
//! is not a trusted proxy's. What else there is does not reach a guest either, since many programs read the left end.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) say the same, and most proxies write one and pass on the other untouched.
//! Which one that is nobody knows here; so where both are there and differ, the request is refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base::{Error, Kind};
use http::Request;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use ipnet::IpNet;

const X_FORWARDED: &str = "x-forwarded-";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who may say for whom a request is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// Those with an address in one of `blocks`.
    pub fn new(blocks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(blocks.into_iter().collect())
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(&address))
    }
}

/// Where a request is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Who sent it; port 0 where that is not known.
    pub(crate) client: SocketAddr,
    /// By what it was sent.
    pub(crate) scheme: Scheme,
    /// A trusted proxy's word: its connection may be by another scheme.
    pub(crate) is_told: bool,
}

impl Origin {
    /// Reads and removes what proxies say. `peer` and `scheme` are those of the connection.
    pub(crate) fn of<B>(request: &mut Request<B>, peer: SocketAddr, scheme: Scheme, proxies: &Proxies) -> Result<Self, Error> {
        // Of a socket for both versions, an address of version 4 is told as what it is.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !proxies.has(peer.ip()) {
            remove(request.headers_mut(), |_| true);
            return Ok(Self { client: peer, scheme, is_told: false });
        }
        let named = request.uri().scheme().and_then(|named| known(named.as_str()));
        let headers = request.headers_mut();
        // No proxy writes it so.
        remove(headers, |name| name.as_str().contains('_'));
        let forwarded = Chain::forwarded(headers, peer, proxies)?;
        let x_forwarded = Chain::x_forwarded(headers, peer, proxies);
        let chain = match (forwarded, x_forwarded) {
            // Also where only one of them says by what scheme: that one may be the client's.
            (Some(one), Some(other)) if one.client.ip() != other.client.ip() || one.scheme != other.scheme => {
                return Err(Error::new(Kind::BadRequest, "`Forwarded` and `X-Forwarded-For` or `X-Forwarded-Proto` differ"));
            }
            (Some(one), Some(_)) => one,
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => Chain { client: peer, scheme: None },
        };
        let scheme = chain.scheme.or(named).unwrap_or(scheme);
        if headers.contains_key(X_FORWARDED_PROTO) {
            // What a client wrote in front of it is not for the guest to read.
            set(headers, X_FORWARDED_PROTO, &[scheme.as_str().to_owned()]);
        }
        Ok(Self { client: chain.client, scheme, is_told: true })
    }
}

/// What one of the two ways of saying it says.
struct Chain {
    client: SocketAddr,
    scheme: Option<Scheme>,
}

impl Chain {
    fn x_forwarded(headers: &mut HeaderMap, peer: SocketAddr, proxies: &Proxies) -> Option<Self> {
        if !headers.contains_key(X_FORWARDED_FOR) && !headers.contains_key(X_FORWARDED_PROTO) {
            return None;
        }
        let list = |name| -> Vec<String> {
            let values = headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            values.flat_map(|value| value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()).collect()
        };
        let (hops, schemes) = (list(X_FORWARDED_FOR), list(X_FORWARDED_PROTO));
        let (client, written) = walk(hops.iter().map(|hop| node(hop)), peer, proxies);
        // Some proxies add a value for each hop, as there is an address for each; others leave the first one's.
        let at = schemes.len().saturating_sub(written.max(1));
        let scheme = schemes.get(at).and_then(|scheme| known(scheme));
        set(headers, X_FORWARDED_FOR, &hops[hops.len() - written..]);
        Some(Self { client, scheme })
    }

    fn forwarded(headers: &mut HeaderMap, peer: SocketAddr, proxies: &Proxies) -> Result<Option<Self>, Error> {
        if !headers.contains_key(header::FORWARDED) {
            return Ok(None);
        }
        let mut hops = Vec::new();
        for value in headers.get_all(header::FORWARDED) {
            let parts = value.to_str().ok().and_then(|text| split(text, ','));
            // A quote that its client left open could hide what the proxy wrote behind it.
            let parts = parts.ok_or_else(|| Error::new(Kind::BadRequest, "the `Forwarded` header is not valid"))?;
            hops.extend(parts.into_iter().filter(|hop| !hop.is_empty()).map(str::to_owned));
        }
        let (client, written) = walk(hops.iter().map(|hop| node(&parameter(hop, "for")?)), peer, proxies);
        let written = &hops[hops.len() - written..];
        let scheme = written.first().and_then(|hop| known(&parameter(hop, "proto")?));
        set(headers, header::FORWARDED, written);
        Ok(Some(Self { client, scheme }))
    }
}

/// Follows a chain from its right end, where the peer wrote, to who is no trusted proxy. Returns that client, and how many
/// elements trusted proxies have written. One without an address, such as `unknown`, hides whoever is behind it; then the
/// proxy that wrote it is the client.
fn walk(hops: impl DoubleEndedIterator<Item = Option<SocketAddr>>, peer: SocketAddr, proxies: &Proxies) -> (SocketAddr, usize) {
    let (mut client, mut written) = (peer, 0);
    for hop in hops.rev() {
        if !proxies.has(client.ip()) {
            break;
        }
        written += 1;
        match hop {
            Some(address) => client = address,
            None => break,
        }
    }
    (client, written)
}

fn known(scheme: &str) -> Option<Scheme> {
    [Scheme::HTTP, Scheme::HTTPS].into_iter().find(|known| known.as_str().eq_ignore_ascii_case(scheme))
}

/// The address of a node (RFC 7239, 6), or of one as it stands in `X-Forwarded-For`: with or without a port, IPv6 with or
/// without brackets. None for `unknown`, for a name such as `_hidden`, and for whatever else is no address.
fn node(text: &str) -> Option<SocketAddr> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?,
        None if text.matches(':').count() == 1 => text.split_once(':').map(|(host, port)| (host, Some(port)))?,
        None => (text, None),
    };
    let address: IpAddr = host.parse().ok()?;
    // A port may be a name as well, which says nothing.
    Some(SocketAddr::new(address.to_canonical(), port.and_then(|port| port.parse().ok()).unwrap_or(0)))
}

/// A parameter of an element of `Forwarded`, its quotes taken off.
fn parameter(element: &str, name: &str) -> Option<String> {
    let pairs = split(element, ';')?;
    let mut pairs = pairs.into_iter().filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(value.trim_matches('"').to_owned())
}

/// The trimmed parts of `text` between `separator`s that do not stand in quotes. None where a quote does not enclose a whole
/// value, or something in it is escaped, which no address, name or scheme needs.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut in_quotes, mut parts, mut from) = (false, Vec::new(), 0);
    for (at, c) in text.char_indices() {
        match c {
            '"' if in_quotes && !text[at + 1..].starts_with([';', ',', ' ', '\t']) && at + 1 < text.len() => return None,
            '"' if !in_quotes && !text[..at].ends_with('=') => return None,
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => return None,
            _ if c == separator && !in_quotes => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    (!in_quotes).then_some(parts)
}

/// Makes `elements` all there is of a list.
fn set(headers: &mut HeaderMap, name: HeaderName, elements: &[String]) {
    headers.remove(&name);
    if let (false, Ok(value)) = (elements.is_empty(), HeaderValue::from_str(&elements.join(", "))) {
        headers.insert(name, value);
    }
}

/// Removes the fields of proxies of which `unwanted` holds.
pub(crate) fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    // Most requests have none.
    if !headers.keys().any(is_of_proxies) {
        return;
    }
    let names: Vec<_> = headers.keys().filter(|name| is_of_proxies(name) && unwanted(name)).cloned().collect();
    for name in &names {
        headers.remove(name);
    }
}

/// Whether only a proxy has to say this. Where fields become variables, `-` and `_` are the same.
fn is_of_proxies(name: &HeaderName) -> bool {
    let is_prefix = |(a, b): (u8, u8)| a == b || a == b'_' && b == b'-';
    let begin = name.as_str().get(..X_FORWARDED.len());
    *name == header::FORWARDED || begin.is_some_and(|begin| begin.bytes().zip(X_FORWARDED.bytes()).all(is_prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1:9";

    /// What comes of these fields: client and scheme, and the fields that are left.
    fn told(peer: &str, uri: &str, fields: &[(&str, &str)]) -> Result<(String, Vec<String>), Kind> {
        let proxies = Proxies::new(["10.0.0.0/8", "fd00::/8"].map(|block| block.parse().expect("a block")));
        let mut request = Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let mut request = request.body(()).expect("a request");
        let peer = peer.parse().expect("an address");
        let origin = Origin::of(&mut request, peer, Scheme::HTTP, &proxies).map_err(|error| error.kind)?;
        let left = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        Ok((format!("{}://{}", origin.scheme, origin.client), request.headers().iter().map(left).collect()))
    }

    #[track_caller]
    fn assert_from(expected: &str, fields: &[(&str, &str)]) {
        assert_eq!(told(PROXY, "/", fields).map(|(from, _)| from).as_deref(), Ok(expected), "{fields:?}");
    }

    #[test]
    fn anybody_may_claim_anything_and_nothing_comes_of_it() {
        for peer in ["192.0.2.7:5", "[::ffff:192.0.2.7]:5"] {
            let fields = [
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "a"),
                ("x-forwarded-port", "1"),
                ("x-forwarded-anything", "1"),
                ("x_forwarded-for", "10.0.0.1"),
                ("forwarded", "for=\"10.0.0.1;proto"),
                ("x-other", "1"),
            ];
            assert_eq!(told(peer, "/", &fields), Ok(("http://192.0.2.7:5".to_owned(), vec!["x-other: 1".to_owned()])));
        }
    }

    #[test]
    fn the_client_is_the_last_who_is_no_trusted_proxy() {
        for (chain, expected, left) in [
            ("192.0.2.7", "192.0.2.7:0", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7", "192.0.2.7:0", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7 ,10.1.1.1,10.2.2.2", "192.0.2.7:0", "192.0.2.7, 10.1.1.1, 10.2.2.2"),
            ("10.3.3.3, 10.2.2.2", "10.3.3.3:0", "10.3.3.3, 10.2.2.2"),
            ("192.0.2.7:4711", "192.0.2.7:4711", "192.0.2.7:4711"),
            ("2001:db8::7", "[2001:db8::7]:0", "2001:db8::7"),
            ("[2001:db8::7]", "[2001:db8::7]:0", "[2001:db8::7]"),
            ("[2001:db8::7]:4711, ::ffff:10.1.1.1", "[2001:db8::7]:4711", "[2001:db8::7]:4711, ::ffff:10.1.1.1"),
            // What is no address ends the chain at whoever wrote it.
            ("192.0.2.7, unknown", PROXY, "unknown"),
            ("192.0.2.7, unix:/run/socket, 10.1.1.1", "10.1.1.1:0", "unix:/run/socket, 10.1.1.1"),
            ("192.0.2.7, 10.1.1.1:x", "192.0.2.7:0", "192.0.2.7, 10.1.1.1:x"),
            ("[2001:db8::7, 10.1.1.1", "10.1.1.1:0", "[2001:db8::7, 10.1.1.1"),
            // Quotes mean nothing here, so they hide nothing.
            ("\", 192.0.2.7", "192.0.2.7:0", "192.0.2.7"),
            ("\u{fc}, 192.0.2.7", "192.0.2.7:0", "192.0.2.7"),
        ] {
            let (from, fields) = told(PROXY, "/", &[("x-forwarded-for", chain)]).expect("an origin");
            assert_eq!(
                (from.as_str(), fields),
                (&*format!("http://{expected}"), vec![format!("x-forwarded-for: {left}")]),
                "{chain}"
            );
        }
        // Several fields are one list.
        assert_from("http://192.0.2.7:0", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.7")]);
        assert_from("http://192.0.2.7:0", &[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-for", "10.2.2.2")]);
        assert_from(&format!("http://{PROXY}"), &[]);
        let fields = [("x-forwarded-for", "192.0.2.7"), ("x_forwarded_for", "1.1.1.1"), ("x-forwarded-host", "a")];
        let (_, mut left) = told(PROXY, "/", &fields).expect("an origin");
        left.sort();
        assert_eq!(left, ["x-forwarded-for: 192.0.2.7", "x-forwarded-host: a"]);
    }

    #[test]
    fn forwarded_is_read_as_its_standard_says() {
        for (value, expected) in [
            ("for=192.0.2.7", "http://192.0.2.7:0"),
            ("For=\"[2001:db8:cafe::17]:4711\";Proto=HTTPS;by=203.0.113.43", "https://[2001:db8:cafe::17]:4711"),
            ("for=1.1.1.1;proto=http, for=192.0.2.7;proto=https, for=10.1.1.1;proto=http", "https://192.0.2.7:0"),
            ("host=a;for=192.0.2.7;proto=gopher", "http://192.0.2.7:0"),
            ("for=192.0.2.7, for=unknown;proto=https", "https://10.0.0.1:9"),
            ("for=192.0.2.7, for=_hidden, for=10.1.1.1", "http://10.1.1.1:0"),
            ("for=\"_gazonk\"", "http://10.0.0.1:9"),
            ("for=\"unix:\"", "http://10.0.0.1:9"),
            ("for=\"192.0.2.7:_port\"", "http://192.0.2.7:0"),
            ("for=\"fe80::1%eth0\"", "http://10.0.0.1:9"),
            ("proto=https", "https://10.0.0.1:9"),
            ("", "http://10.0.0.1:9"),
            (",,;", "http://10.0.0.1:9"),
        ] {
            assert_from(expected, &[("forwarded", value)]);
        }
        let (_, left) = told(PROXY, "/", &[("forwarded", "for=1.1.1.1, for=192.0.2.7;by=_a")]).expect("an origin");
        assert_eq!(left, ["forwarded: for=192.0.2.7;by=_a"]);
        // A client's quote that swallows what the proxy wrote.
        for value in [
            "for=6.6.6.6;x=\", for=192.0.2.7",
            "for=6.6.6.6;x=\", for=\"[2001:db8::7]:1\"",
            "for=6.6.6.6;x=\"\\, for=\"[2001:db8::7]\"",
            "for=6.6.6.6;x=\"\\\", for=192.0.2.7\"",
            "\"for=6.6.6.6",
        ] {
            assert_eq!(told(PROXY, "/", &[("forwarded", value)]), Err(Kind::BadRequest), "{value}");
        }
    }

    #[test]
    fn the_scheme_is_the_word_of_a_trusted_proxy() {
        let one = ("x-forwarded-for", "192.0.2.7");
        let two = ("x-forwarded-for", "192.0.2.7, 10.1.1.1");
        assert_from("https://192.0.2.7:0", &[one, ("x-forwarded-proto", "HTTPS")]);
        assert_from("https://192.0.2.7:0", &[two, ("x-forwarded-proto", "https, http")]);
        assert_from("https://192.0.2.7:0", &[two, ("x-forwarded-proto", "https")]);
        // The first value is of who wrote no address that counts.
        assert_from("http://192.0.2.7:0", &[one, ("x-forwarded-proto", "https, http")]);
        assert_from("http://192.0.2.7:0", &[one, ("x-forwarded-proto", "wss")]);
        assert_from("https://10.0.0.1:9", &[("x-forwarded-proto", "https")]);
        let by_target = told(PROXY, "https://a/", &[one]).map(|(from, _)| from);
        assert_eq!(by_target.as_deref(), Ok("https://192.0.2.7:0"));
        let field_first = told(PROXY, "https://a/", &[one, ("x-forwarded-proto", "http")]).map(|(from, _)| from);
        assert_eq!(field_first.as_deref(), Ok("http://192.0.2.7:0"));
        let of_nobody = told("192.0.2.7:5", "https://a/", &[]).map(|(from, _)| from);
        assert_eq!(of_nobody.as_deref(), Ok("http://192.0.2.7:5"));
    }

    #[test]
    fn two_ways_of_saying_it_must_agree() {
        let x = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
        assert_from("https://192.0.2.7:0", &[x[0], x[1], ("forwarded", "for=192.0.2.7;proto=https")]);
        for other in ["for=6.6.6.6", "for=unknown", "proto=https", "for=192.0.2.7;proto=http", "for=192.0.2.7"] {
            assert_eq!(told(PROXY, "/", &[x[0], x[1], ("forwarded", other)]), Err(Kind::BadRequest), "{other}");
        }
        // A client knows its own address, and a proxy need not say more than that.
        assert_from("http://192.0.2.7:0", &[x[0], ("forwarded", "for=192.0.2.7")]);
        assert_eq!(told(PROXY, "/", &[x[0], ("forwarded", "for=192.0.2.7;proto=https")]), Err(Kind::BadRequest));
    }
}
