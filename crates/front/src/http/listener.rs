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

use base::{ClientLimits, Error, Kind};
use futures_util::FutureExt as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Road;
use crate::http::cache::CacheOptions;
use crate::http::connection::serve;
use crate::http::forwarded::Proxies;
use crate::http::service::Service;
use crate::http::tls::Tls;

/// After an accept that failed, most likely for want of file descriptors: time for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// As long as it fails, it is said this often.
const ACCEPT_WARN_EVERY: Duration = Duration::from_secs(1);

/// How long a thread for what blocks waits for more of it: what a burst needed is given back soon.
const BLOCKING_KEPT: Duration = Duration::from_secs(2);

/// Tasks polled between two looks at the sockets. A poll may be a whole tick of a guest, so the default of 61 would keep a new
/// request waiting behind 61 of them; but few make the crowds small in which answers leave, and each look is a system call.
const EVENT_INTERVAL: u32 = 31;

/// Bytes of an answer that the kernel takes before they can be sent. It takes megabytes where nothing is said, from memory that
/// all connections of the machine share: a few thousand clients that read nothing would leave none of it to the others. Below
/// the least, the next bytes come too late for a client that reads well.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 << 10;

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
    /// What clients may take and send.
    pub clients: ClientLimits,
    /// Whose word about their clients counts.
    pub trusted_proxies: Proxies,
    /// What is shown to clients; without it they are served in the clear.
    pub tls: Option<Tls>,
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
            hold_little(&listener);
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

/// Of whatever this one accepts. One that refuses, as one that is no TCP does, serves as well.
fn hold_little(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
}

fn start_thread(name: String) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().event_interval(EVENT_INTERVAL).thread_keep_alive(BLOCKING_KEPT).build()?;
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
