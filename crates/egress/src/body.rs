//! Bodies on their way through: the guest's, watched for who is waiting for whom; the server's, held to its pace.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base::BodyError;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::pool::Lease;

/// Who is to act while a request is being sent. A server may be silent as long as it waits for the guest.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<Turn>);

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The guest has nothing to send yet.
    Guest,
    /// The server has something to read since then.
    Server(Instant),
    /// The same, and nothing more will come.
    Done(Instant),
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Turn::Server(Instant::now())))
    }

    /// Since when the server is to act.
    fn since(&self) -> Option<Instant> {
        match self.turn() {
            Turn::Guest => None,
            Turn::Server(since) | Turn::Done(since) => Some(since),
        }
    }

    /// Whether all of the body has been handed over.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.turn(), Turn::Done(_))
    }

    fn turn(&self) -> Turn {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

/// Ends when the server had `limit` to act and did not, counted from `start` or from the last that was handed to it.
pub(crate) async fn server_silent(start: Instant, limit: Duration, progress: Option<&Progress>) {
    let mut wake_at = start + limit;
    loop {
        tokio::time::sleep_until(wake_at).await;
        // If the guest is to act, look again a limit later: whatever it hands over until then has its time at least until then.
        let since = progress.map_or(Some(start), Progress::since).unwrap_or_else(Instant::now).max(start);
        if since + limit <= Instant::now() {
            return;
        }
        wake_at = since + limit;
    }
}

/// A guest's body on its way to the server.
pub(crate) struct Upload<B> {
    inner: B,
    progress: Arc<Progress>,
}

impl<B> Upload<B> {
    pub(crate) fn new(inner: B, progress: Arc<Progress>) -> Self {
        Self { inner, progress }
    }
}

impl<B> HttpBody for Upload<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        self.progress.set(if frame.is_pending() { Turn::Guest } else { Turn::Server(Instant::now()) });
        frame.map(|frame| frame.map(|frame| frame.map_err(|error| BodyError::Broken(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// hyper drops a body as soon as it needs no more of it; it does not always ask for the end.
impl<B> Drop for Upload<B> {
    fn drop(&mut self) {
        self.progress.set(Turn::Done(Instant::now()));
    }
}

/// A server's body on its way to the guest. At its end the connection goes back to the pool; dropped before, it closes.
pub(crate) struct Download {
    inner: Incoming,
    silence_max: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs. It does only while the guest waits for the server: a slow guest is not a slow server.
    waiting: bool,
    ended: bool,
    lease: Option<Lease>,
}

impl Download {
    pub(crate) fn new(inner: Incoming, silence_max: Duration, lease: Lease) -> Self {
        Self { inner, silence_max, timer: None, waiting: false, ended: false, lease: Some(lease) }
    }

    /// Closes the connection and reports `error`; nothing follows.
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let silence_max = self.silence_max;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence_max)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + silence_max);
        }
        timer.as_mut().poll(cx)
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return match this.poll_silence(cx) {
                Poll::Ready(()) => this.fail(BodyError::Timeout),
                Poll::Pending => Poll::Pending,
            };
        };
        this.waiting = false;
        match frame {
            Some(Err(error)) => this.fail(BodyError::Broken(error.into())),
            Some(Ok(frame)) => {
                // A reader that knows the length does not ask for the end.
                if this.inner.is_end_stream() {
                    this.give_back();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                this.ended = true;
                this.give_back();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_server_has_its_time_from_the_last_it_was_given() {
        let start = Instant::now();
        server_silent(start, LIMIT, None).await;
        assert_eq!(start.elapsed(), LIMIT);

        let progress = Arc::new(Progress::new());
        let start = Instant::now();
        progress.set(Turn::Guest);
        let guest = Arc::clone(&progress);
        tokio::spawn(async move {
            tokio::time::sleep(LIMIT * 3 + LIMIT / 2).await;
            guest.set(Turn::Server(Instant::now()));
        });
        server_silent(start, LIMIT, Some(&progress)).await;
        // tokio's timers count milliseconds and round up.
        assert_eq!(start.elapsed().as_millis() / 10, (LIMIT * 4 + LIMIT / 2).as_millis() / 10);
    }
}
