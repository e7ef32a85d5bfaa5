//! The command line: one file for each command.
//!
//! Data goes to stdout, words to stderr. An error is one sentence that says what to do; exit code 1, and 2 for a command
//! line that cannot be read.

mod chain;
mod doctor;
mod logging;
mod run;
mod watch;

use std::io::Write as _;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::path::PathBuf;
use std::process::ExitCode;

use base::Error;
use clap::{Args, Parser, Subcommand};

/// Serves WebAssembly components, programs and plugins: many tenants in a process, a fresh sandbox for every call.
#[derive(Debug, Parser)]
#[command(name = "fornax", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags every command takes.
#[derive(Debug, Args)]
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
    /// Say what this machine carries: how many calls at once, what bounds that, and what to do about it
    Doctor,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    say_panics();
    // Libraries panic where the system refuses them a thread or a descriptor while all is set up.
    let result = catch_unwind(|| {
        let logging = logging::start(&cli.global);
        match cli.command {
            Command::Run(args) => run::run(*args, &cli.global, &logging),
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

/// `error: …` and, where the log would say more, why.
fn print_error(error: &Error) {
    say(&format!("error: {error}"));
    let detail = error.detail();
    if !detail.is_empty() && tracing::enabled!(tracing::Level::INFO) {
        say(&format!("  because: {detail}"));
    }
}

/// Words for people. A closed stderr is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
