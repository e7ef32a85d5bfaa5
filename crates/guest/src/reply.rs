//! The guest's answer on its way to the client.
//!
//! Two goals in tension: a small answer should leave in one write with its length known, and a guest must be able to
//! stream. So after the head the guest is driven on for as long as it makes progress without waiting; if its body is
//! complete by then, the length is known. If not, the body drives the guest: each time the connection asks for more, the
//! guest is polled, so a slow client slows the guest and nothing piles up.
//!
//! A client that leaves before the body is complete ends the guest. A guest that works on after a complete body finishes
//! on a runner thread.
//!
//! Who takes an answer whole, as a chain does, gets it when the guest has ended: until then its deadline holds, its place is
//! taken, and what it computes is on the account of whoever comes next.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use base::{Body, BodyError, Error, Kind};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::WasiBody;

use crate::execution::Guest;
use crate::failure;

/// Body bytes taken before the head is sent; more is a stream.
const GATHER_BYTES_MAX: usize = 64 << 10;

/// Turns that an instance which serves several calls gets to go on with a body before its head is sent: it needs more than one where
/// it has many, and may want them for ever.
const TURNS_MAX: u8 = 16;

/// Makes the response from the guest's head and what of its body is there already.
pub(crate) async fn assemble(guest: Guest, response: Response<WasiBody>, head_only: bool) -> Result<Response<Body>, Error> {
    let (mut parts, body) = response.into_parts();
    check_status(parts.status)?;
    // The one field of a connection's own that wasi:http lets a guest set.
    parts.headers.remove(header::TE);
    if parts.status == StatusCode::NO_CONTENT {
        // RFC 9110, 8.6.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let declared = content_length(&parts.headers);
    let bodiless = head_only || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut body = GuestBody::new(guest, body, declared, bodiless);
    poll_fn(|cx| body.gather(cx)).await?;
    if body.source.is_none() && !bodiless {
        body.check_length()?;
        // Known exactly, and the server says so itself; or followed by trailers, which need chunks.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    // From here on silence is what ends the guest, or the stream's own limit.
    let limits = &body.guest.active.module.limits;
    let end = limits.stream_total.map(|total| std::time::Instant::now() + total);
    body.guest.active.meter.set_wall_at(end);
    Ok(Response::from_parts(parts, Body::stream(body.into_stream())))
}

/// All of the answer, when the guest has ended: its deadline holds until then. What goes wrong behind a complete body does not
/// change the answer.
pub(crate) async fn whole(guest: Guest, response: Response<WasiBody>) -> Result<Response<Body>, Error> {
    let (parts, body) = response.into_parts();
    check_status(parts.status)?;
    let mut body = GuestBody::new(guest, body, content_length(&parts.headers), false);
    let mut bytes = BytesMut::new();
    poll_fn(|cx| body.poll_whole(&mut bytes, cx)).await?;
    body.check_length()?;
    body.guest.keep();
    Ok(Response::from_parts(parts, Body::from(bytes.freeze())))
}

fn check_status(status: StatusCode) -> Result<(), Error> {
    if status.is_informational() {
        let error = Error::new(Kind::BadResponse, "the guest answered with an informational status");
        return Err(error.internal(status.to_string()));
    }
    Ok(())
}

fn broken_off() -> Error {
    Error::new(Kind::BadResponse, "the guest broke off its body")
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A response body that drives the guest that writes it.
struct GuestBody {
    guest: Guest,
    /// None once it has ended.
    source: Option<WasiBody>,
    gathered: VecDeque<Bytes>,
    gathered_bytes: u64,
    trailers: Option<HeaderMap>,
    /// What the guest said its body would be.
    declared: Option<u64>,
    sent_bytes: u64,
    /// The protocol has no place for a body: nobody will ask for it.
    bodiless: bool,
    silence: Option<Pin<Box<Sleep>>>,
    /// The guest was stopped before its body was complete.
    broken: bool,
    failed: bool,
    /// To a guest that is driven elsewhere.
    turns_given: u8,
}

impl GuestBody {
    fn new(guest: Guest, body: WasiBody, declared: Option<u64>, bodiless: bool) -> Self {
        Self {
            guest,
            source: Some(body),
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            trailers: None,
            declared,
            sent_bytes: 0,
            bodiless,
            silence: None,
            broken: false,
            failed: false,
            turns_given: 0,
        }
    }

    /// Takes what of the body comes without waiting for anything but the guest's turn; a trap before anything was sent is still an
    /// error.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.gathered_bytes as usize <= GATHER_BYTES_MAX {
            let progress = match self.take_frame(cx) {
                Ok(progress) => progress,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if progress {
                continue;
            }
            if self.broken {
                // The head is not out: what broke the guest is the answer.
                return self.guest.poll(cx).map(|ended| Err(ended.err().unwrap_or_else(broken_off)));
            }
            if self.guest.has_ended() {
                break;
            }
            // Taking frames made room for more: let the guest use it, and stop when it did not.
            if let Poll::Ready(Err(error)) = self.guest.poll(cx) {
                return Poll::Ready(Err(error));
            }
            match self.take_frame(cx) {
                // An instance that serves others is driven by its own task, which goes first.
                Ok(false) if !self.broken && self.guest.has_work_elsewhere() && self.turns_given < TURNS_MAX => {
                    self.turns_given += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(false) if !self.broken => break,
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Drives the guest to its end and takes all of its body, up to the module's limit. A frame may be a single byte, so they are
    /// not kept as they come.
    fn poll_whole(&mut self, bytes: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let bytes_max = self.guest.active.module.limits.buffer_bytes;
        loop {
            let ended = self.guest.poll(cx);
            let mut took = false;
            while self.take_frame(cx)? {
                took = true;
                self.gathered.drain(..).for_each(|data| bytes.extend_from_slice(&data));
                if self.gathered_bytes > bytes_max {
                    return Poll::Ready(Err(failure::output_limit()));
                }
            }
            let is_complete = self.source.is_none() && !self.broken;
            return match ended {
                // What was taken made room for more.
                Poll::Pending if took => continue,
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) if is_complete => Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => Poll::Ready(Err(broken_off())),
                Poll::Ready(Err(error)) if is_complete => {
                    failure::report_late(&self.guest.active, &error);
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            };
        }
    }

    /// An error where a body that has ended is not as long as the guest said.
    fn check_length(&self) -> Result<(), Error> {
        match self.declared {
            Some(length) if length != self.gathered_bytes => {
                Err(Error::new(Kind::BadResponse, "the guest's body does not have the length it declared")
                    .internal(format!("declared {length}, sent {}", self.gathered_bytes)))
            }
            _ => Ok(()),
        }
    }

    /// The body has ended. A guest that was stopped drops its end of it, which looks the same as closing it.
    fn end_source(&mut self) {
        self.source = None;
        self.broken = self.guest.has_failed();
    }

    /// Takes one frame, or the end, if it is there. Returns whether it was.
    fn take_frame(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let Some(source) = &mut self.source else { return Ok(false) };
        match Pin::new(source).poll_frame(cx) {
            // The guest has returned and left its body open: it ends with the instance.
            Poll::Pending if self.guest.discard() => return self.take_frame(cx),
            Poll::Pending => return Ok(false),
            Poll::Ready(None) => {
                self.end_source();
                return Ok(!self.broken);
            }
            Poll::Ready(Some(Err(error))) => return Err(broken_off().internal(format!("{error:?}"))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    self.gathered_bytes += data.len() as u64;
                    self.gathered.push_back(data);
                    // A guest may leave the stream open behind the last byte it promised.
                    if self.declared == Some(self.gathered_bytes) {
                        self.source = None;
                    }
                }
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    self.source = None;
                }
            },
        }
        Ok(true)
    }

    /// The whole body has been handed to the connection, or will never be asked for.
    fn is_complete(&self) -> bool {
        if self.failed {
            return false;
        }
        self.bodiless || (self.source.is_none() && self.gathered.is_empty())
    }

    fn into_stream(self) -> Driven {
        Driven(Some(self))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.gathered.pop_front() {
            self.sent_bytes += data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let ended = self.guest.poll(cx);
        if let Poll::Ready(Err(error)) = &ended {
            failure::report_late(&self.guest.active, error);
            // A body that is complete stays so, whatever the guest did afterwards.
            self.broken |= self.source.is_some();
        }
        if self.broken {
            // On a runner the guest's end is known a moment after its body's.
            std::task::ready!(ended).ok();
            self.failed = true;
            return Poll::Ready(Some(Err(BodyError::GuestEnded)));
        }
        let Some(source) = &mut self.source else {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        };
        match Pin::new(source).poll_frame(cx) {
            // As in `take_frame`.
            Poll::Pending if self.guest.discard() => self.poll_frame(cx),
            Poll::Pending => self.poll_silence(cx),
            Poll::Ready(frame) => {
                self.silence = None;
                Poll::Ready(match frame {
                    None => {
                        self.end_source();
                        if self.broken {
                            return self.poll_frame(cx);
                        }
                        None
                    }
                    Some(Ok(frame)) => {
                        self.sent_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                        // Nothing follows trailers, nor the last byte that was promised.
                        if frame.is_trailers() || self.declared == Some(self.sent_bytes) {
                            self.source = None;
                        }
                        Some(Ok(frame))
                    }
                    Some(Err(error)) => {
                        self.failed = true;
                        failure::report_late(&self.guest.active, &broken_off().internal(format!("{error:?}")));
                        Some(Err(BodyError::GuestEnded))
                    }
                })
            }
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let idle = self.guest.active.module.limits.stream_idle;
        let timer = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        std::task::ready!(timer.as_mut().poll(cx));
        self.failed = true;
        let silent = Error::new(Kind::Deadline, "the guest's body was silent for too long");
        failure::report_late(&self.guest.active, &silent);
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }
}

/// The body as the connection holds it; decides at its end what becomes of the guest.
struct Driven(Option<GuestBody>);

impl HttpBody for Driven {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.source.is_none() && body.gathered.is_empty() && body.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(body) if body.source.is_none() && body.trailers.is_none() => {
                SizeHint::with_exact(body.gathered.iter().map(|data| data.len() as u64).sum())
            }
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take() else { return };
        if body.guest.has_ended() {
            // Nobody reads what it may have left open.
            body.source = None;
            return body.guest.keep();
        }
        if !body.is_complete() {
            return;
        }
        let GuestBody { guest, source, .. } = body;
        guest.finish_in_background(async move {
            if let Some(mut source) = source {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut source).poll_frame(cx)).await {}
            }
        });
    }
}
