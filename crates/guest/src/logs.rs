//! What a guest prints becomes log lines.
//!
//! Every line carries tenant, module and request id, set by the host; the text is the guest's and therefore untrusted:
//! control characters are escaped, so that no guest can forge a line or drive a terminal.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::{ModuleMetrics, Tenant};
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::instance::Equipment;
use crate::state::Serving;

/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 8 << 10;

/// How much a guest may write in one call. Each byte may be a line, and lines are written out without looking at the clock.
pub(crate) const WRITE_BYTES: usize = 4 << 10;

/// Where a guest's standard output or error goes.
pub(crate) struct LogStream {
    equipment: Arc<Equipment>,
    serving: Serving,
    account: Account,
    stream: &'static str,
}

/// Who pays for lines, and where those are counted that nobody paid for. Not the module's version, which may hold the instance.
#[derive(Clone)]
struct Account {
    tenant: Arc<Tenant>,
    metrics: Arc<ModuleMetrics>,
}

impl LogStream {
    /// Of an instance that serves a call.
    pub(crate) fn new(equipment: &Arc<Equipment>, serving: &Serving, stream: &'static str) -> Self {
        let module = Arc::clone(&serving.active().module);
        let account = Account { tenant: Arc::clone(&module.tenant), metrics: Arc::clone(&module.metrics) };
        Self { equipment: Arc::clone(equipment), serving: serving.clone(), account, stream }
    }

    pub(crate) fn writer(&self) -> LogWriter {
        let Self { equipment, serving, account, stream } = self;
        let (equipment, serving, account) = (Arc::clone(equipment), serving.clone(), account.clone());
        LogWriter { equipment, serving, account, stream, line: Vec::new(), cut: false }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.writer())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.writer())
    }
}

/// Cuts what is written into lines.
pub(crate) struct LogWriter {
    equipment: Arc<Equipment>,
    serving: Serving,
    account: Account,
    stream: &'static str,
    line: Vec<u8>,
    cut: bool,
}

impl LogWriter {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE_BYTES_MAX - self.line.len();
            self.cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.emit();
            }
        }
    }

    fn emit(&mut self) {
        let Account { tenant, metrics } = &self.account;
        if tenant.may_log(&tenant.log, self.line.len(), metrics) {
            self.write_line();
        }
        self.line.clear();
        self.cut = false;
    }

    fn write_line(&self) {
        let text = escape(&self.line);
        tracing::info!(
            target: "guest",
            tenant = %self.equipment.policy.tenant,
            module = %self.equipment.name,
            // None for what an instance had not ended with a line feed when its last call was over.
            request = self.serving.id().map(tracing::field::display),
            stream = self.stream,
            // Last, so that a line for people has the host's words before the guest's.
            message = format_args!("{text}{}", if self.cut { " [cut]" } else { "" }),
        );
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.emit();
        }
    }
}

/// Escapes what would break a line or drive a terminal; tabs stay.
fn escape(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    for c in String::from_utf8_lossy(line).chars() {
        if text.len() >= LINE_BYTES_MAX {
            break;
        }
        if c.is_control() && c != '\t' {
            // Writing to a String does not fail.
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

impl OutputStream for LogWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

#[async_trait]
impl Pollable for LogWriter {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogWriter {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES)];
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("a line of the guest's output", size(LINE_BYTES_MAX));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape(b"a\tb\x1b[31mred\r"), "a\tb\\u{1b}[31mred");
        assert_eq!(escape("schön \u{85}".as_bytes()), "schön \\u{85}");
        assert_eq!(escape(b"\xff"), "\u{fffd}");
    }
}
