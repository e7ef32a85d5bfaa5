//! One request: route, check, admit, handle, answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base::{
    Body, BodyError, BodyFault, Error, FileRoot, Input, Kind, Looked, ModuleVersion, Outcome, Picked, Reply, RequestId, Route,
    Routed, Snapshot, limit_body, strip_hop_by_hop,
};
use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::Road;
use crate::http::cache::{self, Cache};
use crate::http::clock::{Clock, Part};
use crate::http::files::Files;
use crate::http::forwarded::Origin;
use crate::http::listener::HttpOptions;
use crate::http::request_body::{CONTINUE, RequestBody};
use crate::http::router::Stored;
use crate::http::seen::Seen;
use crate::http::{pages, router};
use crate::reply::error_response;

/// What the metrics are written in: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Of a request that somebody may take for another one, or for two.
const NOT_CLEAR: &str = "a request must end its lines with CR LF, name no fragment, and give its body one length that can be read, \
                         or send it in chunks and in no other coding";

/// What the requests of one listener share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) road: Road,
    pub(crate) options: HttpOptions,
    cache: Arc<Cache>,
    files: Files,
}

/// What a request leads to.
enum Next {
    Answer(Response<Body>),
    Files(Arc<FileRoot>),
    Module(Routed, Stored),
}

/// The end of a call.
struct Answered {
    response: Response<Body>,
    /// Whether the guest said it, and not we for it.
    by_guest: bool,
}

impl Service {
    pub(crate) fn new(road: Road, options: HttpOptions) -> Self {
        Self { cache: Cache::new(options.cache), files: Files::new(), road, options }
    }

    /// Begins a request of HTTP/1: at once, since hyper looks at the socket again before it polls what this returns.
    pub(crate) fn begin(
        service: &Arc<Self>,
        clock: &Arc<Clock>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<TrackedBody>, Infallible>> + use<> {
        let (part, is_ambiguous) = clock.begin_request();
        let is_ambiguous = is_ambiguous || !is_framed_plainly(request.headers());
        let waits = request.version() == Version::HTTP_11
            && request.headers().get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE));
        let request = request.map(|body| RequestBody::in_order(body, waits, clock));
        Arc::clone(service).respond(part, request, is_ambiguous)
    }

    /// Begins a stream of HTTP/2.
    pub(crate) fn begin_stream(
        service: &Arc<Self>,
        clock: &Arc<Clock>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<TrackedBody>, Infallible>> + use<> {
        Arc::clone(service).respond(clock.begin_stream(), request.map(RequestBody::of_stream), false)
    }

    /// Answers one request; every failure is an answer too.
    async fn respond(
        self: Arc<Self>,
        part: Part,
        mut request: Request<RequestBody>,
        is_ambiguous: bool,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let clock = part.clock();
        let owes_body = request.body().is_owed();
        let origin = Origin::of(&mut request, clock.peer(), clock.scheme(), &self.options.trusted_proxies);
        let mut seen = self.options.access_log.then(|| {
            let client = origin.as_ref().map_or(clock.peer(), |origin| origin.client);
            Box::new(Seen::by(client.ip(), &request))
        });
        let mut response = match origin {
            _ if is_ambiguous => self.refuse_and_close(&Error::new(Kind::BadRequest, NOT_CLEAR)),
            Ok(origin) => self.answer(request, origin, &mut seen).await,
            Err(error) => self.refuse_and_close(&error),
        };
        if owes_body && !clock.leftover.take().await {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seen) = &mut seen {
            seen.status = response.status().as_u16();
        }
        if response.body().size_hint().exact().is_some() {
            let_others_go().await;
        }
        Ok(response.map(|body| TrackedBody { body, seen, _part: part }))
    }

    /// Liveness, readiness and metrics, where the configuration says.
    fn own_page(&self, request: &Request<RequestBody>, snapshot: &Snapshot) -> Option<Response<Body>> {
        let path = request.uri().path();
        if let Some(below) = self.options.health.as_deref().and_then(|health| path.strip_prefix(health)) {
            match below {
                "" => return Some(page(StatusCode::OK, request.method(), "ok\n")),
                "/ready" if self.road.gate.is_open() => return Some(page(StatusCode::OK, request.method(), "ready\n")),
                "/ready" => return Some(page(StatusCode::SERVICE_UNAVAILABLE, request.method(), "draining\n")),
                _ => {}
            }
        }
        if self.options.metrics.as_deref() == Some(path) {
            let in_flight: usize = snapshot.tenants.values().map(|tenant| tenant.in_flight()).sum();
            self.road.metrics.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
            let mut page = page(StatusCode::OK, request.method(), self.road.metrics.render());
            page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            return Some(page);
        }
        None
    }

    /// Who answers, or the answer itself where it is there at once. Reads the snapshot: once, and lets go of it before anything
    /// is waited for.
    fn find(&self, request: &Request<RequestBody>, origin: &Origin, seen: &mut Option<Box<Seen>>) -> Next {
        let snapshot = self.road.snapshots.load();
        let host = router::host_of(request, origin, &self.options.clients);
        if let (Ok(_), Some(page)) = (&host, self.own_page(request, &snapshot)) {
            return Next::Answer(page);
        }
        let found = host.map_err(|error| (error, None)).and_then(|host| router::route(&snapshot, host, request, origin.client));
        let way = match found {
            Ok(way) => way,
            Err((error, allow)) => {
                if let Some(counts) = &snapshot.counts {
                    seen.get_or_insert_default().count(Arc::clone(counts), None);
                }
                if error.kind == Kind::BadRequest {
                    return Next::Answer(self.refuse_and_close(&error));
                }
                let mut response = self.refuse_unknown(&error, "");
                if let Some(allow) = allow {
                    response.headers_mut().insert(header::ALLOW, allow);
                }
                return Next::Answer(response);
            }
        };
        if let Some((counts, route)) = way.counted.and_then(|route| Some((Arc::clone(route.counts.as_ref()?), route))) {
            seen.get_or_insert_default().count(counts, Some(route));
        }
        match way.picked {
            Picked::Module(routed) => Next::Module(routed, way.stored),
            Picked::Files(root) => Next::Files(root),
            Picked::Page(page) => Next::Answer(pages::answer(&page, &snapshot, request)),
        }
    }

    async fn answer(&self, mut request: Request<RequestBody>, origin: Origin, seen: &mut Option<Box<Seen>>) -> Response<Body> {
        let next = self.find(&request, &origin, seen);
        let scheme = origin.scheme;
        let in_chunks = request.headers().contains_key(header::TRANSFER_ENCODING);
        // Before anything is done by the fields: what the guest does not see must not tell stored answers apart.
        strip_hop_by_hop(request.headers_mut());
        let (mut routed, stored) = match next {
            Next::Answer(response) => return response,
            // Boxed, so that calls do not carry the room for what they never do.
            Next::Files(root) => return Box::pin(self.send_file(root, request)).await,
            Next::Module(routed, stored) => (routed, stored),
        };
        routed.via.in_chunks = in_chunks;
        if let Err(error) = check_expectation(&request) {
            return self.refuse_call(&error, RequestId::next(), &routed.module, Duration::ZERO);
        }
        if let Err(error) = self.road.gate.check(&routed, request.body().size_hint().exact()) {
            return self.refuse_call(&error, RequestId::next(), &routed.module, Duration::ZERO);
        }
        if scheme != Scheme::HTTP || request.uri().scheme().is_some_and(|named| *named != scheme) {
            name_scheme(&mut request, scheme.clone());
        }
        match stored {
            Stored::No => self.call(routed, request).await.response,
            Stored::MayDo(ttl) => match self.stored(&routed.module, &request, &scheme, seen) {
                Some(response) => response,
                None => Box::pin(self.cached(ttl, routed, request, &scheme, seen)).await,
            },
            Stored::Outdated(route) => Box::pin(self.change(&route, routed, request, &scheme)).await,
        }
    }

    /// A call after which what is stored of the same address is of the past (RFC 9111, 4.4).
    async fn change(&self, route: &Route, routed: Routed, request: Request<RequestBody>, scheme: &Scheme) -> Response<Body> {
        let addresses = cache::addresses(&request, scheme, route);
        let answered = self.call(routed, request).await;
        let status = answered.response.status();
        if answered.by_guest && (status.is_success() || status.is_redirection()) {
            addresses.iter().for_each(|address| self.cache.remove(address));
        }
        answered.response
    }

    /// An answer that was given before.
    fn stored(
        &self,
        module: &Arc<ModuleVersion>,
        request: &Request<RequestBody>,
        scheme: &Scheme,
        seen: &mut Option<Box<Seen>>,
    ) -> Option<Response<Body>> {
        let response = self.cache.stored(&cache::Ask::of(request, scheme, module)?)?;
        module.metrics.cache_hit();
        note(seen, Looked::Hit);
        Some(response)
    }

    /// A call that may leave an answer, or the answer that another one leaves.
    async fn cached(
        &self,
        ttl: Duration,
        routed: Routed,
        request: Request<RequestBody>,
        scheme: &Scheme,
        seen: &mut Option<Box<Seen>>,
    ) -> Response<Body> {
        let module = Arc::clone(&routed.module);
        let Some(ask) = cache::Ask::of(&request, scheme, &module) else { return self.call(routed, request).await.response };
        let end = tokio::time::Instant::now() + module.limits.wall;
        let fill = loop {
            match self.cache.find(&ask) {
                cache::Found::Answer(response) => {
                    module.metrics.cache_hit();
                    note(seen, Looked::Hit);
                    return response;
                }
                cache::Found::Fill(fill) => break Some(fill),
                cache::Found::Pass => break None,
                cache::Found::Wait(mut other) => match tokio::time::timeout_at(end, other.wait_for(|go| *go)).await {
                    Ok(Ok(_)) => break None,
                    Ok(Err(_)) => {}
                    Err(_) => {
                        let error = Error::new(Kind::Deadline, "no answer within the wall clock limit")
                            .internal("waited for another request's answer");
                        return self.refuse_call(&error, RequestId::next(), &module, module.limits.wall);
                    }
                },
            }
        };
        module.metrics.cache_miss();
        note(seen, Looked::Miss);
        let answered = self.call(routed, request).await;
        match fill {
            Some(fill) if answered.by_guest => fill.answer(answered.response, ttl).await.unwrap_or_else(|error| {
                // No head is out yet, so the client can be told.
                let error = Error::new(Kind::BadResponse, "the guest broke off its body").caused_by(error);
                let id = RequestId::next();
                module.log_failure(id, &error);
                self.refuse(&error, id)
            }),
            Some(fill) => {
                fill.give_up();
                answered.response
            }
            None => answered.response,
        }
    }

    async fn send_file(&self, root: Arc<FileRoot>, request: Request<RequestBody>) -> Response<Body> {
        let tenant = Arc::clone(&root.tenant);
        match self.files.answer(root, request.into_parts().0).await {
            Ok(response) => response,
            Err(refusal) => {
                let mut response = self.refuse_unknown(&refusal.error, &tenant);
                response.headers_mut().extend(refusal.field);
                response
            }
        }
    }

    async fn call(&self, routed: Routed, request: Request<RequestBody>) -> Answered {
        let module = Arc::clone(&routed.module);
        let refuse = |error: &Error, id, admitted: Option<Instant>| {
            let waited = admitted.map_or(Duration::ZERO, |at| at.elapsed());
            Answered { response: self.refuse_call(error, id, &module, waited), by_guest: false }
        };
        let fault = (!request.body().is_end_stream()).then(Arc::<BodyFault>::default);
        let request = request.map(|body| match &fault {
            Some(fault) => limit_body(body, module.limits.body_bytes, self.options.clients.body_idle, fault),
            None => Body::Empty,
        });
        let call = match self.road.gate.admit(routed, Input::Http(request)).await {
            Ok(call) => call,
            Err(error) => return refuse(&error, RequestId::next(), None),
        };
        let (id, admitted) = (call.id, call.deadline.admitted_at);
        let result = module.answer(call).await;
        if let Some(error) = fault.and_then(|fault| fault.error()) {
            // Whatever the guest made of the broken body, the client is to blame.
            let mut answered = refuse(&error, id, Some(admitted));
            if error.kind != Kind::BodyTooLarge {
                // Where the next request would begin is not known, or not soon.
                answered.response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            return answered;
        }
        match result {
            Ok(Reply::Http(response)) => {
                module.metrics.answered(Outcome::Status(response.status().as_u16()), admitted.elapsed());
                Answered { response, by_guest: true }
            }
            Ok(_) => refuse(&Error::new(Kind::Internal, "the module gave another's reply"), id, Some(admitted)),
            Err(error) => refuse(&error, id, Some(admitted)),
        }
    }

    fn refuse_call(&self, error: &Error, id: RequestId, module: &ModuleVersion, waited: Duration) -> Response<Body> {
        module.metrics.answered(Outcome::Failed(error.kind), waited);
        module.log_failure(id, error);
        self.refuse(error, id)
    }

    /// Refuses what is no module's.
    fn refuse_unknown(&self, error: &Error, tenant: &str) -> Response<Body> {
        let id = RequestId::next();
        error.log(id, tenant, "");
        self.refuse(error, id)
    }

    /// What is not clearly framed is not clearly followed by another request.
    fn refuse_and_close(&self, error: &Error) -> Response<Body> {
        let mut response = self.refuse_unknown(error, "");
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// Answers with an error that the log knows.
    fn refuse(&self, error: &Error, id: RequestId) -> Response<Body> {
        self.road.metrics.error(error);
        error_response(error, id)
    }
}

/// Chunks are all there is: hyper takes whatever coding comes before them for the body's own.
fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(is_chunked) && codings.next().is_none()
}

/// The one expectation there is (RFC 9110, 10.1.1). One of HTTP/1.0 means nothing.
fn check_expectation<B>(request: &Request<B>) -> Result<(), Error> {
    let mut expected = request.headers().get_all(header::EXPECT).iter();
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(CONTINUE);
    if request.version() == Version::HTTP_10 || expected.all(is_known) {
        return Ok(());
    }
    Err(Error::new(Kind::ExpectationFailed, "nothing can be expected but `100-continue`"))
}

/// Lets the other connections of this core that are ready have their turn, before an answer that is complete is written. So answers
/// leave in crowds: under load guests run one after the other and their answers are sent one after the other, which leaves the
/// caches warm for each, and one waking of a client on this machine serves many answers. With nobody else ready it costs a poll.
///
/// Unlike tokio's `yield_now` it does not look at the sockets in between, which would be a system call.
async fn let_others_go() {
    let mut have_gone = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut have_gone, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn note(seen: &mut Option<Box<Seen>>, looked: Looked) {
    if let Some(seen) = seen {
        seen.cache = Some(looked);
    }
}

/// Guests take a request's scheme for `http` unless its target names another.
fn name_scheme<B>(request: &mut Request<B>, scheme: Scheme) {
    let host = request.headers().get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let absolute = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
    // The router has seen to it that both are good.
    if let Ok(uri) = absolute {
        *request.uri_mut() = uri;
    }
}

fn page(status: StatusCode, method: &Method, text: impl Into<Bytes>) -> Response<Body> {
    let (status, body) = match *method {
        Method::GET | Method::HEAD => (status, Body::Full(text.into())),
        _ => (StatusCode::METHOD_NOT_ALLOWED, Body::Empty),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A response body; when hyper lets go of it, and of the request's, the connection waits for the next request.
pub(crate) struct TrackedBody {
    body: Body,
    /// What is noted of the request, if anything.
    seen: Option<Box<Seen>>,
    _part: Part,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(seen) = &mut self.seen
            && let Poll::Ready(Some(Ok(frame))) = &frame
        {
            seen.body_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
