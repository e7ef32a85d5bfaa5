//! Whom a request is for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use crate::Error;

/// Longest name in DNS, in its text form (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// How to talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
    /// Bytes, whatever they mean.
    Tcp,
}

/// With whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address, written as one.
    Address(IpAddr),
    /// Anything else is a name: lower case, without the final dot. Also `127.1` and `2130706433`, which some resolvers take
    /// for addresses: as names their addresses are checked after the lookup.
    Name(Box<str>),
}

/// Scheme, host and port: what an allow-list decides on and what a connection belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// How.
    pub scheme: Scheme,
    /// Whom.
    pub host: Host,
    /// Where; never 0.
    pub port: u16,
}

impl Scheme {
    /// The port where nothing is said; 0 where there is none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            // None: an origin of this scheme always says its port.
            Self::Tcp => 0,
        }
    }

    /// The word before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
        }
    }
}

impl Host {
    /// Reads a host as it stands in a URI, IPv6 in brackets. None if it is neither an address nor a name DNS could know.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            return inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|address| Self::Address(address.into()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let good = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(known);
        (good && text.split('.').all(|label| !label.is_empty())).then(|| Self::Name(text.to_ascii_lowercase().into()))
    }
}

impl Origin {
    /// The origin a URI asks for.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUri`] and [`Error::UnsupportedScheme`].
    pub fn of(uri: &Uri) -> Result<Self, Error> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(other) => return Err(Error::UnsupportedScheme(other.to_owned())),
            None => return Err(Error::InvalidUri("it has no scheme".to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| Error::InvalidUri("it has no host".to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(Error::InvalidUri("credentials belong in a header".to_owned()));
        }
        let text = authority.host();
        let host = Host::parse(text).ok_or_else(|| Error::InvalidUri(format!("`{text}` is not a host")))?;
        // `Authority::port` has no value for a port that is not a number, which is not the same as no port.
        let port = match authority.as_str().strip_prefix(text) {
            Some("" | ":") => scheme.default_port(),
            Some(rest) => match rest.strip_prefix(':').and_then(|port| port.parse().ok()) {
                Some(port) if port != 0 => port,
                _ => return Err(Error::InvalidUri(format!("`{rest}` is not a port"))),
            },
            None => return Err(Error::InvalidUri("its authority cannot be read".to_owned())),
        };
        Ok(Self { scheme, host, port })
    }

    /// The origin of a socket: `host:port`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUri`].
    pub fn of_socket(address: &str) -> Result<Self, Error> {
        let wrong = || Error::InvalidUri(format!("`{address}` is not a host and a port"));
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = Host::parse(host).ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(Self { scheme: Scheme::Tcp, host, port })
    }

    /// What goes into `Host`: without the port if it is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_in_one_spelling() {
        for (uri, expected) in [
            ("http://Example.COM./a?b", "http://example.com:80"),
            ("https://example.com", "https://example.com:443"),
            ("http://example.com:/", "http://example.com:80"),
            ("http://[::1]:9000/", "http://[::1]:9000"),
            ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]:80"),
            ("http://127.0.0.1./", "http://127.0.0.1:80"),
            // Names, and so subject to the check of what they lead to.
            ("http://127.1/", "http://127.1:80"),
            ("http://0x7f.1/", "http://0x7f.1:80"),
            ("http://0177.0.0.1/", "http://0177.0.0.1:80"),
        ] {
            let uri = uri.parse().expect("a URI");
            assert_eq!(Origin::of(&uri).expect("an origin").to_string(), expected);
        }
        let address = |text: &str| matches!(Host::parse(text), Some(Host::Address(_)));
        assert!(address("127.0.0.1") && address("[::1]"));
        assert!(!address("127.1") && !address("2130706433") && !address("0177.0.0.1") && !address("0x7f000001"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for uri in [
            "/path",
            "http://a@b/",
            "http://host:99999/",
            "http://host:0/",
            "http://host:x/",
            "http://a..b/",
            "http://a%41/",
            "http://[v1.a]/",
        ] {
            // Some of these are no URI for the `http` crate either.
            if let Ok(uri) = uri.parse() {
                assert!(matches!(Origin::of(&uri), Err(Error::InvalidUri(_))), "{uri}");
            }
        }
        assert!(matches!(Origin::of(&"ftp://host/".parse().expect("a URI")), Err(Error::UnsupportedScheme(_))));
    }
}
