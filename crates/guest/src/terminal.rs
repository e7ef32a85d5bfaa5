//! This process's own output streams, for a program that was started on a terminal.
//!
//! Whoever is at the other end may not read for as long as they like, and a write that waits for them must not hold the thread that
//! watches deadlines and signals. So each stream is written on a thread of its own, in the order it was given, and not on those for
//! files: a program that is ended while somebody holds its pipe must not hold up the end of this process.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Bytes a component may write at once, and before they are out: enough to keep the thread busy, little to hold.
const PERMITTED_BYTES: usize = 64 << 10;

/// One of this process's own streams.
#[derive(Clone, Copy, Debug)]
enum Standard {
    Output,
    Error,
}

impl Standard {
    fn write(self, bytes: &[u8]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| match self {
            Self::Output => rustix::io::write(io::stdout(), bytes),
            Self::Error => rustix::io::write(io::stderr(), bytes),
        })
    }

    /// Writes all of it, unless that fails midway: the next write will say why.
    fn write_all(self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(some) => written += some,
                Err(_) if written > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }
}

/// Writes to one of this process's own streams, unbuffered.
#[derive(Clone)]
pub(crate) struct Writer {
    standard: Standard,
    /// The thread that writes, once there was something to write. It ends when nobody can give it more.
    thread: Arc<Mutex<Option<mpsc::Sender<Job>>>>,
}

/// Bytes to write, and who waits for what became of them.
struct Job {
    bytes: Bytes,
    result: oneshot::Sender<io::Result<usize>>,
}

impl Writer {
    fn new(standard: Standard) -> Self {
        Self { standard, thread: Arc::default() }
    }

    /// Standard output.
    pub(crate) fn output() -> Self {
        Self::new(Standard::Output)
    }

    /// Standard error.
    pub(crate) fn error() -> Self {
        Self::new(Standard::Error)
    }

    /// Writes the bytes; returns how many, which are all of them unless that failed midway.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> io::Result<usize> {
        self.begin(bytes.into())?.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Returns when all that was given is out, or cannot be.
    pub(crate) async fn finish(&self) {
        let began = self.thread.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if began {
            // Behind everything else. Who wrote what failed has been told.
            let _ = self.write(Bytes::new()).await;
        }
    }

    fn begin(&self, bytes: Bytes) -> io::Result<oneshot::Receiver<io::Result<usize>>> {
        let (result, written) = oneshot::channel();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Some(self.start()?);
        }
        let sender = thread.as_ref().ok_or_else(lost)?;
        sender.send(Job { bytes, result }).map_err(|_| lost())?;
        Ok(written)
    }

    fn start(&self) -> io::Result<mpsc::Sender<Job>> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let standard = self.standard;
        thread::Builder::new().name("fornax-stdio".into()).spawn(move || {
            for Job { bytes, result } in jobs {
                // A program that was ended meanwhile does not ask.
                let _ = result.send(standard.write_all(&bytes));
            }
        })?;
        Ok(sender)
    }
}

fn lost() -> io::Error {
    io::Error::other("the thread that writes is gone")
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        match self.standard {
            Standard::Output => io::IsTerminal::is_terminal(&io::stdout()),
            Standard::Error => io::IsTerminal::is_terminal(&io::stderr()),
        }
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Stream { writer: self.clone(), writing: None })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Stream { writer: self.clone(), writing: None })
    }
}

/// A component's end of a [`Writer`]: it takes bytes and becomes ready again when they are out.
struct Stream {
    writer: Writer,
    /// What became of the bytes it has taken, until that was said.
    writing: Option<Outcome>,
}

enum Outcome {
    Expected(oneshot::Receiver<io::Result<usize>>),
    Known(io::Result<()>),
}

impl Stream {
    /// Ready when nothing is being written; keeps what became of it.
    fn poll_known(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(Outcome::Expected(result)) = &mut self.writing {
            let result = ready!(Pin::new(result).poll(cx)).unwrap_or_else(|_| Err(lost()));
            self.writing = Some(Outcome::Known(result.map(drop)));
        }
        Poll::Ready(())
    }

    /// What became of the bytes, once.
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_known(cx));
        Poll::Ready(match self.writing.take() {
            Some(Outcome::Known(result)) => result,
            _ => Ok(()),
        })
    }

    fn begin(&mut self, bytes: Bytes) -> io::Result<()> {
        self.writing = Some(Outcome::Expected(self.writer.begin(bytes)?));
        Ok(())
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.writing.is_some() {
            return Err(StreamError::trap("more was written than was permitted"));
        }
        self.begin(bytes).map_err(stream_error)
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Nothing is held back; until it is out, nothing more is permitted.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.poll_done(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(result) => result.map(|()| PERMITTED_BYTES).map_err(stream_error),
            Poll::Pending => Ok(0),
        }
    }
}

fn stream_error(error: io::Error) -> StreamError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => StreamError::Closed,
        _ => StreamError::LastOperationFailed(error.into()),
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_known(cx)).await;
    }
}

/// Takes bytes at once and waits before it takes more: who gives up waiting has not written them twice.
impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_done(cx))?;
        let bytes = &bytes[..bytes.len().min(PERMITTED_BYTES)];
        Poll::Ready(self.begin(Bytes::copy_from_slice(bytes)).map(|()| bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_done(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
