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

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::clock::{Clock, Part};

/// Taken from a body nobody read: what a client has in flight before it could know.
const TAKEN_BYTES_MAX: usize = 64 << 10;

/// Each lets hyper look at the socket once more.
const TAKEN_LOOKS_MAX: usize = 4;

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
        let Place::Left(mut body) = place else { return true };
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
}

impl RequestBody {
    /// The body of a request of HTTP/1.
    pub(crate) fn in_order(inner: Incoming, clock: &Arc<Clock>) -> Self {
        if inner.is_end_stream() {
            return Self { inner: None, part: None };
        }
        clock.leftover.begin();
        Self { inner: Some(inner), part: Some(clock.begin_body()) }
    }

    /// Whether what its reader leaves of it is in the way of the next request.
    pub(crate) fn is_owed(&self) -> bool {
        self.part.is_some()
    }

    /// The body of a stream of HTTP/2. What its reader leaves of it is reset when the answer is complete.
    pub(crate) fn of_stream(inner: Incoming) -> Self {
        Self { inner: (!inner.is_end_stream()).then_some(inner), part: None }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(&mut *inner).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || inner.is_end_stream() {
            self.inner = None;
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

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (Some(part), Some(inner)) = (&self.part, self.inner.take()) {
            part.clock().leftover.leave(inner);
        }
    }
}
