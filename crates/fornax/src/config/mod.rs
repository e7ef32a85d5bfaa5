//! The configuration: what `fornax.toml` says, checked, with everything filled in.
//!
//! Goals in tension: the file shall be short and forgiving to write, and nothing behind it may have to ask whether a value
//! makes sense. So there are two sets of types. `raw` mirrors the file key by key and knows where each value stands;
//! `build` turns it into a [`Config`], the only type that travels: names are resolved, units are read, paths are absolute,
//! limits are under their caps, defaults are in place. What is wrong is said with line and column while they are known.
//!
//! | task | file |
//! | --- | --- |
//! | add a key | `raw.rs`, `build.rs`, a field here, and `example.toml` |
//! | word an error | `error.rs`, and its line in `tests.rs` |
//! | read another unit | `units.rs` |
//! | change how a WASIO `config.json` is read | `wasio.rs` |
//!
//! Nothing here reads the process's environment: whoever reads a file says what `${NAME}` stands for. `Debug` shows no
//! value of a guest's environment and no option of a backend, as that is where secrets are.

mod build;
mod error;
mod json;
mod raw;
#[cfg(test)]
mod tests;
mod units;
mod wasio;
#[cfg(test)]
mod wasio_tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{About, ClientLimits, CompileLimits, Entry, Limits, ModuleId, PageKind, Pattern, Secret, TenantLimits};
use guest::Reuse;
use ipnet::IpNet;

pub use error::ConfigError;

/// The tenant of whatever names none.
pub const DEFAULT_TENANT: &str = "default";

/// Backends that need no `[backend.NAME]`: one forgets with the process, one lives in the data directory.
pub const BUILT_IN_BACKENDS: [&str; 2] = ["memory", "embedded"];

/// What the files end in that `fornax run DIR` serves.
pub const ARTIFACT_EXTENSION: &str = "wasm";

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name that the modules and routes of this file go by together.
    pub app: String,
    /// The process's own settings.
    pub server: Server,
    /// Quotas of every tenant that has some or owns a module.
    pub tenants: BTreeMap<String, TenantLimits>,
    /// Unique by tenant and name, and by id. At least one, unless there are routes that need none.
    pub modules: Vec<Module>,
    /// In the order of the file. Whether two collide is found when the table is built.
    pub routes: Vec<Route>,
    /// What `[backend.NAME]` declares; never one of [`BUILT_IN_BACKENDS`].
    pub backends: BTreeMap<String, Backend>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where HTTP is served; port 0 picks one.
    pub listen: SocketAddr,
    /// The data directory, absolute; it need not exist yet.
    pub data: Option<PathBuf>,
    /// How long calls may go on after the first signal to stop.
    pub grace: Duration,
    /// The path of the liveness probe; readiness is at `<health>/ready`.
    pub health: Option<String>,
    /// The path of the metrics.
    pub metrics: Option<String>,
    /// How much of answers is kept, for the routes that say so.
    pub cache: Cache,
    /// What clients may take and send.
    pub clients: ClientLimits,
    /// What is published may measure, and compiling it take.
    pub compile: CompileLimits,
    /// Whether each request is a line of the log, in Apache's combined form.
    pub access_log: bool,
    /// How many modules may have their code in memory; as many as the machine carries where nothing is said.
    pub modules_loaded: Option<u32>,
    /// Addresses of proxies whose word about their clients counts.
    pub trusted_proxies: Vec<IpNet>,
    /// What makes it HTTPS.
    pub tls: Option<TlsFiles>,
}

/// `[server] tls`: two files in PEM. They are read when the server is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead to its authority behind it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[server] cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// All stored answers together.
    pub size_bytes: u64,
    /// Stored answers.
    pub entries: u32,
    /// The largest body that is stored; never more than `size_bytes`.
    pub entry_bytes: u64,
}

impl Default for Cache {
    fn default() -> Self {
        // Half of what one instance may take; a thousand addresses. Anything larger is a download, and a file's work.
        Self { size_bytes: 64 << 20, entries: 1024, entry_bytes: 1 << 20 }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            data: None,
            // What container platforms wait before they kill.
            grace: Duration::from_secs(30),
            health: None,
            metrics: None,
            cache: Cache::default(),
            clients: ClientLimits::default(),
            compile: CompileLimits::default(),
            access_log: false,
            modules_loaded: None,
            trusted_proxies: Vec::new(),
            tls: None,
        }
    }
}

/// `[[module]]`.
#[derive(Clone, PartialEq)]
pub struct Module {
    /// The owner.
    pub tenant: String,
    /// The app, the same for the whole file.
    pub app: String,
    /// The name, unique within the tenant.
    pub name: String,
    /// The artifact, absolute. Symbolic links are kept, so that one that is switched is a new artifact on reload.
    pub source: PathBuf,
    /// The id the file pins.
    pub id: Option<ModuleId>,
    /// The one entry that is meant, where the artifact has several.
    pub entry: Option<Entry>,
    /// How HTTP requests get to an entry that is not HTTP.
    pub codec: Option<String>,
    /// Whether it is published, too, if a route leads to it and it is a program without a codec: its requests are told what is
    /// missing. So it is for the artifacts of a folder, of which one shall not keep the others from being served.
    pub may_lack_codec: bool,
    /// Whether a plugin's input is written at address 0.
    pub input_at_zero: bool,
    /// How many calls an instance serves.
    pub reuse: Reuse,
    /// Whether its answers say what they cost.
    pub evidence: bool,
    /// Whether it is started on this process's standard streams; never by a file.
    pub terminal: bool,
    /// Whether it was loaded by its path, beside what a file describes; never by a file. Its id goes with the path then.
    pub loaded: bool,
    /// What each call may use.
    pub limits: Limits,
    /// The guest's environment, sorted by name.
    pub env: Vec<(String, Secret)>,
    /// The guest's arguments, without the program's name.
    pub args: Vec<String>,
    /// Directories the guest sees.
    pub dirs: Vec<Dir>,
    /// Where the guest may connect to, as written.
    pub outbound: Vec<String>,
    /// Interface → name the guest opens → backend, which exists.
    pub bindings: BTreeMap<String, BTreeMap<String, String>>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("tenant", &self.tenant)
            .field("app", &self.app)
            .field("name", &self.name)
            .field("source", &self.source)
            .field("id", &self.id)
            .field("entry", &self.entry)
            .field("codec", &self.codec)
            .field("reuse", &self.reuse)
            .field("limits", &self.limits)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("dirs", &self.dirs)
            .field("bindings", &self.bindings)
            .finish_non_exhaustive()
    }
}

/// A directory a guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// The directory of the host: canonical, and it existed when the configuration was read.
    pub host: PathBuf,
    /// The absolute path the guest sees.
    pub guest: String,
    /// Whether the guest may write.
    pub writable: bool,
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The owner of the target.
    pub tenant: String,
    /// `example.com`, `*.example.com`, or none for every host; in lower case.
    pub host: Option<String>,
    /// The path.
    pub path: Pattern,
    /// The methods; empty for all.
    pub methods: Vec<http::Method>,
    /// Who answers.
    pub target: Target,
    /// How long an answer of a module may be given again; more than 0.
    pub cache_ttl: Option<Duration>,
    /// What an index page says of it.
    pub about: About,
}

/// Who answers a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Names of modules of the tenant, which exist, and their weights, which are more than 0. Never empty.
    Modules(Vec<(String, u32)>),
    /// Modules in sequence.
    Chain(Chain),
    /// A folder, where the path ends in `/*`, else one file; absolute, and it was there when the configuration was read.
    /// Symbolic links are kept, so that one that is switched is seen at once.
    Files(PathBuf),
    /// A page of the server's own, about the tenant.
    Page(PageKind),
}

/// `chain = […]` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Never empty.
    pub links: Vec<Link>,
    /// What one call of all of it may use.
    pub limits: Limits,
}

/// A step of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The name of a module of the tenant, which exists.
    pub module: String,
    /// Whether all of its output goes on, not only its result.
    pub whole: bool,
}

/// `[backend.NAME]`.
#[derive(Clone, PartialEq)]
pub struct Backend {
    /// The interface it provides.
    pub interface: String,
    /// Which of the interface's backends it is: `type` in the file.
    pub kind: String,
    /// Its own options, unchecked, with variables replaced.
    pub options: toml::Table,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("interface", &self.interface)
            .field("kind", &self.kind)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// What `fornax run FILE.wasm` or `DIR` says about its modules on the command line.
#[derive(Default)]
pub struct SingleOptions {
    /// Where to listen, if not at the default.
    pub listen: Option<SocketAddr>,
    /// The data directory.
    pub data: Option<PathBuf>,
    /// The one entry that is meant.
    pub entry: Option<Entry>,
    /// How HTTP requests get to an entry that is not HTTP.
    pub codec: Option<String>,
    /// How many calls an instance serves.
    pub reuse: Reuse,
    /// Whether it is started on this process's standard streams and has no route.
    pub terminal: bool,
    /// What each call may use.
    pub limits: Limits,
    /// Directories the guest sees; see [`parse_dir_flag`].
    pub dirs: Vec<Dir>,
    /// The guest's environment; see [`parse_env_flag`]. The last of a name counts.
    pub env: Vec<(String, Secret)>,
    /// The guest's arguments.
    pub args: Vec<String>,
    /// Where the guest may connect to.
    pub outbound: Vec<String>,
    /// Of a folder these artifacts, not those that are in it now.
    pub files: Option<Vec<PathBuf>>,
}

impl Config {
    /// Reads the text of a `fornax.toml`. `file` is what errors call it and what its paths are relative to; `env` is asked
    /// for each `${NAME}`.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its place.
    pub fn from_toml(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        build::config(text, file, env)
    }

    /// Reads a `fornax.toml`.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or as [`Config::from_toml`].
    pub fn from_file(file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::from_toml(&read(file)?, file, env)
    }

    /// Reads the text of a WASIO `config.json`. `file` is what errors call it and what its paths are relative to.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its place.
    pub fn from_wasio(text: &str, file: &Path) -> Result<Self, ConfigError> {
        wasio::config(text, file)
    }

    /// Reads a WASIO `config.json`.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or as [`Config::from_wasio`].
    pub fn from_wasio_file(file: &Path) -> Result<Self, ConfigError> {
        Self::from_wasio(&read(file)?, file)
    }

    /// A configuration of nothing, for a program that loads and executes modules itself.
    pub fn empty() -> Self {
        Self {
            app: "app".to_owned(),
            server: Server::default(),
            tenants: BTreeMap::new(),
            modules: Vec::new(),
            routes: Vec::new(),
            backends: BTreeMap::new(),
        }
    }

    /// The configuration of `fornax run FILE.wasm`: one module, named after its file, that answers every path of the
    /// default tenant and has the embedded key-value store.
    ///
    /// # Errors
    ///
    /// If the environment is over its limits, or two directories have one place in the guest. Whether `file` is an artifact
    /// is for its reader to say.
    pub fn single(file: &Path, options: SingleOptions) -> Result<Self, ConfigError> {
        build::single(file, options)
    }

    /// The configuration of `fornax run DIR`: every artifact of the folder is a module named after its file, which answers the
    /// paths below its name, and an index page at `/` lists them.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read or has no artifact, if two files would have one name, or as [`Config::single`].
    pub fn folder(folder: &Path, options: SingleOptions) -> Result<Self, ConfigError> {
        build::folder(folder, options)
    }
}

/// Bytes of a configuration file: tens of thousands of modules.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The text of a configuration file.
///
/// # Errors
///
/// If it cannot be read or is no text.
pub(crate) fn read(file: &Path) -> Result<String, ConfigError> {
    let not_text = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let bytes = registry::read_file(file, FILE_BYTES_MAX);
    bytes.and_then(|bytes| String::from_utf8(bytes).map_err(not_text)).map_err(|error| {
        let name = file.display();
        match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError::new(format!("no configuration file at {name}")),
            std::io::ErrorKind::IsADirectory => ConfigError::new(format!("the configuration file {name} is a directory")),
            std::io::ErrorKind::InvalidData => ConfigError::new(format!("the configuration file {name} is not UTF-8 text")),
            _ => ConfigError::new(format!("cannot read the configuration file {name}: {error}")),
        }
    })
}

/// Reads `--dir HOST::GUEST[:rw|:ro]`; read-only where nothing is said.
///
/// # Errors
///
/// If the form is another, the host directory does not exist, or the guest path is not absolute.
pub fn parse_dir_flag(text: &str) -> Result<Dir, ConfigError> {
    build::dir_flag(text)
}

/// Reads `--env NAME=VALUE`.
///
/// # Errors
///
/// If the form is another. The error does not show the value.
pub fn parse_env_flag(text: &str) -> Result<(String, Secret), ConfigError> {
    build::env_flag(text).map(|(name, value)| (name, value.into()))
}

/// Reads `--reuse MODE`.
///
/// # Errors
///
/// If it is no mode.
pub fn parse_reuse_flag(text: &str) -> Result<Reuse, ConfigError> {
    build::reuse_flag(text)
}

/// Reads `--entry ENTRY`.
///
/// # Errors
///
/// If nothing is called so; names what is.
pub fn parse_entry_flag(text: &str) -> Result<Entry, ConfigError> {
    build::entry(text).ok_or_else(|| build::unknown_entry(ConfigError::new(format!("unknown entry `{text}`")), text))
}

/// Reads `--memory SIZE`.
///
/// # Errors
///
/// If it is no size, or above the cap of a sandbox.
pub fn parse_memory_flag(text: &str) -> Result<u64, ConfigError> {
    let wrong = |what: String| ConfigError::new(format!("--memory `{text}` {what}"));
    match units::size_bytes(text) {
        None => Err(wrong("is no size".to_owned()).hint("write a number and a unit, such as `64MiB`")),
        Some(0) => Err(wrong("must be more than 0".to_owned())),
        Some(bytes) if bytes > Limits::CAPS.memory_bytes => {
            Err(wrong(format!("is over its cap of {}", units::size_text(Limits::CAPS.memory_bytes))))
        }
        Some(bytes) => Ok(bytes),
    }
}

/// Reads `--listen HOST:PORT`.
///
/// # Errors
///
/// If the form is another or the host has no address.
pub fn parse_listen_flag(text: &str) -> Result<SocketAddr, ConfigError> {
    build::listen(text).map_err(|what| ConfigError::new(format!("{what} `{text}`")).hint(build::LISTEN_HINT))
}
