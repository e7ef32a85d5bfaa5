//! HTTP/2: many requests at once over one connection.
//!
//! Each stream is a task on its connection's core, so that a guest that waits keeps no other waiting, and ends with its
//! stream: a client that resets it ends the guest, as one that leaves does in HTTP/1. From the head of a request to the head
//! of its answer a stream takes the way of HTTP/1, and looks like it from there.
//!
//! What a client may make us hold is bounded by numbers of its own here, because none of those of HTTP/1 applies: a
//! connection is not one request, and a client that takes nothing does not fill a socket but closes a window. h2 bounds the
//! rest by itself: it answers a PING or SETTINGS before it reads the next, and counts CONTINUATION frames.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use base::{BodyError, BoxFuture};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::http::clock::{Clock, Phase};
use crate::http::connection::{head_bytes_max, told_to_end};
use crate::http::io::{Socket, Timer};
use crate::http::service::{Service, TrackedBody};

/// Streams that are open at once: what RFC 9113 asks servers to allow, and what browsers use.
const STREAMS_MAX: u32 = 100;

/// What HTTP/2 counts for each field beside its bytes.
const FIELD_EXTRA_BYTES: u32 = 32;

/// Bytes a client may send of one body before its reader takes some: 5 MB/s to the other side of the world.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// The same of all bodies of a connection together: what it can make us hold.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes of one answer that wait for the socket.
const SEND_BYTES_MAX: usize = 64 << 10;

/// Bytes of a body that are handed over at once, which is one frame. What was handed over is held, however small the client's
/// window is.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// Streams that a client has reset before they were looked at: more of them in one breath is no way to change one's mind.
const RESETS_UNSEEN_MAX: usize = 20;

/// Streams of one connection that were gone before there was an answer, however far apart, where they are more than half of all
/// its streams: each has cost a head and the beginning of a call, and nobody wanted any of them. People who leave pages, and
/// programs that give up waiting, take most of their answers.
const UNANSWERED_MAX: u32 = 200;

/// Streams of one connection that break the protocol. A client with so many has a bug, or looks for one of ours.
const FAULTY_STREAMS_MAX: usize = 100;

/// A connection that was silent for so long is asked for a sign of life, and closed without one. In the middle of a head
/// nobody can give it, so this bounds heads as well: both together are less than the 15 s after which a slow client is gone.
const PING_AFTER: Duration = Duration::from_secs(8);
const PING_PATIENCE: Duration = Duration::from_secs(6);

/// What a client that was told goodbye has left to answer the PING behind it and to take the rest of its answers.
const GOODBYE: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// Of the task of a stream: since when its client has left a piece of the answer waiting. None while the guest is waited for.
    static WAITING_SINCE: Cell<Option<Instant>>;
}

/// Serves a connection to its end.
pub(super) async fn serve(
    socket: Socket,
    clock: &Arc<Clock>,
    service: &Arc<Service>,
    mut draining: watch::Receiver<bool>,
) -> hyper::Result<()> {
    clock.enter(Phase::Idle);
    let tally = Arc::new(Tally::default());
    let limits = clock.limits();
    let connection = http2::Builder::new(Streams { write_stall: limits.write_stall })
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        // What HTTP/1 has room for.
        .max_header_list_size(head_bytes_max(limits).saturating_add(FIELD_EXTRA_BYTES.saturating_mul(limits.fields)))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_UNSEEN_MAX)
        .max_local_error_reset_streams(FAULTY_STREAMS_MAX)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_PATIENCE)
        .serve_connection(TokioIo::new(socket), service_fn(|request| answer(service, clock, &tally, request)));
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = tally.too_many.notified() => {
            // A GOAWAY as far as the socket takes it: nothing more is read of who does so.
            connection.as_mut().graceful_shutdown();
            return connection.now_or_never().unwrap_or(Ok(()));
        }
        () = told_to_end(&mut draining) => {}
        () = clock.idle_for(limits.keep_alive) => {}
    }
    // GOAWAY, and a PING: what a client sent before it could know is still answered.
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => ended,
        () = tally.too_many.notified() => Ok(()),
        () = clock.idle_for(GOODBYE) => Ok(()),
    }
}

fn answer(
    service: &Arc<Service>,
    clock: &Arc<Clock>,
    tally: &Arc<Tally>,
    mut request: Request<Incoming>,
) -> BoxFuture<Result<Response<Paced>, Infallible>> {
    as_http1(&mut request);
    let is_head = request.method() == Method::HEAD;
    let answer = Service::begin_stream(service, clock, request);
    let unanswered = Unanswered::new(tally);
    // On its way to its task it is moved a few times, and it is large.
    Box::pin(async move {
        let answer = answer.await?;
        unanswered.end();
        Ok(paced(answer, is_head))
    })
}

/// What became of a connection's streams.
#[derive(Default)]
struct Tally {
    streams: AtomicU32,
    unanswered: AtomicU32,
    too_many: Notify,
}

/// A stream without an answer. Dropped as such, it was reset: by its client, or because its client broke the protocol.
struct Unanswered(Option<Arc<Tally>>);

impl Unanswered {
    fn new(tally: &Arc<Tally>) -> Self {
        tally.streams.fetch_add(1, Relaxed);
        Self(Some(Arc::clone(tally)))
    }

    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(tally) = &self.0 else { return };
        let unanswered = tally.unanswered.fetch_add(1, Relaxed) + 1;
        if unanswered > UNANSWERED_MAX && unanswered > tally.streams.load(Relaxed) / 2 {
            tracing::info!(target: "fornax::client", unanswered, "a connection resets its streams");
            tally.too_many.notify_one();
        }
    }
}

/// The fields as HTTP/1 has them, for whatever reads them: `Host`, and cookies in one line (RFC 9113, 8.2.3 and 8.3.1).
fn as_http1<B>(request: &mut Request<B>) {
    if let Some(authority) = request.uri().authority()
        && !request.headers().contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    let mut cookies = request.headers().get_all(header::COOKIE).iter();
    if let (Some(_), Some(_)) = (cookies.next(), cookies.next()) {
        let cookies: Vec<_> = request.headers().get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
            request.headers_mut().insert(header::COOKIE, cookie);
        }
    }
}

/// An answer without the body that HTTP has no place for, which hyper leaves out of HTTP/1 by itself.
fn paced(answer: Response<TrackedBody>, is_head: bool) -> Response<Paced> {
    let (mut head, body) = answer.into_parts();
    let has_none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let (true, false, Some(length)) = (is_head, has_none, body.size_hint().exact())
        && length > 0
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Paced { body, rest: Bytes::new(), is_left_out: is_head || has_none })
}

/// A body that is handed over in pieces, and notes whether the client takes them.
struct Paced {
    body: TrackedBody,
    /// Of the last frame, what was not handed over.
    rest: Bytes,
    is_left_out: bool,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = if self.rest.is_empty() {
            Pin::new(&mut self.body).poll_frame(cx)
        } else {
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))))
        };
        // hyper comes for the next piece when there was room for the last one. Elsewhere than in a stream nobody asks.
        let since = frame.is_ready().then(Instant::now);
        let _ = WAITING_SINCE.try_with(|waiting| waiting.set(since));
        frame.map_ok(|frame| match frame.into_data() {
            Ok(mut data) if data.len() > PIECE_BYTES_MAX => {
                self.rest = data.split_off(PIECE_BYTES_MAX);
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(other) => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_left_out || self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before the first frame only, when there is no rest.
        self.body.size_hint()
    }
}

/// Runs streams, on this core.
#[derive(Clone, Copy)]
struct Streams {
    write_stall: Duration,
}

impl<S: Future<Output = ()> + Send + 'static> Executor<S> for Streams {
    fn execute(&self, stream: S) {
        tokio::spawn(WAITING_SINCE.scope(Cell::new(None), while_taken(stream, self.write_stall)));
    }
}

/// Drives a stream to its end, or until its client has left a piece waiting for as long as it may leave a socket full. Then
/// it is reset; the connection and its other streams go on.
async fn while_taken(stream: impl Future<Output = ()>, write_stall: Duration) {
    let mut stream = pin!(stream);
    let mut timer = Timer::default();
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match WAITING_SINCE.with(Cell::get) {
            Some(since) => timer.poll(cx, since + write_stall),
            None => Poll::Pending,
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, number, size, time};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        let window = |bytes: u32| size(bytes as usize);
        assert_documented("streams at once on a connection", number(STREAMS_MAX as usize));
        let windows = format!("{} of a body, {} of a connection", window(STREAM_WINDOW_BYTES), window(CONNECTION_WINDOW_BYTES));
        assert_documented("what a client may send before it is read", windows);
        let waiting = format!("{} and one piece of {}", size(SEND_BYTES_MAX), size(PIECE_BYTES_MAX));
        assert_documented("of an answer, waiting for the socket", waiting);
        assert_documented("streams that were reset before they were looked at", number(RESETS_UNSEEN_MAX));
        assert_documented(
            "streams that were gone before they had an answer, where they are more than half of a connection's",
            UNANSWERED_MAX,
        );
        assert_documented("streams that break the protocol", format!("{FAULTY_STREAMS_MAX} on a connection"));
        let ping = format!("a PING after {}, {} for its answer", time(PING_AFTER), time(PING_PATIENCE));
        assert_documented("silence, also in the middle of a head", ping);
        assert_documented("after GOAWAY, with no stream open", time(GOODBYE));
    }
}
