//! `fornax run`: serve in the foreground until a signal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::{Error, Kind};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::watch::Watch;
use super::{Global, print_error, say};
use crate::config::{Config, ConfigError, SingleOptions, parse_dir_flag, parse_env_flag, parse_listen_flag};
use crate::{Builder, Server};

/// What a shell reports for a program a signal ended: 128 and the signal's number.
const ENDED_BY_SIGNAL: u8 = 128;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A component (.wasm), an app (.toml), a WASIO configuration (.json), or a folder of components
    #[arg(value_name = "FILE|APP.toml|CONFIG.json|DIR")]
    file: PathBuf,
    /// Where to listen; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Give the guest a directory: HOST::GUEST, read-only unless :rw is added
    #[arg(long = "dir", value_name = "H::G[:rw]")]
    dirs: Vec<String>,
    /// Set a variable of the guest's environment, which is otherwise empty
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Let the guest connect: scheme, host and port, such as https://api.example.com
    #[arg(long = "allow-host", value_name = "URL")]
    allow_hosts: Vec<String>,
    /// Reload when the file, a file the app names, or a component of the folder changes
    #[arg(long)]
    watch: bool,
    /// The guest's arguments
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub(super) fn run(args: RunArgs, global: &Global) -> Result<ExitCode, Error> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Internal, "cannot start").caused_by(error))?;
    let code = runtime.block_on(serve(&args, global));
    // Compilations that are still running have nobody left to compile for.
    runtime.shutdown_background();
    code
}

async fn serve(args: &RunArgs, global: &Global) -> Result<ExitCode, Error> {
    let mut signals = Signals::new()?;
    let config = read_config(args, global)?;
    let mut watch = args.watch.then(|| Watch::start(&watched_files(&args.file, &config))).transpose()?;
    let mut server = tokio::select! {
        server = Builder::from_config(config)?.build() => server?,
        code = signals.next() => return Ok(ExitCode::from(code)),
    };
    for address in server.addresses() {
        say(&format!("listening on http://{address}"));
    }
    loop {
        tokio::select! {
            _ = signals.next() => break,
            () = changed(&mut watch) => reload(&mut server, args, global, &mut watch).await,
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

/// SIGINT and SIGTERM, which mean the same.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|error| Error::new(Kind::Internal, "cannot listen for signals").caused_by(error));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
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

async fn reload(server: &mut Server, args: &RunArgs, global: &Global, watch: &mut Option<Watch>) {
    let result = async {
        let config = read_config(args, global)?;
        if let Some(watch) = watch {
            watch.follow(&watched_files(&args.file, &config))?;
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
    let listen = args.listen.as_deref().map(parse_listen_flag).transpose()?;
    let extension = |wanted| args.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted));
    let (is_toml, is_json) = (extension("toml"), extension("json"));
    if is_toml || is_json {
        if !(args.dirs.is_empty() && args.env.is_empty() && args.allow_hosts.is_empty() && args.args.is_empty()) {
            return Err(Error::new(
                Kind::Unprocessable,
                "--dir, --env, --allow-host and arguments go with a component or a folder of them; for an app, write `dirs`, `env`, \
                 `outbound` and `args` into its [[module]]",
            ));
        }
        let mut config = match is_toml {
            true => Config::from_file(&args.file, &|name| std::env::var(name).ok())?,
            false => Config::from_wasio_file(&args.file)?,
        };
        config.server.listen = listen.unwrap_or(config.server.listen);
        config.server.data = global.data.clone().or(config.server.data);
        return Ok(config);
    }
    let options = SingleOptions {
        listen,
        data: global.data.clone(),
        dirs: args.dirs.iter().map(|text| parse_dir_flag(text)).collect::<Result<_, _>>()?,
        env: args.env.iter().map(|text| parse_env_flag(text)).collect::<Result<_, _>>()?,
        args: args.args.clone(),
        outbound: args.allow_hosts.clone(),
        ..SingleOptions::default()
    };
    Ok(if args.file.is_dir() { Config::folder(&args.file, options)? } else { Config::single(&args.file, options)? })
}

/// What the command line names, which may be a folder, and the files that its configuration names.
fn watched_files(file: &Path, config: &Config) -> Vec<PathBuf> {
    std::iter::once(file.to_owned()).chain(config.modules.iter().map(|module| module.source.clone())).collect()
}

/// Sockets and files are what a server has many of; the soft limit is often 1,024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused or not: the limit that holds is the one that is there.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::new(Kind::Unprocessable, error.to_string())
    }
}
