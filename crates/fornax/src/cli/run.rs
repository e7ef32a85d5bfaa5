//! `fornax run`: serve in the foreground until a signal, or run a program once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base::{Command, Entry, Error, Kind, Limits, Stdio};
use clap::Args;
use guest::Machine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::Logging;
use super::watch::Watch;
use super::{Global, chain, print_error, say};
use crate::config::{
    Config, ConfigError, SingleOptions, TlsFiles, parse_dir_flag, parse_entry_flag, parse_env_flag, parse_listen_flag,
    parse_memory_flag, parse_reuse_flag,
};
use crate::{Builder, ExecuteLimits, PoolSize, Server};

/// What a shell reports for a program that aborted: what a trap is.
const ABORTED: u8 = 134;

/// What a shell reports for a program a signal ended: 128 and the signal's number.
const ENDED_BY_SIGNAL: u8 = 128;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A component or module (.wasm), an app (.toml), a WASIO configuration (.json), or a folder of artifacts
    #[arg(value_name = "FILE|APP.toml|CONFIG.json|DIR", required_unless_present = "chain")]
    file: Option<PathBuf>,
    /// Call these modules in sequence with --input, or standard input, and print each step; behind FILE:whole all it wrote goes
    /// on, not only its result
    #[arg(long, value_name = "FILE[:whole],FILE[:whole]", value_delimiter = ',', conflicts_with_all = ["file", "listen", "tls_cert", "dirs", "env", "allow_hosts", "entry", "codec", "reuse", "watch", "args"])]
    chain: Vec<PathBuf>,
    /// What goes into the first module of --chain
    // A file conflicts with `chain`, and what conflicts is not required.
    #[arg(long, value_name = "TEXT", requires = "chain", conflicts_with = "file")]
    input: Option<String>,
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

impl RunArgs {
    /// The file; the command line has one where it has no chain.
    fn file(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(""))
    }

    fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles { cert: self.tls_cert.clone()?, key: self.tls_key.clone()? })
    }

    fn memory_bytes(&self) -> Result<Option<u64>, ConfigError> {
        self.memory.as_deref().map(parse_memory_flag).transpose()
    }
}

pub(super) fn run(args: RunArgs, global: &Global, logging: &Logging) -> Result<ExitCode, Error> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Internal, "cannot start").caused_by(error))?;
    let code = runtime.block_on(serve(&args, global, logging));
    // Compilations that are still running have nobody left to compile for.
    runtime.shutdown_background();
    code
}

async fn serve(args: &RunArgs, global: &Global, logging: &Logging) -> Result<ExitCode, Error> {
    let mut signals = Signals::new()?;
    if !args.chain.is_empty() {
        let limits = ExecuteLimits { timeout: args.timeout.map(Into::into), memory_bytes: args.memory_bytes()? };
        return tokio::select! {
            code = chain::run(&args.chain, args.input.as_deref(), limits, global) => code,
            code = signals.next() => Ok(ExitCode::from(code)),
        };
    }
    refuse_address(args.file())?;
    if is_program(args) {
        return tokio::select! {
            code = run_once(args, global) => code,
            code = signals.next() => Ok(ExitCode::from(code)),
        };
    }
    logging.hold();
    let config = read_config(args, global)?;
    let mut watch = args.watch.then(|| Watch::start(&watched_files(args.file(), &config))).transpose()?;
    let server = tokio::select! {
        server = Builder::from_config(config)?.pool(Machine::read().pool()).build() => server?,
        code = signals.next() => return Ok(ExitCode::from(code)),
    };
    for address in server.addresses() {
        say(&format!("listening on {}://{address}", server.scheme()));
    }
    logging.release();
    loop {
        tokio::select! {
            _ = signals.next() => break,
            () = changed(&mut watch) => tokio::select! {
                () = reload(&server, args, global, &mut watch) => {}
                _ = signals.next() => break,
            },
        }
    }
    let drained = tokio::select! {
        drained = server.drain() => drained,
        code = signals.next() => return Ok(ExitCode::from(code)),
    };
    if !drained {
        tracing::warn!(in_flight = server.in_flight(), "stopped at the end of the grace period");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the file is a program that is meant to run once, not to serve. What is wrong with it is said when it is published.
fn is_program(args: &RunArgs) -> bool {
    if app_kind(args.file()).is_some() || args.file().is_dir() || args.codec.is_some() {
        return false;
    }
    let artifact = registry::read_artifact(args.file(), registry::ARTIFACT_BYTES_MAX);
    match (args.entry.as_deref(), artifact.and_then(|artifact| guest::entries(&artifact))) {
        (_, Err(_)) => false,
        (Some(entry), Ok(_)) => entry == Entry::Run.name(),
        (None, Ok(entries)) => entries == [Entry::Run],
    }
}

/// Runs a program on this process's standard streams, and ends as it does.
async fn run_once(args: &RunArgs, global: &Global) -> Result<ExitCode, Error> {
    if args.watch || args.listen.is_some() || args.tls_cert.is_some() {
        let text = "a program runs once: --watch, --listen and --tls-cert are for services. To serve it over HTTP, name a codec: --codec wasio, cgi or ignis";
        return Err(Error::new(Kind::Unprocessable, text));
    }
    let config = Config::single(args.file(), SingleOptions { terminal: true, ..single_options(args, global)? })?;
    let server = Builder::from_config(config)?.threads(1).pool(PoolSize::of(16)).without_http().build().await?;
    let timeout = args.timeout.map_or(ExecuteLimits::PATIENT, Into::into);
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

/// SIGINT and SIGTERM, which mean the same.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Who listens is not ended by it: a write over the limit on the size of files is an error then, and of one call.
    _file_size: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|error| Error::new(Kind::Internal, "cannot listen for signals").caused_by(error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            _file_size: listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// The exit code of a program this signal ends.
    async fn next(&mut self) -> u8 {
        let number = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        ENDED_BY_SIGNAL + u8::try_from(number.as_raw_value()).unwrap_or_default()
    }
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn reload(server: &Server, args: &RunArgs, global: &Global, watch: &mut Option<Watch>) {
    let result = async {
        if let Some(watch) = watch {
            watch.refollow()?;
        }
        let config = read_config(args, global)?;
        if let Some(watch) = watch {
            watch.follow(&watched_files(args.file(), &config))?;
        }
        server.reload(&config).await
    };
    match result.await {
        Ok(()) => tracing::info!("reloaded"),
        Err(error) => {
            print_error(&error);
            tracing::warn!("not reloaded; what was in service stays");
        }
    }
}

fn read_config(args: &RunArgs, global: &Global) -> Result<Config, Error> {
    let mut config = read_file(args, global)?;
    config.server.tls = args.tls().or(config.server.tls);
    Ok(config)
}

fn read_file(args: &RunArgs, global: &Global) -> Result<Config, Error> {
    let listen = args.listen.as_deref().map(parse_listen_flag).transpose()?;
    if let Some(kind) = app_kind(args.file()) {
        let lists = [&args.dirs, &args.env, &args.allow_hosts, &args.args];
        let ones = [&args.entry, &args.codec, &args.reuse, &args.memory];
        if args.timeout.is_some() || ones.iter().any(|one| one.is_some()) || lists.iter().any(|list| !list.is_empty()) {
            return Err(Error::new(
                Kind::Unprocessable,
                "--dir, --env, --allow-host, --entry, --codec, --reuse, --timeout, --memory and arguments go with an artifact or a folder of \
                 them; for an app, write `dirs`, `env`, `outbound`, `entry`, `codec`, `reuse`, `limits` and `args` into its [[module]]",
            ));
        }
        let mut config = match kind {
            AppKind::Toml => Config::from_file(args.file(), &|name| std::env::var(name).ok())?,
            AppKind::Wasio => Config::from_wasio_file(args.file())?,
        };
        config.server.listen = listen.unwrap_or(config.server.listen);
        config.server.data = global.data.clone().or(config.server.data);
        return Ok(config);
    }
    let options = single_options(args, global)?;
    Ok(if args.file().is_dir() { Config::folder(args.file(), options)? } else { Config::single(args.file(), options)? })
}

fn single_options(args: &RunArgs, global: &Global) -> Result<SingleOptions, Error> {
    let defaults = Limits::default();
    let timeout = args.timeout.map(Duration::from);
    Ok(SingleOptions {
        listen: args.listen.as_deref().map(parse_listen_flag).transpose()?,
        data: global.data.clone(),
        entry: args.entry.as_deref().map(parse_entry_flag).transpose()?,
        codec: args.codec.clone(),
        reuse: args.reuse.as_deref().map(parse_reuse_flag).transpose()?.unwrap_or_default(),
        terminal: false,
        limits: Limits {
            cpu: timeout.unwrap_or(defaults.cpu).min(Limits::CAPS.cpu),
            wall: timeout.unwrap_or(defaults.wall).min(Limits::CAPS.wall),
            memory_bytes: args.memory_bytes()?.unwrap_or(defaults.memory_bytes),
            ..defaults
        },
        dirs: args.dirs.iter().map(|text| parse_dir_flag(text)).collect::<Result<_, _>>()?,
        env: args.env.iter().map(|text| parse_env_flag(text)).collect::<Result<_, _>>()?,
        args: args.args.clone(),
        outbound: args.allow_hosts.clone(),
    })
}

/// Files only, so far: what looks like an address would be called a missing file.
fn refuse_address(file: &Path) -> Result<(), Error> {
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

/// Sockets and files are what a server has many of; the soft limit is often 1,024.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused or not: the limit that holds is the one that is there.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::new(Kind::Unprocessable, error.to_string())
    }
}
