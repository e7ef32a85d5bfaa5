//! How a program is started: arguments, environment, standard streams.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use base::{Command, Secret, Stdio};
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::instance::Equipment;
use crate::logs::LogStream;
use crate::state::{Active, Serving};
use crate::terminal::Writer;

/// What a guest is started with.
pub(crate) struct Program {
    /// With the program's name in front, unless there are none at all.
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, Secret)>,
    pub(crate) stdin: Stdin,
    pub(crate) stdout: Stdout,
}

/// Where standard input comes from.
#[derive(Debug)]
pub(crate) enum Stdin {
    /// Known whole.
    Bytes(Bytes),
    /// This process's.
    Inherited,
}

/// Where standard output goes.
#[derive(Clone)]
pub(crate) enum Stdout {
    /// Log lines, as standard error does.
    Log,
    /// Kept for whoever called; standard error becomes log lines.
    Captured(Capture),
    /// This process's; standard error too.
    Inherited { out: Writer, err: Writer },
}

impl Program {
    /// What a plugin is started with that looks like a program, as those of some languages do.
    pub(crate) fn of_plugin(active: &Arc<Active>) -> Self {
        Self { args: Vec::new(), env: active.equipment.env.clone(), stdin: Stdin::Bytes(Bytes::new()), stdout: Stdout::Log }
    }

    /// A program as a call starts it.
    pub(crate) fn of_command(command: Command, active: &Arc<Active>) -> Self {
        let equipment = &active.equipment;
        let mut env = equipment.env.clone();
        // What the operator says goes before what a client may say.
        let is_free = |(name, _): &(String, String)| !equipment.env.iter().any(|(other, _)| other == name);
        env.extend(command.env.into_iter().filter(is_free).map(|(name, value)| (name, value.into())));
        let mut args = equipment.args.clone();
        if args.is_empty() {
            // By convention the first argument is the program's name, and programs look.
            args.push(active.module.name.to_string());
        }
        args.extend(command.args);
        let (stdin, stdout) = match command.stdio {
            Stdio::Buffered(bytes) => (Stdin::Bytes(bytes), Stdout::Captured(Capture::new(active))),
            Stdio::Inherited => (Stdin::Inherited, Stdout::Inherited { out: Writer::output(), err: Writer::error() }),
        };
        Self { args, env, stdin, stdout }
    }

    /// Gives all of it to a component.
    pub(crate) fn equip(&self, wasi: &mut WasiCtxBuilder, equipment: &Arc<Equipment>, serving: &Serving) {
        let log = |stream| LogStream::new(equipment, serving, stream);
        match &self.stdin {
            Stdin::Bytes(bytes) if bytes.is_empty() => {}
            Stdin::Bytes(bytes) => drop(wasi.stdin(MemoryInputPipe::new(bytes.clone()))),
            Stdin::Inherited => drop(wasi.inherit_stdin()),
        }
        match &self.stdout {
            Stdout::Log => wasi.stdout(log("stdout")).stderr(log("stderr")),
            Stdout::Captured(capture) => wasi.stdout(capture.clone()).stderr(log("stderr")),
            Stdout::Inherited { out, err } => wasi.stdout(out.clone()).stderr(err.clone()),
        };
        if !self.env.is_empty() {
            wasi.envs(&self.env);
        }
        if !self.args.is_empty() {
            wasi.args(&self.args);
        }
    }
}

impl Stdout {
    /// Returns when what was written is out, where that is for others to take; or what failed of it without the program being told.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        let Self::Inherited { out, err } = self else { return Ok(()) };
        let (out, err) = (out.finish().await, err.finish().await);
        out.and(err)
    }

    /// What will have been written when the program has ended; empty where that went elsewhere.
    pub(crate) fn capture(&self) -> Captured {
        match self {
            Self::Captured(capture) => Captured(Some(capture.clone())),
            Self::Log | Self::Inherited { .. } => Captured(None),
        }
    }
}

/// What a program wrote.
pub(crate) struct Captured(Option<Capture>);

impl Captured {
    pub(crate) fn take(self) -> Bytes {
        self.0.map(|capture| std::mem::take(&mut *capture.bytes())).unwrap_or_default().into()
    }
}

/// What a component may write to a [`Capture`] at once: the host copies it out of the guest first.
const PERMITTED_BYTES: usize = 1 << 20;

/// Standard output that is kept, up to the module's limit.
#[derive(Clone)]
pub(crate) struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    active: Arc<Active>,
}

impl Capture {
    fn new(active: &Arc<Active>) -> Self {
        Self { bytes: Arc::default(), active: Arc::clone(active) }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `bytes`; an error if that is too much, after which the guest must end.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.bytes();
        if (kept.len() + bytes.len()) as u64 > self.active.module.limits.buffer_bytes {
            self.active.meter.note_output_over();
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "more output than the limit"));
        }
        kept.write_all(bytes)
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // Not by way of a task that writes what is queued, as where nothing is said: that ends with the store, and what was not
    // flushed with it.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Self::write(self, &bytes).map_err(|error| StreamError::Trap(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMITTED_BYTES)
    }
}

#[async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Capture {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
