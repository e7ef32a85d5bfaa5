//! Sockets, threads, and the end of both.
//!
//! One acceptor hands each connection to the core with the fewest, so that few connections still use every core; each core
//! has one thread with a runtime of its own, on which a connection stays for its life. The acceptor has a thread of its own:
//! guests that crowd a core must not keep the others from new connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use base::{Error, Kind};
use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Road;
use crate::http::cache::CacheOptions;
use crate::http::clock::{Clock, Phase};
use crate::http::io::Socket;
use crate::http::service::Service;

/// Fields of a request head.
const HEADERS_MAX: usize = 100;

/// Bytes of a request head: 64 KiB of fields and 8 KiB of target.
const HEAD_BYTES_MAX: usize = 72 << 10;

/// After an accept that failed, most likely for want of file descriptors: time for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// As long as it fails, it is said this often.
const ACCEPT_WARN_EVERY: Duration = Duration::from_secs(1);

/// Tasks polled between two looks at the sockets. Small: a poll may be a whole tick of a guest, and the default of 61
/// would let 61 guests keep a new request waiting.
const EVENT_INTERVAL: u32 = 13;

/// When the server drains: how long a connection that is between requests is still read. What a client sent before it
/// could know arrives by then.
const LAST_REQUEST: Duration = Duration::from_millis(100);
const LAST_REQUEST_POLL: Duration = Duration::from_millis(5);

/// How HTTP is served.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Threads that serve connections; at least one.
    pub threads: usize,
    /// Where liveness is answered; readiness is at `/ready` below it.
    pub health: Option<String>,
    /// Where metrics are answered.
    pub metrics: Option<String>,
    /// How much of answers is kept, for routes that say so.
    pub cache: CacheOptions,
    /// Whether each request is a line of the access log.
    pub access_log: bool,
}

/// HTTP being served. Dropping it closes everything at once.
#[derive(Debug)]
pub struct Http {
    addresses: Vec<SocketAddr>,
    stop_accepting: Vec<oneshot::Sender<()>>,
    drain: watch::Sender<bool>,
    /// Closed when the last connection is.
    connections: mpsc::Receiver<()>,
    _threads: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Core {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

impl Http {
    /// Serves on `listeners`, which are bound already.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`] if a socket cannot be used or a thread not started.
    pub fn start(listeners: Vec<TcpListener>, road: Road, options: HttpOptions) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::new(Kind::Internal, "cannot serve HTTP").caused_by(error);
        let (drain, draining) = watch::channel(false);
        let (alive, connections) = mpsc::channel(1);
        let mut threads = Vec::new();
        let mut cores = Vec::new();
        for index in 0..options.threads.max(1) {
            let (handle, stop) = start_thread(format!("fornax-http-{index}")).map_err(failed)?;
            cores.push(Core { handle, connections: Arc::default() });
            threads.push(stop);
        }
        let cores = Arc::new(cores);
        let (accept, stop) = start_thread("fornax-accept".to_owned()).map_err(failed)?;
        threads.push(stop);
        let service = Arc::new(Service::new(road, options));
        let mut addresses = Vec::new();
        let mut stop_accepting = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true).map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            let (stop, stopped) = oneshot::channel();
            stop_accepting.push(stop);
            let acceptor = Acceptor {
                cores: Arc::clone(&cores),
                service: Arc::clone(&service),
                draining: draining.clone(),
                alive: alive.clone(),
            };
            accept.spawn(acceptor.run(listener, stopped));
        }
        Ok(Self { addresses, stop_accepting, drain, connections, _threads: threads })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Closes the listening sockets and idle connections, and waits until the others have been answered, at most `grace`.
    /// Returns whether all were.
    pub async fn drain(&mut self, grace: Duration) -> bool {
        self.stop_accepting.clear();
        // Nobody listening means no connections: just as good.
        let _ = self.drain.send(true);
        tokio::time::timeout(grace, self.connections.recv()).await.is_ok()
    }
}

fn start_thread(name: String) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    thread::Builder::new().name(name).spawn(move || {
        let _ = runtime.block_on(stopped);
        runtime.shutdown_background();
    })?;
    Ok((handle, stop))
}

struct Acceptor {
    cores: Arc<Vec<Core>>,
    service: Arc<Service>,
    draining: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot listen"),
        };
        let mut failed_at = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = &mut stopped => break,
            };
            match accepted.and_then(|(stream, client)| Ok((stream.into_std()?, client))) {
                Ok((stream, client)) => self.hand_over(stream, client),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if failed_at.is_none_or(|at: Instant| at.elapsed() > ACCEPT_WARN_EVERY) {
                        tracing::warn!(%error, "cannot accept a connection");
                        failed_at = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who has connected already counts as served; closing the socket would reset them.
        while let Some(Ok((stream, client))) = listener.accept().now_or_never() {
            if let Ok(stream) = stream.into_std() {
                self.hand_over(stream, client);
            }
        }
    }

    fn hand_over(&self, stream: std::net::TcpStream, client: SocketAddr) {
        let Some(core) = self.cores.iter().min_by_key(|core| core.connections.load(Relaxed)) else { return };
        let counted = Counted::new(&core.connections, &self.service);
        let (service, draining, alive) = (Arc::clone(&self.service), self.draining.clone(), self.alive.clone());
        core.handle.spawn(async move {
            // Held until the connection ends.
            let _held = (counted, alive);
            serve(stream, client, service, draining).await;
        });
    }
}

/// Counts a connection on its core and in the metrics for as long as it lives.
struct Counted {
    core: Arc<AtomicUsize>,
    service: Arc<Service>,
}

impl Counted {
    fn new(core: &Arc<AtomicUsize>, service: &Arc<Service>) -> Self {
        core.fetch_add(1, Relaxed);
        service.road.metrics.connections.inc();
        Self { core: Arc::clone(core), service: Arc::clone(service) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.core.fetch_sub(1, Relaxed);
        self.service.road.metrics.connections.dec();
    }
}

async fn serve(stream: std::net::TcpStream, client: SocketAddr, service: Arc<Service>, mut draining: watch::Receiver<bool>) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    // Answers leave in one write; waiting for more would only delay them. An error here means the peer is gone.
    let _ = stream.set_nodelay(true);
    let clock = Arc::new(Clock::new(client));
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&clock)));
    let connection = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .header_read_timeout(None)
        .serve_connection(socket, service_fn(|request| Service::begin(&service, &clock, request)));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // Changes once, to true; a server that is dropped counts as well.
        _ = draining.changed() => {
            // A request that is on its way is answered; hyper would close a connection that has read none of it.
            let request_on_its_way = async {
                let end = Instant::now() + LAST_REQUEST;
                while clock.phase() != Phase::Busy && Instant::now() < end {
                    tokio::time::sleep(LAST_REQUEST_POLL).await;
                }
            };
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = request_on_its_way => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = ended {
        // The client left, was too slow, or did not speak HTTP: all its own business.
        tracing::info!(target: "fornax::client", error = %with_cause(&error), "a connection ended");
    }
}

fn with_cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
