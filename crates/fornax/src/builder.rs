//! From a configuration to a server: what `main` uses, and what a program that embeds Fornax uses.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use base::journal::Journal;
use base::{Error, Gate, GateOptions, Kind, Metrics, POOLS, Snapshots};
use egress::{Egress, EgressOptions};
use front::Road;
use front::http::{CacheOptions, Http, HttpOptions, Proxies};
use guest::{Interface, Machine, PoolSize, Runtime, RuntimeOptions, TICK, TrustedKey};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::config::Config;
use crate::control::{Control, Digests, Stores};
use crate::interfaces;
use crate::server::Server;
use crate::tls;

/// Connections that wait to be accepted; the kernel may allow fewer. A burst that does not fit is not refused but left without
/// an answer, and tries again a second later: std's 128 are too few.
const BACKLOG: u32 = 4096;

/// Puts a server together.
pub struct Builder {
    config: Config,
    interfaces: Vec<Arc<dyn Interface>>,
    listeners: Vec<TcpListener>,
    threads: Option<usize>,
    pool: Option<PoolSize>,
    page_scan: bool,
    compiler: Option<PathBuf>,
    trusted: Option<TrustedKey>,
    tick: Duration,
    serves: bool,
    journal: Option<Arc<Journal>>,
    kept: Digests,
}

impl Builder {
    /// Begins with a configuration and every interface of this build.
    ///
    /// # Errors
    ///
    /// None yet; what is wrong with the modules is found by [`Builder::build`].
    pub fn from_config(config: Config) -> Result<Self, Error> {
        Ok(Self {
            config,
            interfaces: interfaces::all(),
            listeners: Vec::new(),
            threads: None,
            pool: None,
            page_scan: true,
            compiler: None,
            trusted: None,
            tick: TICK,
            serves: true,
            journal: None,
            kept: Digests::new(),
        })
    }

    /// Adds an interface, or replaces the one of the same name.
    ///
    /// # Errors
    ///
    /// [`Kind::Internal`] if another interface has its slot.
    pub fn interface(mut self, interface: Arc<dyn Interface>) -> Result<Self, Error> {
        self.interfaces.retain(|known| known.name() != interface.name());
        if let Some(other) = self.interfaces.iter().find(|known| known.slot() == interface.slot()) {
            let text = format!("the interfaces {} and {} have the same slot", interface.name(), other.name());
            return Err(Error::new(Kind::Internal, text));
        }
        self.interfaces.push(interface);
        Ok(self)
    }

    /// Serves on these sockets instead of binding what the configuration says.
    ///
    /// # Errors
    ///
    /// None yet; a socket that cannot be used is found by [`Builder::build`].
    pub fn listeners(mut self, listeners: impl IntoIterator<Item = TcpListener>) -> Result<Self, Error> {
        self.listeners.extend(listeners);
        Ok(self)
    }

    /// Threads that serve connections; as many as the machine can run at once where nothing is said.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// How many guests can live at once; where nothing is said, as many as the machine carries beside a few other servers in this
    /// process.
    #[must_use]
    pub fn pool(mut self, pool: PoolSize) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Clears sandboxes without asking the kernel which of their pages are dirty, as on a machine that swaps.
    #[must_use]
    pub fn without_page_scan(mut self) -> Self {
        self.page_scan = false;
        self
    }

    /// Compiles each module in a process of its own, of the `fornax` program at this path, which must be of the same build. There
    /// memory, processor time and time are bounded, as `docs/limits.md` says, and a module that the compiler breaks down over
    /// does not end this process. Where nothing is said, this process compiles, and only what is counted of a module before is bounded:
    /// that is for modules one trusts.
    #[must_use]
    pub fn compiler(mut self, program: impl Into<PathBuf>) -> Self {
        self.compiler = Some(program.into());
        self
    }

    /// Takes compiled code that this key signed, as `fornax compile --key` writes it, besides WebAssembly. It runs in this process, not in
    /// a sandbox of it: whoever has the key that belongs to this one can do what this process can.
    #[must_use]
    pub fn trust(mut self, key: TrustedKey) -> Self {
        self.trusted = Some(key);
        self
    }

    /// How often guests that compute are looked at, to end or to move them; a millisecond where nothing is said. A longer tick is
    /// for measuring guests that one trusts: an endless one has its thread for so long.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Serves nothing: for a program that only executes modules.
    #[must_use]
    pub fn without_http(mut self) -> Self {
        self.serves = false;
        self
    }

    /// Writes down which modules have calls in flight, and treats them as the past of this process says.
    #[must_use]
    pub(crate) fn journal(mut self, journal: Option<Arc<Journal>>) -> Self {
        self.journal = journal;
        self
    }

    /// Serves what another process did: modules are these bytes, not what their files are by now.
    #[must_use]
    pub(crate) fn kept(mut self, kept: Digests) -> Self {
        self.kept = kept;
        self
    }

    /// Binds, connects the backends, compiles and prepares every module, and serves.
    ///
    /// # Errors
    ///
    /// A sentence for whoever wrote the configuration: a port in use, a file that is no component, an import nobody
    /// provides.
    pub async fn build(self) -> Result<Server, Error> {
        let tls = self.config.server.tls.as_ref().filter(|_| self.serves).map(tls::read).transpose()?;
        let listeners = match self.listeners {
            _ if !self.serves => Vec::new(),
            listeners if listeners.is_empty() => vec![bind(&self.config)?],
            listeners => listeners,
        };
        let (data, temporary) = data_directory(self.config.server.data.as_deref())?;
        let stores = Stores::open(&data)?;
        let egress = Egress::new(EgressOptions::default())
            .map_err(|error| Error::new(Kind::Internal, "cannot prepare outgoing connections").caused_by(error))?;
        for listener in &listeners {
            listener
                .local_addr()
                .map(|address| egress.forbid(address))
                .map_err(|error| Error::new(Kind::Internal, "a listening socket cannot be used").caused_by(error))?;
        }
        let threads = self.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        let metrics = Metrics::new();
        let (pool, machine) = (self.pool.unwrap_or_default(), Machine::read());
        let runtime = Runtime::new(RuntimeOptions {
            interfaces: self.interfaces.clone(),
            egress,
            pool,
            page_scan: self.page_scan,
            compiler: self.compiler,
            compile: self.config.server.compile,
            tick: self.tick,
            runners: threads,
            free_memory_bytes: machine.free_memory_bytes(pool),
            loaded_max: self.config.server.modules_loaded.unwrap_or_else(|| machine.modules_loaded()),
            data: data.clone(),
            metrics: Arc::clone(&metrics),
        })?;
        let road = Road {
            snapshots: Arc::new(Snapshots::default()),
            gate: Arc::new(Gate::new(GateOptions { places: [0; POOLS] })),
            metrics,
        };
        let mut control = Control::new(stores, runtime, self.trusted, self.interfaces, road.clone(), data, machine);
        if let Some(journal) = &self.journal {
            road.metrics.worker_restarts.inc_by(journal.restarts());
            road.metrics.modules_quarantined.set(i64::try_from(journal.quarantined()).unwrap_or(i64::MAX));
        }
        control.watch(self.journal);
        control.replace(self.kept);
        control.apply(&self.config).await?;
        control.serve();
        let server = &self.config.server;
        let cache = CacheOptions {
            size_bytes: server.cache.size_bytes,
            entries: server.cache.entries,
            entry_bytes: server.cache.entry_bytes,
        };
        let options = HttpOptions {
            threads,
            health: server.health.clone(),
            metrics: server.metrics.clone(),
            cache,
            access_log: server.access_log,
            clients: server.clients,
            trusted_proxies: Proxies::new(server.trusted_proxies.iter().copied()),
            tls: tls.clone(),
        };
        let http = self.serves.then(|| Http::start(listeners, road.clone(), options)).transpose()?;
        Ok(Server::new(http, tls, control, road, self.config.server.grace, temporary))
    }
}

/// The listening socket that a configuration asks for.
pub(crate) fn bind(config: &Config) -> Result<TcpListener, Error> {
    let address = config.server.listen;
    listen(address).map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("cannot listen on {address}: another program does. Choose another address, or port 0 to have one picked")
            }
            _ => format!("cannot listen on {address}: {error}"),
        };
        Error::new(Kind::Internal, text)
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// The data directory, made if need be; a private one that goes with the server where none is named.
fn data_directory(named: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), Error> {
    let failed = |what: String, error: io::Error| Error::new(Kind::Internal, format!("{what}: {error}")).caused_by(error);
    match named {
        Some(path) => {
            std::fs::create_dir_all(path)
                .map_err(|error| failed(format!("cannot make the data directory {}", path.display()), error))?;
            Ok((path.to_owned(), None))
        }
        None => {
            let temporary = temporary_data()?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

/// A private directory that goes when the value does.
pub(crate) fn temporary_data() -> Result<TempDir, Error> {
    let temporary = tempfile::Builder::new().prefix("fornax-").tempdir();
    temporary
        .map_err(|error| Error::new(Kind::Internal, format!("cannot make a temporary data directory: {error}")).caused_by(error))
}
