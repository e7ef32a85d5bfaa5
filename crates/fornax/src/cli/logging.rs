//! Where log lines go: to stderr, for people or, with `--json`, for programs.
//!
//! Lines of the access log have their own form, which other programs read, so nothing is put in front of them.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Global;

/// Overrides what `-v` and `-q` choose, in the syntax of `RUST_LOG`.
const LOG_VARIABLE: &str = "FORNAX_LOG";

/// What guests print is worth a line; what clients do wrong, and outgoing requests that fail, are not, unless asked for.
const DEFAULT: &str = "warn,guest=info,fornax=info,fornax::client=error,fornax::outbound=error,access=info,evidence=info";

/// The target of the access log.
const ACCESS: &str = "access";

/// Lines that wait for a slow reader: 8 KiB each at most.
const LINES_WAITING_MAX: usize = 4096;

/// Bytes of lines that are held back; more are lost.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Lines that are held back, while they are. Asked for each line, which costs far less than a line does.
type Held = Arc<Mutex<Option<Vec<u8>>>>;

fn lock(held: &Held) -> MutexGuard<'_, Option<Vec<u8>>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a line goes.
struct Lines {
    held: Held,
    queue: NonBlocking,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(lines) = &mut *lock(&self.held) {
            if lines.len() + line.len() <= HELD_BYTES_MAX {
                lines.extend_from_slice(line);
            }
            return Ok(line.len());
        }
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.flush()
    }
}

/// Logging, until it is dropped: then what is held back or in the queue is written.
pub(super) struct Logging {
    held: Held,
    queue: NonBlocking,
    _writer: WorkerGuard,
}

impl Logging {
    /// Holds lines back: the first one on stderr is to be the address, or an error.
    pub(super) fn hold(&self) {
        lock(&self.held).get_or_insert_default();
    }

    /// Sends off what was held back, and holds nothing back any more.
    pub(super) fn release(&self) {
        let lines = lock(&self.held).take();
        if let Some(lines) = lines.filter(|lines| !lines.is_empty()) {
            // It goes nowhere but into a queue.
            let _ = self.queue.clone().write_all(&lines);
        }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.release();
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
    let (queue, writer_guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES_WAITING_MAX).finish(io::stderr());
    let held = Held::default();
    let writer = {
        let (held, queue) = (Arc::clone(&held), queue.clone());
        move || Lines { held: Arc::clone(&held), queue: queue.clone() }
    };
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
    Logging { held, queue, _writer: writer_guard }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, number};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("lines that wait for whoever reads standard error", number(LINES_WAITING_MAX));
    }
}
