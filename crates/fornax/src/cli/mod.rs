//! The command line: one file for each command.
//!
//! Data goes to stdout, words to stderr. An error is one sentence that says what to do; exit code 1, and 2 for a command
//! line that cannot be read.

mod chain;
mod compile;
mod compile_for_server;
mod doctor;
mod kept;
mod link;
mod logging;
mod orders;
mod run;
mod serve;
mod supervisor;
mod suspects;
mod watch;

use std::io::Write as _;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::Error;
use clap::{Args, Parser, Subcommand};

use crate::Builder;
use crate::config::Config;

/// Serves WebAssembly components, programs and plugins: many tenants in a process, a fresh sandbox for every call.
#[derive(Debug, Parser)]
#[command(name = "fornax", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    /// For `serve` alone, which starts itself again with it
    #[arg(long, hide = true)]
    worker: bool,
    #[command(subcommand)]
    command: Command,
}

/// Flags every command takes.
#[derive(Clone, Debug, Args)]
struct Global {
    /// Where artifacts and embedded stores are kept; a temporary directory where nothing is said
    #[arg(long, global = true, value_name = "DIR", env = "FORNAX_DATA")]
    data: Option<PathBuf>,
    /// Log lines as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Log what clients do wrong and outgoing requests that fail, too
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Log failures of the server only
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// Every command.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an artifact, a folder of them, or the app a configuration describes, in the foreground; or run a program once
    Run(Box<run::RunArgs>),
    /// Serve the same for months: a process that keeps the sockets open, and one that serves and is replaced should it die
    Serve(Box<serve::ServeArgs>),
    /// Say what this machine carries: how many calls at once, what bounds that, and what to do about it
    Doctor,
    /// Compile an artifact, and sign its code for servers that trust the key: `fornax run --trust`
    Compile(compile::CompileArgs),
    /// Compile one module for the server that started this process
    #[command(hide = true)]
    CompileForServer(compile_for_server::Job),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before anything else is begun: it limits itself first of all.
    if let Command::CompileForServer(job) = &cli.command {
        return compile_for_server::run(job);
    }
    say_panics();
    // Libraries panic where the system refuses them a thread or a descriptor while all is set up.
    let result = catch_unwind(|| {
        let logging = logging::start(&cli.global);
        match cli.command {
            Command::Run(args) => run::run(*args, &cli.global, &logging),
            Command::Serve(args) if cli.worker => serve::work(*args, &cli.global, &logging),
            Command::Serve(args) => serve::serve(*args, &cli.global, &logging),
            Command::CompileForServer(job) => Ok(compile_for_server::run(&job)),
            Command::Compile(args) => compile::run(&args, cli.global.json),
            Command::Doctor => doctor::run(cli.global.json),
        }
    });
    match result {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            print_error(&error);
            ExitCode::FAILURE
        }
        // It has been said.
        Err(_) => ExitCode::FAILURE,
    }
}

/// A panic is one line, as every error is; `RUST_BACKTRACE` brings what Rust says of it.
fn say_panics() {
    let whole = take_hook();
    set_hook(Box::new(move |panic| {
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            return whole(panic);
        }
        let what = panic.payload_as_str().unwrap_or("no reason given").replace('\n', " ");
        let at = panic.location().map(|location| format!(" at {location}")).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        say(&format!("error: the thread `{thread}` cannot go on: {what}{at}"));
    }));
}

/// What every command makes its server with: modules are compiled by this very program.
fn builder(config: Config) -> Result<Builder, Error> {
    let builder = Builder::from_config(config)?;
    Ok(match this_program() {
        Some(program) => builder.compiler(program),
        None => builder,
    })
}

/// This very program, whatever lies at its path by now; where that cannot be said, the one that lies there.
fn this_program() -> Option<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Some(running.to_owned()) } else { std::env::current_exe().ok() }
}

/// `error: …` and, where the log would say more, why.
fn print_error(error: &Error) {
    say(&shown(&format!("error: {error}")));
    let detail = error.detail();
    if !detail.is_empty() && tracing::enabled!(tracing::Level::INFO) {
        say(&shown(&format!("  because: {detail}")));
    }
}

/// Lines as a terminal may be shown them, whoever had a say in them.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            shown.extend(letter.escape_debug());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Words for people. A closed stderr is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
