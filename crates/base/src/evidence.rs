//! What a call cost, where its module shows it: a line in the log, and a field of the response.
//!
//! The field stands in the head where the whole body is known by then, since then the guest has nearly always ended; else in the
//! trailers, behind a body that is as long as the guest likes.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{Body, BodyError, Call, Input, ModuleMetrics, ModuleVersion, Slot};

/// A dictionary of numbers, as structured fields have it (RFC 9651, 3.2).
pub const EVIDENCE: HeaderName = HeaderName::from_static("fornax-evidence");

/// What a call had cost at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What its guests that have ended computed.
    pub cpu: Duration,
    /// Since it was admitted.
    pub wall: Duration,
    /// Memory and tables of its largest instance.
    pub memory_bytes: u64,
    /// How old its oldest instance was when it came to it; zero where all were made for it.
    pub instance_age: Duration,
    /// How often its guests called the host, functions of the engine such as growing memory included.
    pub host_calls: u64,
    /// Bytes of its request's body that were read.
    pub bytes_in: u64,
    /// Bytes of its answer's body.
    pub bytes_out: u64,
}

/// A call that is shown. Dropping it, at the call's end whichever that is, writes the line.
pub(crate) struct Shown {
    module: Arc<str>,
    tenant: Arc<str>,
    metrics: Arc<ModuleMetrics>,
    root: Arc<Slot>,
    admitted_at: Instant,
    /// What earlier steps of the same request had cost.
    before: Evidence,
}

impl Shown {
    /// Counts the call's body from now on.
    pub(crate) fn new(module: &ModuleVersion, call: &mut Call) -> Self {
        let root = &call.root;
        if let Input::Http(request) = &mut call.input
            && !request.body().is_end_stream()
        {
            let body = mem::take(request.body_mut());
            *request.body_mut() = Body::stream(Counted { body, root: Arc::clone(root) });
        }
        Self {
            module: Arc::clone(&module.name),
            tenant: Arc::clone(&module.tenant.name),
            metrics: Arc::clone(&module.metrics),
            root: Arc::clone(root),
            admitted_at: call.deadline.admitted_at,
            before: root.evidence(call.deadline.admitted_at),
        }
    }

    fn evidence(&self) -> Evidence {
        self.root.evidence(self.admitted_at)
    }

    fn log(&self) {
        let evidence = self.evidence();
        self.metrics.shown(&evidence.since(&self.before));
        let Evidence { cpu, wall, memory_bytes, instance_age, host_calls, bytes_in, bytes_out } = evidence;
        let (cpu_us, wall_us, instance_age_us) = (micros(cpu), micros(wall), micros(instance_age));
        let (request, tenant, module) = (self.root.id, &self.tenant, &self.module);
        tracing::info!(
            target: "evidence",
            %request, %tenant, %module, cpu_us, wall_us, memory_bytes, instance_age_us, host_calls, bytes_in, bytes_out, "call"
        );
    }

    /// Adds the field to an answer.
    pub(crate) fn attach(self, response: Response<Body>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        // A guest does not say what it cost.
        parts.headers.remove(&EVIDENCE);
        if let Some(bytes) = body.size_hint().exact() {
            self.root.note_out(bytes);
            parts.headers.insert(EVIDENCE, self.evidence().field());
            return Response::from_parts(parts, body);
        }
        parts.headers.append(header::TRAILER, HeaderValue::from_name(EVIDENCE));
        Response::from_parts(parts, Body::stream(ShownBody { body, shown: self, has_ended: false }))
    }
}

impl Evidence {
    /// What came after `before`, of what adds up.
    fn since(&self, before: &Self) -> Self {
        Self {
            host_calls: self.host_calls - before.host_calls,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
            ..*self
        }
    }

    fn field(&self) -> HeaderValue {
        let Self { cpu, wall, memory_bytes, instance_age, host_calls, bytes_in, bytes_out } = self;
        let (cpu, wall, age) = (micros(*cpu), micros(*wall), micros(*instance_age));
        let text = format!(
            "cpu_us={cpu}, wall_us={wall}, memory_bytes={memory_bytes}, instance_age_us={age}, host_calls={host_calls}, \
             bytes_in={bytes_in}, bytes_out={bytes_out}"
        );
        HeaderValue::try_from(text).expect("letters, digits and signs")
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A request's body, counted.
struct Counted {
    body: Body,
    root: Arc<Slot>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.root.note_in(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct ShownBody {
    // Dropped first: what its guest computed counts.
    body: Body,
    shown: Shown,
    has_ended: bool,
}

impl HttpBody for ShownBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let mut trailers = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => trailers,
                Err(data) => {
                    self.shown.root.note_out(data.data_ref().map_or(0, Bytes::len) as u64);
                    return Poll::Ready(Some(Ok(data)));
                }
            },
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => HeaderMap::new(),
        };
        self.has_ended = true;
        trailers.insert(EVIDENCE, self.shown.evidence().field());
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.log();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_a_dictionary_of_numbers() {
        let evidence = Evidence {
            cpu: Duration::from_micros(12),
            wall: Duration::from_millis(3),
            memory_bytes: 1 << 20,
            instance_age: Duration::ZERO,
            host_calls: 7,
            bytes_in: 0,
            bytes_out: 19,
        };
        let field = "cpu_us=12, wall_us=3000, memory_bytes=1048576, instance_age_us=0, host_calls=7, bytes_in=0, bytes_out=19";
        assert_eq!(evidence.field(), field);
    }
}
