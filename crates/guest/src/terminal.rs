//! This process's own output streams, for a program that was started on a terminal.
//!
//! Whoever is at the other end may not read for as long as they like, and a write that waits for them must not hold the thread that
//! watches deadlines and signals. So each stream is written on a thread of its own, in the order it was given, and not on those for
//! files: a program that is ended while somebody holds its pipe must not hold up the end of this process.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::{oneshot, watch};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Bytes a component may write at once, and before they are out: enough to keep the thread busy, little to hold.
const PERMITTED_BYTES: usize = 64 << 10;

/// Bytes the streams of one writer may have given that are not out. Up to half of it they are permitted more: so nobody who was is
/// refused, even with several streams at once.
const QUEUED_BYTES_MAX: usize = 1 << 20;

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

    /// Writes all of it, unless that fails midway.
    fn write_all(self, bytes: &[u8]) -> Written {
        let mut written = 0;
        while written < bytes.len() {
            match self.write(&bytes[written..]) {
                Ok(0) => return Written { bytes: written, result: Err(io::ErrorKind::WriteZero.into()) },
                Ok(some) => written += some,
                Err(error) => return Written { bytes: written, result: Err(error.into()) },
            }
        }
        Written { bytes: written, result: Ok(()) }
    }
}

/// What became of bytes.
struct Written {
    bytes: usize,
    /// Why that are not all of them.
    result: io::Result<()>,
}

/// Writes to one of this process's own streams, unbuffered.
#[derive(Clone)]
pub(crate) struct Writer {
    standard: Standard,
    /// The thread that writes, once there was something to write. It ends when nobody can give it more.
    thread: Arc<Mutex<Option<mpsc::Sender<Job>>>>,
    queue: Arc<watch::Sender<Queue>>,
}

/// What the thread has before it, and behind it.
#[derive(Default)]
struct Queue {
    /// Bytes that are not out yet, of whichever stream: a component makes as many as it likes, and drops them again.
    bytes: usize,
    /// The first failure that nobody was told.
    untold: Option<io::Error>,
}

impl Queue {
    /// Whether a stream is permitted to write.
    fn has_room(&self) -> bool {
        self.bytes <= QUEUED_BYTES_MAX / 2
    }

    /// Whether a stream may write that many bytes.
    fn takes(&self, len: usize) -> bool {
        len <= PERMITTED_BYTES && self.bytes + len <= QUEUED_BYTES_MAX
    }

    fn keep(&mut self, error: io::Error) {
        self.untold.get_or_insert(error);
    }
}

/// Bytes to write, and who waits for what became of them.
struct Job {
    bytes: Bytes,
    result: oneshot::Sender<Written>,
}

impl Writer {
    fn new(standard: Standard) -> Self {
        Self { standard, thread: Arc::default(), queue: Arc::new(watch::Sender::new(Queue::default())) }
    }

    /// Standard output.
    pub(crate) fn output() -> Self {
        Self::new(Standard::Output)
    }

    /// Standard error.
    pub(crate) fn error() -> Self {
        Self::new(Standard::Error)
    }

    /// Writes the bytes; returns how many, which are all of them unless that failed midway: the next write will say why.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> io::Result<usize> {
        let Written { bytes, result } = self.begin(bytes.into())?.await.map_err(|_| lost())?;
        if bytes == 0 { result.map(|()| 0) } else { Ok(bytes) }
    }

    /// Returns when all that was given is out, or cannot be: then the first failure that nobody was told.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        self.until(|queue| queue.bytes == 0).await;
        let mut untold = None;
        self.queue.send_if_modified(|queue| {
            untold = queue.untold.take();
            false
        });
        untold.map_or(Ok(()), Err)
    }

    fn begin(&self, bytes: Bytes) -> io::Result<oneshot::Receiver<Written>> {
        let (result, written) = oneshot::channel();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Some(self.start()?);
        }
        let sender = thread.as_ref().ok_or_else(lost)?;
        let len = bytes.len();
        self.queue.send_modify(|queue| queue.bytes += len);
        sender.send(Job { bytes, result }).map_err(|_| lost())?;
        Ok(written)
    }

    fn start(&self) -> io::Result<mpsc::Sender<Job>> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let (standard, queue) = (self.standard, Arc::clone(&self.queue));
        thread::Builder::new().name("fornax-stdio".into()).spawn(move || {
            for Job { bytes, result } in jobs {
                let untold = result.send(standard.write_all(&bytes)).err().and_then(|written| written.result.err());
                queue.send_modify(|queue| {
                    queue.bytes -= bytes.len();
                    untold.into_iter().for_each(|error| queue.keep(error));
                });
            }
        })?;
        Ok(sender)
    }

    /// Returns when that is true of the queue.
    fn until(&self, is_so: fn(&Queue) -> bool) -> impl Future<Output = ()> + Send + Sync + use<> {
        let mut queue = self.queue.subscribe();
        async move {
            // It is not gone while there is a writer.
            let _ = queue.wait_for(is_so).await;
        }
    }
}

/// Says in a sentence what the failure of [`Writer::finish`] means.
#[derive(Debug)]
pub(crate) struct NotWritten(pub(crate) io::Error);

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what the program wrote last could not be written: {}", self.0)
    }
}

impl std::error::Error for NotWritten {}

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
        Box::new(Stream::new(self))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Stream::new(self))
    }
}

/// A component's end of a [`Writer`]: it takes bytes and becomes ready again when they are out.
struct Stream {
    writer: Writer,
    /// What became of the bytes it has taken, until that was said.
    writing: Option<Outcome>,
    /// Waits for what other streams have given.
    room: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

enum Outcome {
    Expected(oneshot::Receiver<Written>),
    Known(io::Result<()>),
}

impl Stream {
    fn new(writer: &Writer) -> Self {
        Self { writer: writer.clone(), writing: None, room: None }
    }

    /// Ready when nothing of its own is being written; keeps what became of it.
    fn poll_known(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(Outcome::Expected(result)) = &mut self.writing {
            let result = ready!(Pin::new(result).poll(cx)).map_err(|_| lost()).and_then(|written| written.result);
            self.writing = Some(Outcome::Known(result));
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

    /// Ready when the queue takes more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.writer.queue.borrow().has_room() {
            let room = self.room.get_or_insert_with(|| Box::pin(self.writer.until(Queue::has_room)));
            ready!(room.as_mut().poll(cx));
        }
        self.room = None;
        Poll::Ready(())
    }

    fn begin(&mut self, bytes: Bytes) -> io::Result<()> {
        self.writing = Some(Outcome::Expected(self.writer.begin(bytes)?));
        Ok(())
    }
}

/// A failure that it was not asked about is told at the end.
impl Drop for Stream {
    fn drop(&mut self) {
        let result = match self.writing.take() {
            Some(Outcome::Known(result)) => result,
            Some(Outcome::Expected(mut expected)) => {
                // What is written from now on the thread keeps.
                expected.close();
                expected.try_recv().map_or(Ok(()), |written| written.result)
            }
            None => Ok(()),
        };
        if let Err(error) = result {
            self.writer.queue.send_modify(|queue| queue.keep(error));
        }
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.writing.is_some() || !self.writer.queue.borrow().takes(bytes.len()) {
            return Err(StreamError::trap("more was written than was permitted"));
        }
        self.begin(bytes).map_err(stream_error)
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Nothing is held back; until it is out, nothing more is permitted.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        match self.poll_done(cx) {
            Poll::Ready(Err(error)) => Err(stream_error(error)),
            Poll::Ready(Ok(())) if self.writer.queue.borrow().has_room() => Ok(PERMITTED_BYTES),
            _ => Ok(0),
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
        poll_fn(|cx| {
            ready!(self.poll_known(cx));
            // A failure is said at once.
            if matches!(self.writing, Some(Outcome::Known(Err(_)))) { Poll::Ready(()) } else { self.poll_room(cx) }
        })
        .await;
    }
}

/// Takes bytes at once and waits before it takes more: who gives up waiting has not written them twice.
impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_done(cx))?;
        ready!(self.poll_room(cx));
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
