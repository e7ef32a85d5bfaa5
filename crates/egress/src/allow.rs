//! The allow-list: whom a module may call.
//!
//! An operator writes names; what they lead to is decided elsewhere and can change. So an entry with a name grants the name
//! and nothing about addresses: only global ones pass. An entry with an address or a block grants these addresses, and no
//! name. A name that leads into a private network needs both, and then both were said by the operator. The one exception is
//! `localhost`, which cannot mean anything but loopback.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::address::{is_forbidden, is_global};
use crate::{Host, Origin, Scheme};

/// Entries of the form `scheme://host[:port]`; what no entry allows is denied.
///
/// | part | forms |
/// | --- | --- |
/// | scheme | `http`, `https`, `*` for both, `tcp` for a socket |
/// | host | `api.example.com` · `*.example.com`, any name below, not the name itself · `*`, any public host · `10.1.2.3` · `10.0.0.0/8` · `[::1]` · `[fd00::/8]` |
/// | port | a number · `*` · the scheme's own where nothing is said |
///
/// Addresses that are not global are reached only through an entry with an address or a block, or with the name
/// `localhost`. Metadata services are not reached at all.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    rules: Vec<Rule>,
}

/// An entry that cannot be read: one sentence that names it and says what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError(String);

#[derive(Clone, Debug)]
struct Rule {
    text: Box<str>,
    /// None for both of HTTP's.
    scheme: Option<Scheme>,
    host: HostPattern,
    port: PortPattern,
}

#[derive(Clone, Debug, PartialEq)]
enum HostPattern {
    Any,
    Name(Box<str>),
    /// With its dot.
    Below(Box<str>),
    Block(IpNet),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PortPattern {
    Any,
    Default,
    Number(u16),
}

impl AllowList {
    /// Reads the entries of a configuration. No entries deny everything.
    ///
    /// # Errors
    ///
    /// The first entry that cannot be read.
    pub fn parse(entries: &[String]) -> Result<Self, RuleError> {
        let rules = entries.iter().map(|entry| entry.parse()).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// The first check, before anything is looked up: whether an entry fits this origin.
    pub fn allows(&self, origin: &Origin) -> bool {
        self.fitting(origin).any(|rule| match (&rule.host, &origin.host) {
            (HostPattern::Any, Host::Name(_)) => true,
            (HostPattern::Any, Host::Address(address)) => is_global(*address),
            (HostPattern::Name(pattern), Host::Name(name)) => pattern == name,
            (HostPattern::Below(suffix), Host::Name(name)) => name.len() > suffix.len() && name.ends_with(&**suffix),
            (HostPattern::Block(block), Host::Address(address)) => block.contains(address),
            (HostPattern::Block(_), Host::Name(_)) | (HostPattern::Name(_) | HostPattern::Below(_), Host::Address(_)) => false,
        })
    }

    /// The second check: whether a connection for an origin that passed the first may go to this address.
    pub fn allows_address(&self, origin: &Origin, address: IpAddr) -> bool {
        let named = |rule: &Rule| match &rule.host {
            HostPattern::Block(block) => block.contains(&address),
            HostPattern::Name(name) => is_localhost(name) && address.is_loopback() && origin.host == Host::Name(name.clone()),
            HostPattern::Any | HostPattern::Below(_) => false,
        };
        !is_forbidden(address) && (is_global(address) || self.fitting(origin).any(named))
    }

    /// The entries for this scheme and port.
    fn fitting(&self, origin: &Origin) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| {
            rule.scheme.map_or(origin.scheme != Scheme::Tcp, |scheme| scheme == origin.scheme)
                && match rule.port {
                    PortPattern::Any => true,
                    PortPattern::Default => origin.port == origin.scheme.default_port(),
                    PortPattern::Number(port) => port == origin.port,
                }
        })
    }
}

/// The name that stands for loopback without being looked up (RFC 6761, 6.3).
pub(crate) fn is_localhost(name: &str) -> bool {
    name == "localhost"
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let wrong = |why: &str| RuleError(format!("the outbound entry `{text}` {why}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong("has no scheme: write `scheme://host[:port]`, as in `https://api.example.com`"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            "tcp" => Some(Scheme::Tcp),
            "*" => None,
            _ => return Err(wrong("has an unknown scheme: write `http`, `https`, `*` for both, or `tcp` for a socket")),
        };
        // What a browser's address bar shows ends with a slash.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let split_at = rest.find(']').map_or_else(|| rest.find(':'), |end| Some(end + 1).filter(|at| *at < rest.len()));
        let (host, port) = split_at.map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])));
        let port = match port.map(|port| port.strip_prefix(':').unwrap_or("")) {
            None if scheme == Some(Scheme::Tcp) => {
                return Err(wrong("has no port: write `tcp://host:port`, or `*` for any port"));
            }
            None => PortPattern::Default,
            Some("*") => PortPattern::Any,
            Some(number) => match number.parse() {
                Ok(port) if port != 0 => PortPattern::Number(port),
                _ => return Err(wrong("has no good port: write a number from 1 to 65535, or `*` for any")),
            },
        };
        let host = HostPattern::parse(host).map_err(|why| wrong(&why))?;
        Ok(Self { text: text.into(), scheme, host, port })
    }
}

impl HostPattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let inner = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        if let Ok(block) = inner.unwrap_or(text).parse::<IpNet>() {
            if block.trunc() != block {
                return Err(format!("has an address in place of a block: did you mean `{}`?", block.trunc()));
            }
            return if inner.is_some() == block.addr().is_ipv6() {
                Ok(Self::Block(block))
            } else {
                Err(HOST_EXPECTED.to_owned())
            };
        }
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        match Host::parse(name) {
            Some(Host::Address(address)) if is_forbidden(address) => {
                Err("can never be reached: it is a metadata service or names no host".to_owned())
            }
            Some(Host::Address(address)) if !below => Ok(Self::Block(address.into())),
            Some(Host::Name(name)) if looks_like_address(&name) => {
                Err("has a number in place of a host: write an IPv4 address as four decimal numbers".to_owned())
            }
            Some(Host::Name(name)) if below => Ok(Self::Below(format!(".{name}").into())),
            Some(Host::Name(name)) => Ok(Self::Name(name)),
            _ => Err(HOST_EXPECTED.to_owned()),
        }
    }
}

const HOST_EXPECTED: &str = "has no good host: write a name, `*.` and a name, `*`, an address or a block such as \
                             `10.0.0.0/8` or `[fd00::/8]`, without a path";

/// Resolvers read these as addresses (`127.1`, `0x7f000001`), so as a name in an entry they are a mistake.
fn looks_like_address(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || last.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, rule) in self.rules.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { ", " }, rule.text)?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RuleError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        AllowList::parse(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>()).expect("good entries")
    }

    fn origin(uri: &str) -> Origin {
        Origin::of(&uri.parse().expect("a URI")).expect("an origin")
    }

    #[test]
    fn an_entry_allows_what_it_says_and_no_more() {
        for (entry, uri, expected) in [
            ("https://api.example.com", "https://api.example.com/path", true),
            ("https://api.example.com", "https://API.example.com.:443/", true),
            ("https://api.example.com/", "https://api.example.com/", true),
            ("HTTPS://API.example.com", "https://api.example.com/", true),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "http://api.example.com:443/", false),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com", "https://example.com/", false),
            ("https://api.example.com", "https://api.example.com.evil.net/", false),
            ("https://*.example.com", "https://a.example.com/", true),
            ("https://*.example.com", "https://a.b.example.com/", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://badexample.com/", false),
            ("http://localhost:8080", "http://localhost:8080/", true),
            ("http://localhost:8080", "http://localhost/", false),
            ("http://localhost:8080", "http://127.0.0.1:8080/", false),
            ("http://localhost:8080", "http://a.localhost:8080/", false),
            ("http://localhost", "http://localhost:80/", true),
            ("http://127.0.0.1:*", "http://127.0.0.1:12345/", true),
            ("http://127.0.0.1:*", "http://127.0.0.2:12345/", false),
            ("http://127.0.0.1:*", "http://[::ffff:127.0.0.1]:1/", false),
            ("http://127.0.0.1:*", "http://127.1:1/", false),
            ("http://127.0.0.1:*", "http://localhost:1/", false),
            ("http://[::1]:9000", "http://[0:0::1]:9000/", true),
            ("http://[::1]:9000", "http://[::2]:9000/", false),
            ("http://10.0.0.0/8:8080", "http://10.255.0.1:8080/", true),
            ("http://10.0.0.0/8:8080", "http://11.0.0.1:8080/", false),
            ("http://10.0.0.0/8:8080", "http://10.0.0.1/", false),
            ("http://10.0.0.0/8:8080", "http://internal:8080/", false),
            ("http://[fd00::/8]", "http://[fd12::1]/", true),
            ("http://[fd00::/8]", "http://[fe80::1]/", false),
            ("*://host:*", "http://host:1/", true),
            ("*://host:*", "https://host:2/", true),
            ("*://host", "https://host/", true),
            ("*://host", "http://host:443/", false),
            ("http://*", "http://example.com/", true),
            ("http://*", "http://8.8.8.8/", true),
            ("http://*", "http://example.com:81/", false),
            ("http://*", "https://example.com/", false),
            ("http://*", "http://10.0.0.1/", false),
            ("http://*", "http://127.0.0.1/", false),
            ("http://*", "http://[::1]/", false),
            ("*://*:*", "https://example.com:8443/", true),
        ] {
            assert_eq!(list(&[entry]).allows(&origin(uri)), expected, "{entry} {uri}");
        }
        assert!(!list(&[]).allows(&origin("https://example.com/")));
    }

    #[test]
    fn an_address_passes_when_it_is_global_or_named() {
        for (entries, uri, address, expected) in [
            (&["http://name"][..], "http://name/", "8.8.8.8", true),
            (&["http://name"], "http://name/", "127.0.0.1", false),
            (&["http://name"], "http://name/", "::ffff:8.8.8.8", false),
            (&["http://*"], "http://name/", "10.0.0.1", false),
            (&["http://*"], "http://2130706433/", "127.0.0.1", false),
            (&["http://*"], "http://localhost/", "127.0.0.1", false),
            (&["http://*:*"], "http://localhost/", "::1", false),
            (&["http://name", "http://10.0.0.0/8"], "http://name/", "10.0.0.1", true),
            (&["http://name", "http://10.0.0.0/8:81"], "http://name/", "10.0.0.1", false),
            (&["http://name", "https://10.0.0.0/8:80"], "http://name/", "10.0.0.1", false),
            (&["http://name", "http://10.0.0.1"], "http://name/", "10.0.0.2", false),
            (&["http://localhost"], "http://localhost/", "127.0.0.1", true),
            (&["http://localhost"], "http://localhost/", "::1", true),
            (&["http://localhost"], "http://localhost/", "10.0.0.1", false),
            (&["http://localhost", "http://name"], "http://name/", "127.0.0.1", false),
            (&["http://a.localhost"], "http://a.localhost/", "127.0.0.1", false),
            (&["http://169.254.0.0/16"], "http://169.254.169.254/", "169.254.169.254", false),
            (&["http://0.0.0.0/0"], "http://0.0.0.0/", "0.0.0.0", false),
            (&["http://[::/0]"], "http://[::ffff:a9fe:a9fe]/", "::ffff:169.254.169.254", false),
            (&["http://[::/0]"], "http://[::1]/", "::1", true),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(list(entries).allows_address(&origin(uri), address), expected, "{entries:?} {uri} {address}");
        }
    }

    #[test]
    fn a_bad_entry_is_named_and_explained() {
        for (entry, expected) in [
            ("*", "has no scheme"),
            ("", "has no scheme"),
            ("api.example.com", "has no scheme"),
            ("localhost:8080", "has no scheme"),
            ("ftp://host", "has an unknown scheme"),
            ("tcp://host", "has no port"),
            ("http://", "has no good host"),
            ("http://host/path", "has no good host"),
            ("http://user@host", "has no good host"),
            ("http://a*b", "has no good host"),
            ("http://*.", "has no good host"),
            ("http://*.*", "has no good host"),
            ("http://*.127.0.0.1", "has no good host"),
            ("http://::1", "has no good port"),
            ("http://[::1", "has no good port"),
            ("http://[127.0.0.1]", "has no good host"),
            ("http://fd00::/8", "has no good port"),
            ("http://[fd00::]/8", "has no good port"),
            ("http://10.0.0.0/33", "has no good host"),
            ("http://10.1.2.3/8", "did you mean `10.0.0.0/8`?"),
            ("http://host:", "has no good port"),
            ("http://host:0", "has no good port"),
            ("http://host:65536", "has no good port"),
            ("http://host:80:80", "has no good port"),
            ("http://2130706433", "four decimal numbers"),
            ("http://0x7f.1", "four decimal numbers"),
            ("http://127.0x1", "four decimal numbers"),
            ("http://169.254.169.254", "can never be reached"),
            ("http://[::ffff:169.254.169.254]", "can never be reached"),
            ("http://0.0.0.0:80", "can never be reached"),
        ] {
            let error = AllowList::parse(&[entry.to_owned()]).expect_err(entry).to_string();
            assert!(error.contains(expected) && error.contains(&format!("`{entry}`")), "{error}");
        }
    }

    #[test]
    fn a_list_prints_as_it_was_written() {
        assert_eq!(list(&["http://A", "*://*:*"]).to_string(), "http://A, *://*:*");
    }
}
