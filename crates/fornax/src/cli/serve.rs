//! `fornax serve`: what `run` serves, by a process that is replaced when it dies.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use base::journal::Journal;
use base::{Error, Kind};
use clap::Args;
use tokio::signal::unix::SignalKind;

use super::link::Inherited;
use super::logging::Logging;
use super::orders::{Orders, on_signal};
use super::run::{self, Flags, Given, Worker};
use super::supervisor::Supervision;
use super::{Global, link};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// A component or module (.wasm), an app (.toml), a WASIO configuration (.json), or a folder of artifacts
    #[arg(value_name = "FILE|APP.toml|CONFIG.json|DIR")]
    file: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

impl ServeArgs {
    fn given<'a>(&'a self, global: &'a Global) -> Given<'a> {
        Given { file: &self.file, flags: &self.flags, global }
    }
}

/// Has a worker serve, and another when it dies.
pub(super) fn serve(args: ServeArgs, global: &Global, logging: &Logging) -> Result<ExitCode, Error> {
    let given = args.given(global);
    run::refuse_address(given.file)?;
    if given.is_program() {
        let text =
            "a program runs once: start it with `fornax run`. To serve it over HTTP, name a codec: --codec wasio, cgi or ignis";
        return Err(Error::new(Kind::Unprocessable, text));
    }
    // The workers' as well.
    run::set_limits();
    logging.hold();
    run::block_on(async { Supervision::begin(given)?.run(logging).await })
}

/// Serves for a supervisor.
pub(super) fn work(args: ServeArgs, global: &Global, logging: &Logging) -> Result<ExitCode, Error> {
    let inherited = link::inherit()?;
    // One for all workers, also where none is named.
    let global = Global { data: Some(inherited.data.clone()), ..global.clone() };
    run::block_on(async {
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            on_signal(kind, || {})?;
        }
        let journal = Journal::new(inherited.journal.try_clone().map_err(cannot_write)?, &inherited.past);
        let (orderer, orders) = Orders::from_orderer(false);
        let supervisor = inherited.listen(orderer)?;
        let swept = Arc::clone(&journal);
        tokio::spawn(async move { swept.sweep().await });
        let Inherited { listener, kept, reads_files, grace, .. } = inherited;
        let worker = Worker { listener, journal, supervisor, kept, reads_files, grace };
        run::serve(args.given(&global), logging, orders, Some(worker)).await
    })
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::new(Kind::Internal, "the journal of calls cannot be written").caused_by(error)
}
