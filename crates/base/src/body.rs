//! Bodies on the road.
//!
//! Most bodies are empty or small and known whole, and boxing them would cost an allocation each; streams are anything.
//! So [`Body`] is a small enum, and a complete one says its exact size: hyper then writes head and body at once.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{Error, Kind};

/// A request or response body.
#[derive(Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes, known.
    Full(Bytes),
    /// Bytes that come later, maybe with trailers.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    /// A body that streams from `body`.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// Why a body ended early.
#[derive(Debug)]
pub enum BodyError {
    /// More bytes than the limit allows.
    TooLarge,
    /// Silent for too long.
    Timeout,
    /// The other side closed or broke the protocol.
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// The guest ended before its body did.
    GuestEnded,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the body is over its size limit",
            Self::Timeout => "the body was silent for too long",
            Self::Broken(_) => "the connection broke within the body",
            Self::GuestEnded => "the guest ended before its body",
        })
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// Holds a request body to its size and its pace.
///
/// A body that is known to be empty stays [`Body::Empty`]; the timer is armed only when the body makes the reader wait.
/// What the client did wrong is noted in `fault`, since whoever reads the body may hide it.
pub fn limit_body<B>(body: B, bytes_max: u64, idle: Duration, fault: &Arc<BodyFault>) -> Body
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Body::Empty;
    }
    Body::stream(Limited {
        inner: body,
        left_bytes: bytes_max,
        idle,
        timer: None,
        waiting: false,
        ended: false,
        fault: Arc::clone(fault),
    })
}

/// What a client did wrong within its body, if anything.
#[derive(Debug, Default)]
pub struct BodyFault(AtomicU16);

impl BodyFault {
    /// The error to answer with, whatever the reader of the body made of it.
    pub fn error(&self) -> Option<Error> {
        let status = self.0.load(Ordering::Relaxed);
        if status == Kind::BodyTooLarge.status() {
            Some(Error::new(Kind::BodyTooLarge, "the request body is over its limit"))
        } else if status == Kind::RequestTimeout.status() {
            Some(Error::new(Kind::RequestTimeout, "the request body was silent for too long"))
        } else if status == Kind::BadRequest.status() {
            Some(Error::new(Kind::BadRequest, "the request body is not well-formed, or broke off"))
        } else {
            None
        }
    }
}

struct Limited<B> {
    inner: B,
    left_bytes: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    ended: bool,
    fault: Arc<BodyFault>,
}

impl<B> HttpBody for Limited<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            // Patience is with the sender: a reader that took its time before it asked has not used it up.
            let idle = this.idle;
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
            if !std::mem::replace(&mut this.waiting, true) {
                timer.as_mut().reset(Instant::now() + idle);
            }
            ready!(timer.as_mut().poll(cx));
            this.fault.0.store(Kind::RequestTimeout.status(), Ordering::Relaxed);
            this.ended = true;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        this.waiting = false;
        let frame = match frame {
            None => None,
            Some(Err(error)) => {
                this.fault.0.store(Kind::BadRequest.status(), Ordering::Relaxed);
                Some(Err(BodyError::Broken(error.into())))
            }
            Some(Ok(frame)) => match frame.data_ref().map_or(0, Bytes::len) as u64 {
                size if size > this.left_bytes => {
                    this.fault.0.store(Kind::BodyTooLarge.status(), Ordering::Relaxed);
                    Some(Err(BodyError::TooLarge))
                }
                size => {
                    this.left_bytes -= size;
                    Some(Ok(frame))
                }
            },
        };
        // What is behind an error is not the body any more.
        this.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
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
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_over_its_limit_ends_with_an_error() {
        let body = limit_body(Full::new(Bytes::from_static(b"12345")), 4, Duration::from_secs(1), &Arc::default());
        assert!(matches!(body.collect().await, Err(BodyError::TooLarge)));
        let body = limit_body(Full::new(Bytes::from_static(b"12345")), 5, Duration::from_secs(1), &Arc::default());
        assert_eq!(body.collect().await.expect("within the limit").to_bytes(), "12345");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_ends_with_a_timeout() {
        struct Silent;
        impl HttpBody for Silent {
            type Data = Bytes;
            type Error = std::convert::Infallible;
            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                Poll::Pending
            }
        }
        let fault = Arc::default();
        let body = limit_body(Silent, 4, Duration::from_secs(10), &fault);
        assert!(matches!(body.collect().await, Err(BodyError::Timeout)));
        assert_eq!(fault.error().map(|error| error.kind), Some(Kind::RequestTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_does_not_time_the_sender_out() {
        let fault = Arc::default();
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
        struct Channel(tokio::sync::mpsc::Receiver<Bytes>);
        impl HttpBody for Channel {
            type Data = Bytes;
            type Error = std::convert::Infallible;
            fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
            }
        }
        let mut body = limit_body(Channel(receiver), 100, Duration::from_secs(10), &fault);
        for _ in 0..3 {
            // The first wait arms the timer, the pause outlasts it, and the sender is prompt once asked.
            let (frame, ()) = tokio::join!(body.frame(), async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sender.send(Bytes::from_static(b"x")).await.expect("the body is there");
            });
            assert!(frame.expect("a frame").is_ok());
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }

    #[test]
    fn a_full_body_knows_its_size() {
        assert_eq!(Body::from(Bytes::from_static(b"abc")).size_hint().exact(), Some(3));
        assert!(Body::from(Bytes::new()).is_end_stream());
    }
}
