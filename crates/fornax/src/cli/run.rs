//! `fornax run`: serve in the foreground until a signal, or run a program once.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base::journal::Journal;
use base::{Command, Entry, Error, Kind, Limits, Stdio};
use clap::Args;
use guest::Machine;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::SignalKind;

use super::kept::Kept;
use super::link::Supervisor;
use super::logging::Logging;
use super::orders::{Orders, on_signal};
use super::watch::Watch;
use super::{Global, builder, chain, compile, print_error, say};
use crate::config::{
    self, Config, ConfigError, SingleOptions, TlsFiles, parse_dir_flag, parse_entry_flag, parse_env_flag, parse_listen_flag,
    parse_memory_flag, parse_reuse_flag,
};
use crate::control::Digests;
use crate::{ExecuteLimits, PoolSize, Server};

/// What a shell reports for a program that aborted: what a trap is.
const ABORTED: u8 = 134;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A component or module (.wasm), an app (.toml), a WASIO configuration (.json), or a folder of artifacts
    #[arg(value_name = "FILE|APP.toml|CONFIG.json|DIR", required_unless_present = "chain")]
    file: Option<PathBuf>,
    /// Call these modules in sequence with --input, or standard input, and print each step; behind FILE:whole all it wrote goes
    /// on, not only its result
    #[arg(long, value_name = "FILE[:whole],FILE[:whole]", value_delimiter = ',', conflicts_with_all = ["file", "trust", "listen", "tls_cert", "dirs", "env", "allow_hosts", "entry", "codec", "reuse", "watch", "args"])]
    chain: Vec<PathBuf>,
    /// What goes into the first module of --chain
    // A file conflicts with `chain`, and what conflicts is not required.
    #[arg(long, value_name = "TEXT", requires = "chain", conflicts_with = "file")]
    input: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

/// What is said on the command line of what is served.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Take compiled code, too, if this key signed it: `fornax compile --key`. A file in PEM
    #[arg(long, value_name = "KEY")]
    trust: Option<PathBuf>,
    /// Where to listen; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Serve HTTPS with this certificate, a file in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, a file in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Give the guest a directory: HOST::GUEST, read-only unless :rw is added
    #[arg(long = "dir", value_name = "H::G[:rw]")]
    dirs: Vec<String>,
    /// Set a variable of the guest's environment, which is otherwise empty
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Let the guest connect: scheme, host and port, such as https://api.example.com
    #[arg(long = "allow-host", value_name = "URL")]
    allow_hosts: Vec<String>,
    /// Which entry of the artifact is meant, where it has several: http, run, process
    #[arg(long, value_name = "ENTRY")]
    entry: Option<String>,
    /// Serve programs over HTTP: how a request gets in and its answer out (ignis, wasio, cgi)
    #[arg(long, value_name = "CODEC")]
    codec: Option<String>,
    /// How many calls an instance of an HTTP guest serves: one (fresh), several one after the other (serial), or at the same time
    /// (concurrent, WASI 0.3) [default: fresh]
    #[arg(long, value_name = "MODE")]
    reuse: Option<String>,
    /// How long a call may take and compute, such as 200ms; a program that runs once may take for ever
    #[arg(long, value_name = "DURATION")]
    timeout: Option<humantime::Duration>,
    /// Memory of a sandbox, such as 64MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Reload when the file, a file the app names, or an artifact of the folder changes
    #[arg(long)]
    watch: bool,
    /// The guest's arguments
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// What to serve, and how.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) file: &'a Path,
    pub(super) flags: &'a Flags,
    pub(super) global: &'a Global,
}

/// The process that serves for a supervisor, which has bound the socket for it.
pub(super) struct Worker {
    pub(super) listener: TcpListener,
    pub(super) journal: Arc<Journal>,
    pub(super) supervisor: Supervisor,
    /// What is in service: what the worker before left, and what this one leaves.
    pub(super) kept: File,
    /// Whether to serve what the files say, if they are right, and not what was left.
    pub(super) reads_files: bool,
    /// The supervisor's, which ends this process when it is over.
    pub(super) grace: Duration,
}

/// What the one process of two that serves has to do with the other.
struct Supervised {
    supervisor: Supervisor,
    kept: File,
}

/// What a process has begun to serve.
struct Begun {
    server: Server,
    /// Of the file that describes an app.
    text: Option<String>,
    watch: Option<Watch>,
    /// Whether that is what the files say now.
    is_of_files: bool,
}

impl Flags {
    fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles { cert: self.tls_cert.clone()?, key: self.tls_key.clone()? })
    }

    fn memory_bytes(&self) -> Result<Option<u64>, ConfigError> {
        self.memory.as_deref().map(parse_memory_flag).transpose()
    }
}

pub(super) fn run(args: RunArgs, global: &Global, logging: &Logging) -> Result<ExitCode, Error> {
    set_limits();
    block_on(async {
        let orders = Orders::to_stop()?;
        if !args.chain.is_empty() {
            let limits = ExecuteLimits { timeout: args.flags.timeout.map(Into::into), memory_bytes: args.flags.memory_bytes()? };
            let chain = chain::run(&args.chain, args.input.as_deref(), limits, global);
            return until_stopped(orders, chain).await;
        }
        // The command line has a file where it has no chain.
        let file = args.file.as_deref().unwrap_or(Path::new(""));
        let given = Given { file, flags: &args.flags, global };
        refuse_address(file)?;
        if given.is_program() {
            return until_stopped(orders, run_once(given)).await;
        }
        serve(given, logging, orders.and_to_reload()?, None).await
    })
}

/// Does what a command does.
pub(super) fn block_on(command: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Internal, "cannot start").caused_by(error))?;
    let code = runtime.block_on(async {
        // Who listens is not ended by it: a write over the limit on the size of files is an error then, and of one call.
        on_signal(SignalKind::from_raw(Signal::XFSZ.as_raw()), || ())?;
        command.await
    });
    // Compilations that are still running have nobody left to compile for.
    runtime.shutdown_background();
    code
}

async fn until_stopped(orders: Orders, work: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    tokio::select! {
        code = work => code,
        code = orders.stop() => Ok(ExitCode::from(code)),
    }
}

/// Serves until it is told to stop.
pub(super) async fn serve(
    given: Given<'_>,
    logging: &Logging,
    orders: Orders,
    worker: Option<Worker>,
) -> Result<ExitCode, Error> {
    logging.hold();
    let Begun { server, text, mut watch, is_of_files } = tokio::select! {
        begun = begin(given, worker.as_ref()) => begun?,
        code = orders.give_up() => return Ok(ExitCode::from(code)),
    };
    let mut supervised = None;
    match worker {
        Some(Worker { supervisor, kept, listener, reads_files, .. }) => {
            // The server has its own, and closes it when nobody new is let in.
            drop(listener);
            Kept::of(&server, text).await.write(&kept);
            supervisor.started().await;
            if reads_files {
                supervisor.reloaded(is_of_files);
            }
            supervised = Some(Supervised { supervisor, kept });
        }
        None => server.addresses().iter().for_each(|address| announce(server.scheme(), *address)),
    }
    logging.release();
    loop {
        tokio::select! {
            _ = orders.stop() => break,
            () = asked_to_reload(&orders, &mut watch) => tokio::select! {
                () = reload(&server, given, &mut watch, supervised.as_ref()) => {}
                _ = orders.stop() => break,
            },
        }
    }
    let drained = tokio::select! {
        drained = server.drain() => drained,
        code = orders.stop() => return Ok(ExitCode::from(code)),
    };
    if !drained {
        tracing::warn!(in_flight = server.in_flight(), "stopped at the end of the grace period");
    }
    Ok(ExitCode::SUCCESS)
}

/// Has a server ready: with what the worker before left, or with what the files say.
async fn begin(given: Given<'_>, worker: Option<&Worker>) -> Result<Begun, Error> {
    let kept = worker.and_then(|worker| Kept::read(&worker.kept));
    if kept.is_none() || worker.is_some_and(|worker| worker.reads_files) {
        let begun = async {
            let (config, text) = given.config()?;
            build(given, config, text, worker, Digests::default()).await
        };
        match (begun.await, &kept) {
            (Err(error), Some(_)) => not_reloaded(&error),
            (begun, _) => return begun.map(|begun| Begun { is_of_files: true, ..begun }),
        }
    }
    let kept = kept.unwrap_or_default();
    let config = given.config_of(kept.text.as_deref(), Some(kept.sources()))?;
    build(given, config, kept.text.clone(), worker, kept.digests()).await
}

async fn build(
    given: Given<'_>,
    mut config: Config,
    text: Option<String>,
    worker: Option<&Worker>,
    digests: Digests,
) -> Result<Begun, Error> {
    let watch = given.flags.watch.then(|| Watch::start(&watched_files(given.file, &config))).transpose()?;
    config.server.grace = worker.map_or(config.server.grace, |worker| worker.grace);
    let mut builder = compile::trusting(builder(config)?, given.flags.trust.as_deref())?.pool(Machine::read().pool());
    if let Some(worker) = worker {
        let failed = |error: std::io::Error| Error::new(Kind::Internal, "the socket cannot be shared").caused_by(error);
        let listener = worker.listener.try_clone().map_err(failed)?;
        builder = builder.listeners([listener])?.journal(Some(Arc::clone(&worker.journal))).kept(digests);
    }
    Ok(Begun { server: builder.build().await?, text, watch, is_of_files: false })
}

/// The first line: where requests are taken from now on.
pub(super) fn announce(scheme: &str, address: SocketAddr) {
    say(&format!("listening on {scheme}://{address}"));
}

/// Runs a program on this process's standard streams, and ends as it does.
async fn run_once(given: Given<'_>) -> Result<ExitCode, Error> {
    let flags = given.flags;
    if flags.watch || flags.listen.is_some() || flags.tls_cert.is_some() {
        let text = "a program runs once: --watch, --listen and --tls-cert are for services. To serve it over HTTP, name a codec: --codec wasio, cgi or ignis";
        return Err(Error::new(Kind::Unprocessable, text));
    }
    let config = Config::single(given.file, SingleOptions { terminal: true, ..given.single_options()? })?;
    let builder = compile::trusting(builder(config)?, flags.trust.as_deref())?;
    let server = builder.threads(1).pool(PoolSize::of(16)).without_http().build().await?;
    let timeout = flags.timeout.map_or(ExecuteLimits::PATIENT, Into::into);
    let command = Command { args: Vec::new(), env: Vec::new(), stdio: Stdio::Inherited };
    let limits = ExecuteLimits { timeout: Some(timeout), memory_bytes: None };
    match server.run_program(command, limits).await {
        Ok(exit) => Ok(exit_code(exit.code)),
        Err(error) if matches!(error.kind, Kind::Trap | Kind::Stack | Kind::MemoryLimit) => {
            print_error(&error);
            Ok(ExitCode::from(ABORTED))
        }
        Err(error) => Err(error),
    }
}

/// What is left of an exit code: a process has eight bits for it.
fn exit_code(code: u32) -> ExitCode {
    match code.to_le_bytes()[0] {
        0 if code != 0 => ExitCode::FAILURE,
        low => ExitCode::from(low),
    }
}

async fn asked_to_reload(orders: &Orders, watch: &mut Option<Watch>) {
    let changed = async {
        match watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = orders.reload() => {}
        () = changed => {}
    }
}

async fn reload(server: &Server, given: Given<'_>, watch: &mut Option<Watch>, supervised: Option<&Supervised>) {
    let result = async {
        if let Some(watch) = watch {
            watch.refollow()?;
        }
        let (config, text) = given.config()?;
        if let Some(watch) = watch {
            watch.follow(&watched_files(given.file, &config))?;
        }
        server.reload(&config).await?;
        Ok(text)
    };
    let result = result.await;
    let is_in_service = result.is_ok();
    match result {
        Ok(text) => {
            if let Some(Supervised { kept, .. }) = supervised {
                Kept::of(server, text).await.write(kept);
            }
            tracing::info!("reloaded");
        }
        Err(error) => not_reloaded(&error),
    }
    if let Some(Supervised { supervisor, .. }) = supervised {
        supervisor.reloaded(is_in_service);
    }
}

fn not_reloaded(error: &Error) {
    print_error(error);
    tracing::warn!("not reloaded; what was in service stays");
}

impl Given<'_> {
    /// Whether the file is a program that is meant to run once, not to serve. What is wrong with it is said when it is published.
    pub(super) fn is_program(self) -> bool {
        if app_kind(self.file).is_some() || self.file.is_dir() || self.flags.codec.is_some() {
            return false;
        }
        let artifact = compile::artifact_in(self.file);
        match (self.flags.entry.as_deref(), artifact.and_then(|artifact| guest::entries(&artifact))) {
            (_, Err(_)) => false,
            (Some(entry), Ok(_)) => entry == Entry::Run.name(),
            (None, Ok(entries)) => entries == [Entry::Run],
        }
    }

    /// The configuration as it is on disk now, and its text where it has one.
    pub(super) fn config(self) -> Result<(Config, Option<String>), Error> {
        let text = app_kind(self.file).map(|_| config::read(self.file)).transpose()?;
        Ok((self.config_of(text.as_deref(), None)?, text))
    }

    /// The configuration that this text describes; of a folder, with these artifacts in it.
    fn config_of(self, text: Option<&str>, files: Option<Vec<PathBuf>>) -> Result<Config, Error> {
        let mut config = match (app_kind(self.file), text) {
            (Some(kind), Some(text)) => self.app(kind, text)?,
            _ => {
                let options = SingleOptions { files, ..self.single_options()? };
                if self.file.is_dir() { Config::folder(self.file, options)? } else { Config::single(self.file, options)? }
            }
        };
        config.server.tls = self.flags.tls().or(config.server.tls);
        Ok(config)
    }

    fn app(self, kind: AppKind, text: &str) -> Result<Config, Error> {
        let Self { file, flags, global } = self;
        let listen = flags.listen.as_deref().map(parse_listen_flag).transpose()?;
        let lists = [&flags.dirs, &flags.env, &flags.allow_hosts, &flags.args];
        let ones = [&flags.entry, &flags.codec, &flags.reuse, &flags.memory];
        if flags.timeout.is_some() || ones.iter().any(|one| one.is_some()) || lists.iter().any(|list| !list.is_empty()) {
            return Err(Error::new(
                Kind::Unprocessable,
                "--dir, --env, --allow-host, --entry, --codec, --reuse, --timeout, --memory and arguments go with an artifact or a folder of \
                 them; for an app, write `dirs`, `env`, `outbound`, `entry`, `codec`, `reuse`, `limits` and `args` into its [[module]]",
            ));
        }
        let mut config = match kind {
            AppKind::Toml => Config::from_toml(text, file, &|name| std::env::var(name).ok())?,
            AppKind::Wasio => Config::from_wasio(text, file)?,
        };
        config.server.listen = listen.unwrap_or(config.server.listen);
        config.server.data = global.data.clone().or(config.server.data);
        Ok(config)
    }

    fn single_options(self) -> Result<SingleOptions, Error> {
        let Self { flags, global, .. } = self;
        let defaults = Limits::default();
        let timeout = flags.timeout.map(Duration::from);
        Ok(SingleOptions {
            listen: flags.listen.as_deref().map(parse_listen_flag).transpose()?,
            data: global.data.clone(),
            entry: flags.entry.as_deref().map(parse_entry_flag).transpose()?,
            codec: flags.codec.clone(),
            reuse: flags.reuse.as_deref().map(parse_reuse_flag).transpose()?.unwrap_or_default(),
            terminal: false,
            limits: Limits {
                cpu: timeout.unwrap_or(defaults.cpu).min(Limits::CAPS.cpu),
                wall: timeout.unwrap_or(defaults.wall).min(Limits::CAPS.wall),
                memory_bytes: flags.memory_bytes()?.unwrap_or(defaults.memory_bytes),
                ..defaults
            },
            dirs: flags.dirs.iter().map(|text| parse_dir_flag(text)).collect::<Result<_, _>>()?,
            env: flags.env.iter().map(|text| parse_env_flag(text)).collect::<Result<_, _>>()?,
            args: flags.args.clone(),
            outbound: flags.allow_hosts.clone(),
            files: None,
        })
    }
}

/// Files only, so far: what looks like an address would be called a missing file.
pub(super) fn refuse_address(file: &Path) -> Result<(), Error> {
    match file.to_str().and_then(|text| text.split_once("://")) {
        Some((scheme, _)) => {
            let text = format!("`{scheme}://…` is an address, and only local files can be run: download it first");
            Err(Error::new(Kind::Unprocessable, text))
        }
        None => Ok(()),
    }
}

/// A file that describes an app.
enum AppKind {
    Toml,
    Wasio,
}

fn app_kind(file: &Path) -> Option<AppKind> {
    let has = |wanted| file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted));
    if has("toml") { Some(AppKind::Toml) } else { has("json").then_some(AppKind::Wasio) }
}

/// What the command line names, which may be a folder, and the files that its configuration names.
fn watched_files(file: &Path, config: &Config) -> Vec<PathBuf> {
    let sources = config.modules.iter().map(|module| module.source.clone());
    let tls = config.server.tls.iter().flat_map(|tls| [tls.cert.clone(), tls.key.clone()]);
    std::iter::once(file.to_owned()).chain(sources).chain(tls).collect()
}

/// Sets the limits of a process that runs guests.
pub(super) fn set_limits() {
    // A core would have every secret of every tenant in it.
    let maximum = getrlimit(Resource::Core).maximum;
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    // Sockets and files are what a server has many of; the soft limit is often 1,024.
    let limit = getrlimit(Resource::Nofile);
    // Refused or not: the limit that holds is the one that is there.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::new(Kind::Unprocessable, error.to_string())
    }
}
