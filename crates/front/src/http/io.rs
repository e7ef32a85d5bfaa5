//! The socket under hyper, with timers.
//!
//! hyper's own header timer also runs on an idle kept-alive connection and is armed anew for each request. This one tells
//! the first byte from the head from idleness, and costs no timer per request: one sleeping timer per connection, which is
//! moved only when it fires or when patience became shorter.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::http::clock::{Clock, Phase};
use crate::http::head::Framing;

/// How long a client may refuse to take bytes.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// A client that has closed its sending side may still want its answer, or may have left: on TCP the two look the same. It is
/// taken as gone after this long: an answer that is made at once arrives, and nobody works for long for a client that left.
const HALF_CLOSED: Duration = Duration::from_millis(250);

/// How long a socket is drained after its last answer, where a body was left unread: without that the client may lose the answer
/// to a reset.
const LINGER: Duration = Duration::from_secs(2);

/// Sent to a client that began a request and did not finish its head.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A client's socket.
pub(crate) struct Socket {
    stream: TcpStream,
    clock: Arc<Clock>,
    framing: Framing,
    read_timer: Timer,
    write_timer: Timer,
    write_stalled_at: Option<Instant>,
    half_closed_at: Option<Instant>,
    linger_until: Option<Instant>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, clock: Arc<Clock>) -> Self {
        Self {
            stream,
            clock,
            framing: Framing::default(),
            read_timer: Timer(None),
            write_timer: Timer(None),
            write_stalled_at: None,
            half_closed_at: None,
            linger_until: None,
        }
    }

    /// Bytes have come: where nothing was under way, a head begins.
    fn note_bytes(&mut self, bytes: &[u8]) {
        if matches!(self.clock.phase(), Phase::FirstByte | Phase::Idle) {
            self.clock.enter(Phase::Head);
        }
        self.framing.read(bytes);
        if let Some(index) = self.framing.ambiguous_at() {
            self.clock.note_ambiguous(index);
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(deadline) = self.clock.deadline() else { return Poll::Pending };
        ready!(self.read_timer.poll(cx, Instant::from_std(deadline)));
        if self.clock.phase() == Phase::Head {
            // Nothing else is on its way to this client; whether it takes the bytes does not matter.
            let _ = self.stream.try_write(TOO_SLOW);
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Holds the end of the client's bytes back for a moment while an answer is being made.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.phase() != Phase::Busy {
            return Poll::Ready(());
        }
        let since = *self.half_closed_at.get_or_insert_with(Instant::now);
        self.read_timer.poll(cx, since + HALF_CLOSED)
    }

    /// Takes and drops what still comes. Ready when nothing does, or for too long.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.linger_until.get_or_insert_with(|| Instant::now() + LINGER);
        let mut bytes = [0; 8 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return self.read_timer.poll(cx, until),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && Instant::now() < until => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }

    fn poll_stall<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_stalled_at = None;
            return written;
        }
        let since = *self.write_stalled_at.get_or_insert_with(Instant::now);
        ready!(self.write_timer.poll(cx, since + WRITE_STALL));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A timer that sleeps through most of its deadlines.
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => self.poll_patience(cx).map(Err),
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    self.note_bytes(&buffer.filled()[before..]);
                } else if result.is_ok() && buffer.remaining() > 0 {
                    ready!(self.poll_half_closed(cx));
                }
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.poll_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.clock.leftover.is_unread() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
