//! Outgoing HTTP of guests: wasi:http's hooks over the one way out.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use base::{BodyError, RequestId};
use http::header::HeaderName;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use crate::instance::Equipment;
use crate::state::{Active, Serving};

type IoFuture = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// The name of the W3C trace context header.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// wasmtime asks for the filter at every header; making one allocates, so there is one.
static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> =
    LazyLock::new(|| Arc::new(|name: &HeaderName| DEFAULT_FORBIDDEN_HEADERS.contains(name)));

/// The outgoing side of one component: its permission and what is left of its budget.
pub(crate) struct Outbound {
    serving: Serving,
    policy: egress::Policy,
    budget: Budget,
}

impl Outbound {
    pub(crate) fn new(active: &Active, serving: &Serving, policy: egress::Policy) -> Self {
        Self { budget: Budget::new(active), serving: serving.clone(), policy }
    }

    /// The instance serves another call. What of the one before is still under way counts among those at once.
    pub(crate) fn renew(&mut self, active: &Active) {
        self.budget.left = active.module.limits.outbound_requests;
    }

    /// The instance serves one call more beside others, none of which can be told from the others here.
    pub(crate) fn add(&mut self, active: &Active) {
        self.budget.left = self.budget.left.saturating_add(active.module.limits.outbound_requests);
    }
}

/// What an instance may still send.
pub(crate) struct Budget {
    left: u32,
    concurrent: u32,
    /// Made at the first request; most guests make none.
    at_once: Option<Arc<Semaphore>>,
}

impl Budget {
    pub(crate) fn new(active: &Active) -> Self {
        let limits = &active.module.limits;
        Self { left: limits.outbound_requests, concurrent: limits.outbound_concurrent, at_once: None }
    }

    /// Takes one request, or socket, and a place among those at once; none where the budget is used up.
    pub(crate) fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        let left = self.left.checked_sub(1)?;
        let at_once = self.at_once.get_or_insert_with(|| Arc::new(Semaphore::new(self.concurrent as usize)));
        let place = Arc::clone(at_once).try_acquire_owned().ok()?;
        // What is refused costs nothing.
        self.left = left;
        Some(place)
    }
}

/// Says in the log that a request out failed, for whoever looks for it.
pub(crate) fn log_failure(equipment: &Equipment, request: Option<RequestId>, host: Option<&str>, error: &egress::Error) {
    let (tenant, module, request) = (&equipment.policy.tenant, &equipment.name, request.map(tracing::field::display));
    tracing::info!(target: "fornax::outbound", request, %tenant, %module, host, %error, "an outgoing request failed");
}

impl WasiHttpHooks for Outbound {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&FORBIDDEN)
    }

    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: IoFuture,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, IoFuture), Error>> + Send> {
        let active = self.serving.active();
        add_trace(&mut request, active.trace.as_ref());
        // Not the call: a guest may keep the request for longer, and must not keep its tenant's place.
        let (core, equipment, id) = (Arc::clone(&active.core), Arc::clone(&active.equipment), self.serving.id());
        let request = request.map(|body| Upload(Some(body)));
        let Some(place) = self.budget.take() else { return Box::new(async { Err(Error::ConnectionLimitReached) }) };
        let policy = self.policy.clone();
        let options = options.unwrap_or_default();
        let options = egress::Options {
            connect_timeout: options.connect_timeout,
            first_byte_timeout: options.first_byte_timeout,
            between_bytes_timeout: options.between_bytes_timeout,
        };
        Box::new(async move {
            let host = request.uri().host().map(str::to_owned);
            let response = core.egress.send(&policy, request, options).await.map_err(|error| {
                log_failure(&equipment, id, host.as_deref(), &error);
                wasi_error(error)
            })?;
            // A request counts as under way until its response body is gone.
            let response = response.map(|body| {
                body.map_err(move |error| {
                    let _under_way = &place;
                    wasi_body_error(error)
                })
                .boxed_unsync()
            });
            Ok((response, Box::new(async { Ok(()) }) as IoFuture))
        })
    }
}

/// Bytes taken from an upload that nobody sends: what a guest writes before it looks at the answer.
const DISCARDED_BYTES_MAX: usize = 64 << 10;

/// A request's body. Nobody may want it — the request is refused, the server answers early, a GET has none — and a guest
/// of WASI 0.2 that writes into a body nobody takes gets that as its error, in place of the answer. So what is left of it is
/// taken and thrown away, up to a bound.
struct Upload(Option<WasiBody>);

impl http_body::Body for Upload {
    type Data = bytes::Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.as_ref().map_or_else(|| http_body::SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !http_body::Body::is_end_stream(body)) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // Ends with the guest at the latest, which holds the other end.
        runtime.spawn(async move {
            let mut left = DISCARDED_BYTES_MAX;
            while let Some(Ok(frame)) = body.frame().await {
                match left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        });
    }
}

fn add_trace(request: &mut Request<WasiBody>, trace: Option<&HeaderValue>) {
    if let Some(trace) = trace {
        request.headers_mut().entry(TRACEPARENT).or_insert_with(|| trace.clone());
    }
}

fn wasi_error(error: egress::Error) -> Error {
    use egress::Error as E;
    match error {
        E::Denied(_) => Error::HttpRequestDenied,
        E::AddressProhibited(_) => Error::DestinationIpProhibited,
        E::Dns(_) => Error::DnsError { rcode: Some("host not found".to_owned()), info_code: None },
        E::ConnectionRefused(_) => Error::ConnectionRefused,
        E::Unreachable(_) => Error::DestinationUnavailable,
        E::ConnectionTimeout => Error::ConnectionTimeout,
        E::ConnectionTerminated(_) => Error::ConnectionTerminated,
        E::TlsCertificate(_) => Error::TlsCertificateError,
        E::Tls(_) => Error::TlsProtocolError,
        E::FirstByteTimeout => Error::HttpResponseTimeout,
        E::Protocol(_) | E::UnsupportedScheme(_) | E::InvalidRequest(_) => Error::HttpProtocolError,
        E::RequestBody(_) => Error::HttpRequestBodySize(None),
        E::InvalidUri(_) => Error::HttpRequestUriInvalid,
        E::Internal(_) => Error::InternalError(None),
    }
}

/// What a guest sees of a body that ended early: of an outgoing request's response, and of its own request.
pub(crate) fn wasi_body_error(error: BodyError) -> Error {
    match error {
        BodyError::TooLarge => Error::HttpRequestBodySize(None),
        BodyError::Timeout => Error::ConnectionReadTimeout,
        BodyError::Broken(_) | BodyError::GuestEnded => Error::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_costs_nothing() {
        let mut budget = Budget { left: 2, concurrent: 1, at_once: None };
        let place = budget.take().expect("the first");
        for _ in 0..3 {
            assert!(budget.take().is_none(), "one at once");
        }
        drop(place);
        drop(budget.take().expect("the second"));
        assert!(budget.take().is_none(), "two in all");
    }
}
