//! Sending: check, find or make a connection, exchange.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Body, strip_hop_by_hop};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::{Download, Progress, Upload, server_silent};
use crate::connect::{Connector, Resolver, SystemResolver};
use crate::pool::{Bounds, Connection, Lease, Pool, Shelf};
use crate::request::prepare;
use crate::{AllowList, Error, Origin};

/// TCP sends its first packet again after 1, 3 and 7 s: whoever answered none of them in ten is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a call has by default until its own response head; waiting longer could help nobody.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);

/// Half the silence a guest may inflict on its own client, so that it has time left to say what happened.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(30);

/// A guest may ask for any duration; no call lives longer than this.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Who asks, and whom they may ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Connections are kept by tenant.
    pub tenant: Arc<str>,
    /// The entries of the module.
    pub allow: Arc<AllowList>,
}

/// The patience with one request; a default where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// For lookup, TCP and TLS together; 10 s.
    pub connect_timeout: Option<Duration>,
    /// From the moment the server has all there is to read until its response head; 30 s. While the guest is still
    /// producing its body, the server may wait with it.
    pub first_byte_timeout: Option<Duration>,
    /// For each part of the response body, while the guest waits for it; 30 s.
    pub between_bytes_timeout: Option<Duration>,
}

/// What an [`Egress`] is made with.
pub struct EgressOptions {
    /// Idle connections kept for one tenant and origin; 32, as many as a call may send requests.
    pub idle_per_host_max: usize,
    /// Idle connections kept for one tenant; 64, as many descriptors as a guest may have open. The oldest goes first.
    pub idle_per_tenant_max: usize,
    /// How long they are kept; 90 s, under the two minutes after which common servers and balancers close.
    pub idle_timeout: Duration,
    /// Our own listeners: see [`Egress::forbid`].
    pub forbidden: Vec<SocketAddr>,
    /// Authorities trusted in addition to those of the web.
    pub roots: Vec<CertificateDer<'static>>,
    /// Who knows addresses; the operating system.
    pub resolver: Arc<dyn Resolver>,
}

/// The way out. One per process; cheap to clone.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    connector: Connector,
    pool: Arc<Pool>,
}

impl Egress {
    /// A way out with nothing connected.
    ///
    /// # Errors
    ///
    /// [`Error::TlsCertificate`] if one of `roots` cannot be read.
    pub fn new(options: EgressOptions) -> Result<Self, Error> {
        let connector = Connector::new(options.resolver, options.roots)?;
        for address in options.forbidden {
            connector.forbid(address);
        }
        let pool = Arc::new(Pool::new(Bounds {
            idle_per_host_max: options.idle_per_host_max,
            idle_per_tenant_max: options.idle_per_tenant_max,
            idle_timeout: options.idle_timeout,
        }));
        Ok(Self(Arc::new(Inner { connector, pool })))
    }

    /// Makes a listener of our own unreachable, whatever an allow-list says: a guest that calls its host takes a second
    /// slot while it holds one. With `0.0.0.0` or `[::]` this is the port on every address of this machine.
    pub fn forbid(&self, address: SocketAddr) {
        self.0.connector.forbid(address);
    }

    /// Sends a request and returns the response as soon as its head is here.
    ///
    /// The URI must be absolute; `Host` comes from it. Headers for one connection are removed, both ways. Bodies stream,
    /// both ways at once; the request's trailers travel if its `Trailer` header names them. Redirects are returned, not
    /// followed. A `GET` or `HEAD` carries a body of unknown size only if it has a Content-Length. Dropping the future or
    /// the response closes the connection.
    ///
    /// Must be polled in a tokio runtime with IO and time; connections live as long as the runtime they were made in.
    ///
    /// # Errors
    ///
    /// See [`Error`]. In the body: [`base::BodyError::Timeout`] and [`base::BodyError::Broken`].
    pub async fn send<B>(&self, policy: &Policy, request: Request<B>, options: Options) -> Result<Response<Body>, Error>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut progress = None;
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                return Body::Empty;
            }
            let watched = progress.insert(Arc::new(Progress::new()));
            Body::stream(Upload::new(body, Arc::clone(watched)))
        });
        let origin = Origin::of(request.uri())?;
        if !policy.allow.allows(&origin) {
            return Err(Error::Denied(origin.to_string()));
        }
        prepare(&mut request, &origin)?;
        let shelf = self.0.pool.shelf(&policy.tenant);
        let sending = Sending { egress: &self.0, policy, shelf, origin: Arc::new(origin), progress, options };
        sending.send(request).await
    }
}

impl Egress {
    /// Connects a socket to `address`, a host and a port, by an entry with the scheme `tcp`. Lookup and addresses are
    /// checked as those of requests are.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn dial(&self, policy: &Policy, address: &str, connect_timeout: Option<Duration>) -> Result<TcpStream, Error> {
        let origin = Origin::of_socket(address)?;
        if !policy.allow.allows(&origin) {
            return Err(Error::Denied(origin.to_string()));
        }
        let shelf = self.0.pool.shelf(&policy.tenant);
        let deadline = Instant::now() + patience(connect_timeout, CONNECT_TIMEOUT);
        Ok(self.0.connector.socket(&shelf, policy, &origin, deadline).await?.0)
    }
}

impl Default for EgressOptions {
    fn default() -> Self {
        Self {
            idle_per_host_max: 32,
            idle_per_tenant_max: 64,
            idle_timeout: Duration::from_secs(90),
            forbidden: Vec::new(),
            roots: Vec::new(),
            resolver: Arc::new(SystemResolver),
        }
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}

impl fmt::Debug for EgressOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressOptions")
            .field("idle_per_host_max", &self.idle_per_host_max)
            .field("idle_per_tenant_max", &self.idle_per_tenant_max)
            .field("idle_timeout", &self.idle_timeout)
            .field("forbidden", &self.forbidden)
            .finish_non_exhaustive()
    }
}

/// One request that passed the first check.
struct Sending<'a> {
    egress: &'a Inner,
    policy: &'a Policy,
    shelf: Arc<Shelf>,
    origin: Arc<Origin>,
    progress: Option<Arc<Progress>>,
    options: Options,
}

enum Failed {
    /// Nothing of it was written, so another connection can take it.
    Unsent(Box<Request<Body>>, hyper::Error),
    Final(Error),
}

impl Sending<'_> {
    async fn send(self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let connector = &self.egress.connector;
        // A server closes idle connections when it likes, so a kept one may turn out to be gone. Each is tried once.
        let again = copy_of_safe(&request);
        while let Some(kept) = self.shelf.take(&self.origin, |address| connector.allows(self.policy, &self.origin, address)) {
            let Some(connection) = kept.ready().await else { continue };
            match self.exchange(connection, request).await {
                Ok((connection, response)) => return self.finish(connection, response),
                Err(Failed::Unsent(unsent, _)) => request = *unsent,
                Err(Failed::Final(error @ Error::ConnectionTerminated(_))) => {
                    request = again.ok_or(error)?;
                    break;
                }
                Err(Failed::Final(error)) => return Err(error),
            }
        }
        let deadline = Instant::now() + patience(self.options.connect_timeout, CONNECT_TIMEOUT);
        let connection = connector.connect(&self.shelf, self.policy, &self.origin, deadline).await?;
        match self.exchange(connection, request).await {
            Ok((connection, response)) => self.finish(connection, response),
            Err(Failed::Unsent(_, error)) => Err(Error::from_exchange(error)),
            Err(Failed::Final(error)) => Err(error),
        }
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Body>,
    ) -> Result<(Connection, Response<Incoming>), Failed> {
        let limit = patience(self.options.first_byte_timeout, FIRST_BYTE_TIMEOUT);
        let response = connection.sender.try_send_request(request);
        tokio::select! {
            biased;
            response = response => match response {
                Ok(response) => Ok((connection, response)),
                Err(mut error) => Err(match error.take_message() {
                    Some(unsent) => Failed::Unsent(Box::new(unsent), error.into_error()),
                    None => Failed::Final(Error::from_exchange(error.into_error())),
                }),
            },
            () = server_silent(Instant::now(), limit, self.progress.as_deref()) => Err(Failed::Final(Error::FirstByteTimeout)),
        }
    }

    fn finish(self, connection: Connection, response: Response<Incoming>) -> Result<Response<Body>, Error> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Protocol("the server switched protocols without being asked".into()));
        }
        let lease = Lease {
            pool: Arc::clone(&self.egress.pool),
            shelf: self.shelf,
            origin: self.origin,
            connection,
            progress: self.progress,
        };
        let (mut head, body) = response.into_parts();
        strip_hop_by_hop(&mut head.headers);
        let body = if body.is_end_stream() {
            lease.give_back();
            Body::Empty
        } else {
            Body::stream(Download::new(body, patience(self.options.between_bytes_timeout, BETWEEN_BYTES_TIMEOUT), lease))
        };
        Ok(Response::from_parts(head, body))
    }
}

/// A request that may reach the server twice. One written to a kept connection in the moment the server closes it is lost,
/// and nobody can tell whether it was read.
fn copy_of_safe(request: &Request<Body>) -> Option<Request<Body>> {
    if !request.method().is_safe() || !matches!(request.body(), Body::Empty) {
        return None;
    }
    let mut copy = Request::new(Body::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}

fn patience(asked: Option<Duration>, default: Duration) -> Duration {
    asked.unwrap_or(default).min(TIMEOUT_MAX)
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, time};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        let asked = |default| format!("{}, or what the guest asks for", time(default));
        assert_documented("lookup, TCP and TLS together", asked(CONNECT_TIMEOUT));
        assert_documented("silence before the response head, while the server is to act", asked(FIRST_BYTE_TIMEOUT));
        assert_documented("silence within the response body", asked(BETWEEN_BYTES_TIMEOUT));
        assert_documented(
            "what a guest may ask for",
            format!("{} h, but its own `wall` ends it first", TIMEOUT_MAX.as_secs() / 3600),
        );
        let EgressOptions { idle_per_host_max, idle_per_tenant_max, idle_timeout, .. } = EgressOptions::default();
        let kept =
            format!("{idle_per_host_max} for a tenant and origin, {idle_per_tenant_max} for a tenant, {}", time(idle_timeout));
        assert_documented("idle connections kept", kept);
    }
}
