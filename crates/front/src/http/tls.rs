//! The certificate that is shown to clients, and what is agreed with them.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a client may choose from, best first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The protocol of [`PROTOCOLS`] that is HTTP/2.
pub(super) const HTTP2: &[u8] = PROTOCOLS[0];

/// A certificate and its key, in service. A clone is the same one.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

/// Why two files are no certificate and key.
#[derive(Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// There is no certificate in the one.
    NoCertificate,
    /// One of the certificates cannot be read.
    BadCertificate(String),
    /// There is no private key in the other.
    NoKey,
    /// The key cannot be read, or is of a kind nobody signs with.
    BadKey(String),
    /// The key is another certificate's.
    OtherKey,
}

impl Tls {
    /// Reads both from PEM: a certificate with those that lead to its authority behind it, and its private key.
    ///
    /// # Errors
    ///
    /// See [`TlsFault`].
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsFault> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| TlsFault::BadCertificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(TlsFault::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsFault::NoKey,
            error => TlsFault::BadKey(error.to_string()),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsFault::BadKey(error.to_string()))?.with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsFault::OtherKey,
            rustls::Error::InvalidCertificate(error) => TlsFault::BadCertificate(error.to_string()),
            error => TlsFault::BadKey(error.to_string()),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self(Arc::new(ArcSwap::from_pointee(config))))
    }

    /// Shows what `other` shows, from the next connection on.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Agrees with a client. It is its own business if that fails.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.0.load_full()).accept(stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
