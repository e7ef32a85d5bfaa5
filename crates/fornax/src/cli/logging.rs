//! Where log lines go: to stderr, for people or, with `--json`, for programs.
//!
//! Lines of the access log have their own form, which other programs read, so nothing is put in front of them.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Global;

/// Overrides what `-v` and `-q` choose, in the syntax of `RUST_LOG`.
const LOG_VARIABLE: &str = "FORNAX_LOG";

/// What guests print is worth a line; what clients do wrong, and outgoing requests that fail, are not, unless asked for.
const DEFAULT: &str = "warn,guest=info,fornax=info,fornax::client=error,fornax::outbound=error,access=info";

/// The target of the access log.
const ACCESS: &str = "access";

/// Lines that wait for a slow reader: 8 KiB each at most.
const LINES_WAITING_MAX: usize = 4096;

/// Lines that are held back, while they are. Asked for each line, which costs far less than a line does.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds lines back: the first one on stderr is to be the address, or an error.
pub(super) fn hold() {
    held().get_or_insert_default();
}

/// Writes what was held back, and holds nothing back any more.
pub(super) fn release() {
    if let Some(lines) = held().take() {
        // A closed stderr is no reason to stop.
        let _ = io::stderr().write_all(&lines);
    }
}

/// Where a line goes.
struct Lines(NonBlocking);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *held() {
            Some(lines) => lines.write(line),
            None => self.0.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Logging, until it is dropped: then what is held back or in the queue is written.
pub(super) struct Logging {
    _queue: WorkerGuard,
}

impl Drop for Logging {
    fn drop(&mut self) {
        release();
    }
}

/// Starts logging. Lines go through a bounded queue to a thread of their own: whoever reads stderr slowly loses lines and
/// delays no call.
pub(super) fn start(global: &Global) -> Logging {
    let chosen = match (global.verbose, global.quiet) {
        (true, _) => "info",
        (_, true) => "error",
        _ => DEFAULT,
    };
    let wanted = std::env::var(LOG_VARIABLE).ok().filter(|wanted| !wanted.is_empty());
    let filter = wanted.map(|wanted| EnvFilter::try_new(&wanted).map_err(|error| (wanted, error))).transpose();
    let filter = filter.unwrap_or_else(|(wanted, error)| {
        super::say(&format!("warning: {LOG_VARIABLE}={wanted} is not understood ({error}); it is left out"));
        None
    });
    let filter = filter.unwrap_or_else(|| EnvFilter::new(chosen));
    let (queue, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES_WAITING_MAX).finish(io::stderr());
    let writer = move || Lines(queue.clone());
    let ansi = io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(writer.clone()).with_ansi(ansi);
    // A program that embeds the command line may have set up its own logging.
    let _ = if global.json {
        tracing_subscriber::registry().with(filter).with(lines.json().flatten_event(true)).try_init()
    } else {
        // Two layers with filters that do not say how much they want are taken to want everything: then each of the many `trace!` in
        // wasmtime asks them, at every call.
        let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
        let of = |access: bool| filter_fn(move |event| (event.target() == ACCESS) == access).with_max_level_hint(most);
        let lines = lines.compact().with_filter(of(false));
        let bare = fmt::format().without_time().with_level(false).with_target(false).with_ansi(false);
        let access = fmt::layer().event_format(bare).with_writer(writer).with_ansi(false);
        let access = access.with_filter(of(true));
        tracing_subscriber::registry().with(filter).with(lines).with(access).try_init()
    };
    Logging { _queue: guard }
}
