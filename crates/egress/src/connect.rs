//! From an origin to a connection: look up, check every address, connect to exactly what was checked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::{Body, BoxFuture};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::address::embedded_v4;
use crate::allow::is_localhost;
use crate::pool::{Connection, Shelf};
use crate::{Error, Host, Origin, Policy, Scheme};

/// Addresses of one name that are tried. Whoever owns a name decides how many it has; nobody needs more.
const ADDRESSES_MAX: usize = 8;

/// The least an address gets of the connect timeout while others wait; Go's dialer gives the same.
const ADDRESS_TIME_MIN: Duration = Duration::from_secs(2);

/// Bytes buffered per connection and direction. A response head must fit: twice what our own front takes.
const BUFFER_BYTES_MAX: usize = 128 * 1024;

/// Finds the addresses of a name.
pub trait Resolver: Send + Sync + 'static {
    /// Runs once for each new connection to a name, never for an address or `localhost`. It need not check anything: every
    /// address is checked before use. The future runs to its end even if nobody waits for it any more.
    fn resolve(&self, name: &str) -> BoxFuture<io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

pub(crate) struct Connector {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
    /// Never reached, whatever an allow-list says.
    own_listeners: RwLock<Vec<SocketAddr>>,
}

impl Connector {
    /// `roots` are trusted in addition to those of the web.
    pub(crate) fn new(resolver: Arc<dyn Resolver>, roots: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in roots {
            store.add(root).map_err(|error| Error::TlsCertificate(error.into()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Internal(error.into()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { resolver, tls: TlsConnector::from(Arc::new(config)), own_listeners: RwLock::default() })
    }

    pub(crate) fn forbid(&self, address: SocketAddr) {
        self.own_listeners.write().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    /// Whether a connection for `origin` may lead to `address`.
    pub(crate) fn allows(&self, policy: &Policy, origin: &Origin, address: SocketAddr) -> bool {
        policy.allow.allows_address(origin, address.ip()) && !self.is_own(address, None)
    }

    /// A connection for `origin` that speaks HTTP, by `deadline`.
    pub(crate) async fn connect(
        &self,
        shelf: &Shelf,
        policy: &Policy,
        origin: &Origin,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let (tcp, address) = self.socket(shelf, policy, origin, deadline).await?;
        if origin.scheme == Scheme::Https {
            let secured = tokio::time::timeout_at(deadline, self.tls.connect(server_name(&origin.host)?, tcp));
            let secured = secured.await.map_err(|_| Error::ConnectionTimeout)?.map_err(Error::from_tls)?;
            return handshake(TokioIo::new(secured), address).await;
        }
        handshake(TokioIo::new(tcp), address).await
    }

    /// A socket that is connected for `origin`, and to where, by `deadline`.
    pub(crate) async fn socket(
        &self,
        shelf: &Shelf,
        policy: &Policy,
        origin: &Origin,
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Error> {
        let found = tokio::time::timeout_at(deadline, self.addresses(shelf, origin));
        let found = found.await.map_err(|_| Error::ConnectionTimeout)??;
        let allowed: Vec<_> = found
            .iter()
            .map(|address| SocketAddr::new(*address, origin.port))
            .filter(|address| self.allows(policy, origin, *address))
            .take(ADDRESSES_MAX)
            .collect();
        if allowed.is_empty() && !found.is_empty() {
            return Err(prohibited(origin, found[0]));
        }
        let tcp = dial(&allowed, deadline).await?;
        let address = tcp.peer_addr().map_err(Error::from_connect)?;
        let local = tcp.local_addr().map_err(Error::from_connect)?;
        if self.is_own(address, Some(local.ip())) {
            return Err(prohibited(origin, address.ip()));
        }
        // Requests are written whole; waiting to fill a segment only adds latency. A socket that refuses still works.
        let _ = tcp.set_nodelay(true);
        Ok((tcp, address))
    }

    async fn addresses(&self, shelf: &Shelf, origin: &Origin) -> Result<Vec<IpAddr>, Error> {
        let name = match &origin.host {
            Host::Address(address) => return Ok(vec![*address]),
            // Not looked up, so that nobody can say that it is elsewhere.
            Host::Name(name) if is_localhost(name) => return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
            Host::Name(name) => name,
        };
        let permit = Arc::clone(&shelf.lookups).acquire_owned().await.map_err(|error| Error::Internal(error.into()))?;
        let lookup = self.resolver.resolve(name);
        // A lookup on a thread of its own cannot be stopped, so its permit stays with it when the guest has gone.
        let lookup = tokio::spawn(async move {
            let found = lookup.await;
            drop(permit);
            found
        });
        let found = lookup.await.map_err(|error| Error::Internal(error.into()))?.map_err(Error::Dns)?;
        if found.is_empty() {
            return Err(Error::Dns(io::Error::new(io::ErrorKind::NotFound, "an empty answer")));
        }
        Ok(found)
    }

    /// Whether one of our own listeners is at `address`. A listener on every address of this machine is recognised on
    /// loopback, and elsewhere by `local`: a connection from a machine to itself has the same address at both ends.
    fn is_own(&self, address: SocketAddr, local: Option<IpAddr>) -> bool {
        let ip = embedded_v4(address.ip()).map_or(address.ip(), IpAddr::V4);
        let own = self.own_listeners.read().unwrap_or_else(PoisonError::into_inner);
        own.iter().filter(|own| own.port() == address.port()).any(|own| {
            let own = own.ip().to_canonical();
            own == ip || (own.is_unspecified() && (ip.is_loopback() || local.is_some_and(|local| local.to_canonical() == ip)))
        })
    }
}

fn prohibited(origin: &Origin, address: IpAddr) -> Error {
    Error::AddressProhibited(format!("{origin} leads to {address}, which no outbound entry allows"))
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Error> {
    match host {
        Host::Address(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(String::from(&**name)).map_err(|error| Error::Tls(error.into())),
    }
}

/// Tries the addresses in turn. Each gets its share of what is left, so that one that swallows packets leaves time for
/// the next.
async fn dial(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Error> {
    let mut failed = Error::ConnectionTimeout;
    for (n, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let shares = u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
        let share = (deadline.saturating_duration_since(now) / shares).max(ADDRESS_TIME_MIN);
        failed = match tokio::time::timeout_at(deadline.min(now + share), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Error::from_connect(error),
            Err(_) => Error::ConnectionTimeout,
        };
    }
    Err(failed)
}

async fn handshake<T>(io: T, address: SocketAddr) -> Result<Connection, Error>
where
    T: Read + Write + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES_MAX);
    let (sender, connection) = builder.handshake::<_, Body>(io).await.map_err(Error::from_exchange)?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %address, "an outbound connection ended");
        }
    });
    Ok(Connection { sender, address, task: task.abort_handle() })
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("response head", size(BUFFER_BYTES_MAX));
        assert_documented("addresses of one name that are tried", ADDRESSES_MAX);
    }
}
