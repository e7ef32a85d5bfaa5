//! A request's body between hyper and whoever reads it, and what becomes of one that nobody reads to its end.
//!
//! A client may still be sending when the answer is there. Closing then resets the connection, and the client may never see the
//! answer; reading on for ever is what an attacker wants. So what has arrived is taken, up to a bound, and the connection goes
//! on; else the answer says that it closes, and the socket is drained for a moment after that.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use base::strip_hop_by_hop;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::clock::{Clock, Part};
use crate::http::forwarded;

/// Taken from a body nobody read: what a client has in flight before it could know.
const TAKEN_BYTES_MAX: usize = 64 << 10;

/// Each lets hyper look at the socket once more.
const TAKEN_LOOKS_MAX: usize = 4;

/// What a client expects that sends its body when it is told that somebody reads it.
pub(crate) const CONTINUE: &[u8] = b"100-continue";

/// What nobody may say behind a body: how long it was, whom it is for, who asks, and what it is (RFC 9110, 6.5.1).
static NO_TRAILERS: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::MAX_FORWARDS,
    header::RANGE,
    header::SET_COOKIE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// Where a body goes when its reader has had enough.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    place: Mutex<Place>,
    /// Some of a body was not taken: the connection cannot go on, and its end should not be a reset.
    is_unread: AtomicBool,
}

#[derive(Debug, Default)]
enum Place {
    /// No answer yet.
    #[default]
    Open,
    /// The reader left this behind.
    Left(Incoming),
    /// The client was not asked for it. It may send it anyhow.
    Refused,
    /// The answer is on its way: nobody looks any more.
    Closed,
}

impl Leftover {
    /// Whether some of a body was not taken.
    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread.load(Relaxed)
    }

    /// The answer is there. Takes what its reader left of the body, if that has arrived; returns whether the connection can go
    /// on.
    pub(crate) async fn take(&self) -> bool {
        let place = std::mem::replace(&mut *self.lock(), Place::Closed);
        let mut body = match place {
            Place::Left(body) => body,
            Place::Refused => {
                self.is_unread.store(true, Relaxed);
                return false;
            }
            Place::Open | Place::Closed => return true,
        };
        let (mut taken, mut looks) = (0, 0);
        while taken <= TAKEN_BYTES_MAX && looks < TAKEN_LOOKS_MAX {
            match futures_util::poll!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))) {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Ok(frame))) => taken += frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(Some(Err(_))) => break,
                Poll::Pending => {
                    looks += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        self.is_unread.store(true, Relaxed);
        false
    }

    fn begin(&self) {
        *self.lock() = Place::Open;
    }

    /// Nobody has read a body that its client sends only when somebody does: to look at it would ask for it.
    fn refuse(&self) {
        let mut place = self.lock();
        match *place {
            Place::Closed => self.is_unread.store(true, Relaxed),
            _ => *place = Place::Refused,
        }
    }

    fn leave(&self, body: Incoming) {
        let mut place = self.lock();
        match *place {
            Place::Closed => self.is_unread.store(true, Relaxed),
            _ => *place = Place::Left(body),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body as the road has it.
pub(crate) struct RequestBody {
    /// None behind its end.
    inner: Option<Incoming>,
    /// None for a body whose rest is nobody's concern: one that was empty from the start, or one of HTTP/2, where the others on
    /// the connection go on without it.
    part: Option<Part>,
    /// The client waits to be asked for it.
    waits: bool,
}

impl RequestBody {
    /// The body of a request of HTTP/1, whose client may wait to be asked for it.
    pub(crate) fn in_order(inner: Incoming, waits: bool, clock: &Arc<Clock>) -> Self {
        if inner.is_end_stream() {
            return Self { inner: None, part: None, waits: false };
        }
        clock.leftover.begin();
        Self { inner: Some(inner), part: Some(clock.begin_body()), waits }
    }

    /// Whether what its reader leaves of it is in the way of the next request.
    pub(crate) fn is_owed(&self) -> bool {
        self.part.is_some()
    }

    /// The body of a stream of HTTP/2. What its reader leaves of it is reset when the answer is complete.
    pub(crate) fn of_stream(inner: Incoming) -> Self {
        Self { inner: (!inner.is_end_stream()).then_some(inner), part: None, waits: false }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let mut frame = std::task::ready!(Pin::new(&mut *inner).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || inner.is_end_stream() {
            self.inner = None;
        }
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
            strip_trailers(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// Removes what a guest that treats them as fields of the head could be deceived by.
fn strip_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    forwarded::remove(trailers, |_| true);
    for name in &NO_TRAILERS {
        trailers.remove(name);
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (Some(part), Some(inner)) = (&self.part, self.inner.take()) {
            let leftover = &part.clock().leftover;
            if self.waits { leftover.refuse() } else { leftover.leave(inner) }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("a request body nobody reads", format!("{} of what has arrived are taken", size(TAKEN_BYTES_MAX)));
    }
}
