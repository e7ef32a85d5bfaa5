//! The socket under hyper, with timers.
//!
//! hyper's own header timer also runs on an idle kept-alive connection and is armed anew for each request. This one tells
//! the first byte from the head from idleness, and costs no timer per request: one sleeping timer per connection, which is
//! moved only when it fires or when patience became shorter.
//!
//! The first bytes say whether a client speaks HTTP/1 or HTTP/2. They are read here, before hyper is chosen, and given to
//! it with its first read, so that HTTP/1 costs no system call for it.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::http::clock::{Clock, Phase};
use crate::http::head::Framing;
use crate::http::tls;
use crate::http::transport::Transport;

/// A client that has closed its sending side may still want its answer, or may have left: on TCP the two look the same. It is
/// taken as gone after this long: an answer that is made at once arrives, and nobody works for long for a client that left.
const HALF_CLOSED: Duration = Duration::from_millis(250);

/// How long a socket is drained after its last answer, where a body was left unread: without that the client may lose the answer
/// to a reset.
const LINGER: Duration = Duration::from_secs(2);

/// Sent to a client that began a request and did not finish its head.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Read at first: as much as hyper would.
const FIRST_BYTES_MAX: usize = 8 << 10;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A client's socket.
pub(crate) struct Socket {
    stream: Transport,
    clock: Arc<Clock>,
    protocol: Protocol,
    /// Read before the protocol was known, for whoever reads next.
    first: Vec<u8>,
    framing: Framing,
    read_timer: Timer,
    write_timer: Timer,
    write_stalled_at: Option<Instant>,
    half_closed_at: Option<Instant>,
    linger_until: Option<Instant>,
}

impl Socket {
    pub(crate) fn new(stream: Transport, clock: Arc<Clock>) -> Self {
        Self {
            stream,
            clock,
            protocol: Protocol::Http1,
            first: Vec::new(),
            framing: Framing::default(),
            read_timer: Timer::default(),
            write_timer: Timer::default(),
            write_stalled_at: None,
            half_closed_at: None,
            linger_until: None,
        }
    }

    /// What the client speaks: by what it chose where there is TLS, else by its first bytes, which stay to be read.
    pub(crate) async fn protocol(&mut self) -> io::Result<Protocol> {
        self.protocol = match self.stream.chosen() {
            Some(tls::HTTP2) => Protocol::Http2,
            Some(_) => Protocol::Http1,
            None => poll_fn(|cx| self.poll_first(cx)).await?,
        };
        Ok(self.protocol)
    }

    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            let mut bytes = [0; FIRST_BYTES_MAX];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return self.poll_patience(cx).map(Err),
                Poll::Ready(read) => read?,
            }
            if self.first.is_empty() {
                self.clock.enter(Phase::Head);
            }
            self.first.extend_from_slice(buffer.filled());
            if let Some(protocol) = protocol_of(&self.first, buffer.filled().is_empty()) {
                return Poll::Ready(Ok(protocol));
            }
        }
    }

    /// Gives away what was read at first.
    fn read_first(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = self.first.split_off(self.first.len().min(buffer.remaining()));
        let bytes = mem::replace(&mut self.first, rest);
        buffer.put_slice(&bytes);
        self.note_bytes(&bytes);
    }

    /// Bytes have come: where nothing was under way, a head begins. Bytes of HTTP/2 say nothing of that.
    fn note_bytes(&mut self, bytes: &[u8]) {
        if self.protocol == Protocol::Http2 {
            return;
        }
        if matches!(self.clock.phase(), Phase::FirstByte | Phase::Idle) {
            self.clock.enter(Phase::Head);
        }
        self.framing.read(bytes);
        if let Some(index) = self.framing.ambiguous_at() {
            self.clock.note_ambiguous(index);
        }
    }

    /// Of HTTP/2, whoever serves it is patient: it can say goodbye.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.protocol == Protocol::Http2 {
            return Poll::Pending;
        }
        let Some(deadline) = self.clock.deadline() else { return Poll::Pending };
        ready!(self.read_timer.poll(cx, Instant::from_std(deadline)));
        if self.clock.phase() == Phase::Head {
            // Nothing else is on its way to this client; whether it takes the bytes does not matter.
            let _ = Pin::new(&mut self.stream).poll_write(cx, TOO_SLOW);
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
        ready!(self.write_timer.poll(cx, since + self.clock.limits().write_stall));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// What these first bytes mean; none while they may still become either. Whatever is not HTTP/2 is for HTTP/1 to refuse.
fn protocol_of(first: &[u8], has_ended: bool) -> Option<Protocol> {
    if first.starts_with(PREFACE) {
        Some(Protocol::Http2)
    } else if has_ended || !PREFACE.starts_with(first) {
        Some(Protocol::Http1)
    } else {
        None
    }
}

/// A timer that sleeps through most of its deadlines.
#[derive(Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
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
        if !self.first.is_empty() {
            self.read_first(buffer);
            return Poll::Ready(Ok(()));
        }
        if self.framing.is_broken() {
            // As if it had ended: whatever is owed for what was clear may still be said.
            ready!(self.poll_half_closed(cx));
            return Poll::Ready(Ok(()));
        }
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
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.poll_stall(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        ready!(self.poll_stall(cx, closed))?;
        if self.clock.leftover.is_unread() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, time};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("sending side closed before the answer", time(HALF_CLOSED));
    }

    #[test]
    fn the_first_bytes_say_what_is_spoken() {
        for length in 0..PREFACE.len() {
            let (begin, rest) = PREFACE.split_at(length);
            assert_eq!(protocol_of(begin, false), None, "{length} bytes");
            assert_eq!(protocol_of(begin, true), Some(Protocol::Http1), "{length} bytes and no more");
            let mut other = begin.to_vec();
            other.push(rest[0] ^ 1);
            assert_eq!(protocol_of(&other, false), Some(Protocol::Http1), "another byte behind {length}");
        }
        assert_eq!(protocol_of(PREFACE, false), Some(Protocol::Http2));
        assert_eq!(protocol_of(&[PREFACE, b"\0"].concat(), true), Some(Protocol::Http2));
        assert_eq!(protocol_of(b"GET / HTTP/1.1\r\n", false), Some(Protocol::Http1));
    }
}
