//! Why a request got no response.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use base::BodyError;

type Source = Box<dyn StdError + Send + Sync>;

/// Why [`Egress::send`](crate::Egress::send) gave no response. What happens after the head travels in the body, as a
/// [`BodyError`].
///
/// The variants are as fine as the error codes of `wasi:http`. Messages may hold addresses of the operator's network: they
/// are for logs; a guest is told the variant.
#[derive(Debug)]
pub enum Error {
    /// The allow-list has no entry for this origin.
    Denied(String),
    /// The name is allowed, the address it leads to is not.
    AddressProhibited(String),
    /// The name has no address.
    Dns(io::Error),
    /// Nobody listens there.
    ConnectionRefused(io::Error),
    /// No way there, or no socket to go with.
    Unreachable(io::Error),
    /// No connection in time: the lookup, TCP and TLS together.
    ConnectionTimeout,
    /// The connection ended before the response head.
    ConnectionTerminated(Source),
    /// The server's certificate is not one we trust for that name.
    TlsCertificate(Source),
    /// TLS failed for another reason.
    Tls(Source),
    /// The server was silent for too long before its response head.
    FirstByteTimeout,
    /// The server's answer is not HTTP/1.1.
    Protocol(Source),
    /// The request's body failed, or is shorter than its Content-Length.
    RequestBody(Source),
    /// The request is not one that can be sent; the reason.
    InvalidRequest(String),
    /// The URI has no authority, a bad host, or credentials; the reason.
    InvalidUri(String),
    /// Not `http` or `https`.
    UnsupportedScheme(String),
    /// Fornax failed.
    Internal(Source),
}

impl Error {
    /// An error of a connection on which a request was sent.
    pub(crate) fn from_exchange(error: hyper::Error) -> Self {
        let of_body = error.source().is_some_and(|source| source.is::<BodyError>());
        if error.is_body_write_aborted() || (error.is_user() && of_body) {
            Self::RequestBody(error.into())
        } else if error.is_user() {
            Self::Internal(error.into())
        } else if error.is_parse() {
            Self::Protocol(error.into())
        } else {
            Self::ConnectionTerminated(error.into())
        }
    }

    /// An error of a TCP connect.
    pub(crate) fn from_connect(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused(error),
            io::ErrorKind::TimedOut => Self::ConnectionTimeout,
            _ => Self::Unreachable(error),
        }
    }

    /// An error of a TLS handshake.
    pub(crate) fn from_tls(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Self::TlsCertificate(error.into())
            }
            Some(_) => Self::Tls(error.into()),
            None => Self::ConnectionTerminated(error.into()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(origin) => write!(f, "no outbound entry allows {origin}"),
            Self::AddressProhibited(what) => f.write_str(what),
            Self::Dns(_) => f.write_str("the host's name has no address"),
            Self::ConnectionRefused(_) => f.write_str("the connection was refused"),
            Self::Unreachable(_) => f.write_str("the host cannot be reached"),
            Self::ConnectionTimeout => f.write_str("no connection in time"),
            Self::ConnectionTerminated(_) => f.write_str("the connection ended before the response"),
            Self::TlsCertificate(_) => f.write_str("the server's certificate is not trusted"),
            Self::Tls(_) => f.write_str("the TLS handshake failed"),
            Self::FirstByteTimeout => f.write_str("no response in time"),
            Self::Protocol(_) => f.write_str("the response is not HTTP/1.1"),
            Self::RequestBody(_) => f.write_str("the request's body failed"),
            Self::InvalidRequest(why) => write!(f, "the request cannot be sent: {why}"),
            Self::InvalidUri(why) => write!(f, "the URI cannot be used: {why}"),
            Self::UnsupportedScheme(scheme) => write!(f, "the scheme `{scheme}` is not http or https"),
            Self::Internal(_) => f.write_str("sending the request failed"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Dns(source) | Self::ConnectionRefused(source) | Self::Unreachable(source) => Some(source),
            Self::ConnectionTerminated(source)
            | Self::TlsCertificate(source)
            | Self::Tls(source)
            | Self::Protocol(source)
            | Self::RequestBody(source)
            | Self::Internal(source) => Some(source.as_ref()),
            Self::Denied(_)
            | Self::AddressProhibited(_)
            | Self::ConnectionTimeout
            | Self::FirstByteTimeout
            | Self::InvalidRequest(_)
            | Self::InvalidUri(_)
            | Self::UnsupportedScheme(_) => None,
        }
    }
}
