//! The `http` entry: components that export wasi:http's handler, 0.2 or 0.3, lifted sync or async.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::{Body, BodyError, BoxFuture, Call, Entry, Error, Handler, Input, Kind, Reply};
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme as GuestScheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView, p3};

use crate::entry::{EntryType, Linked, wrong_input};
use crate::execution::{Guest, GuestFuture, Kept};
use crate::instance::Equipment;
use crate::outbound::wasi_body_error;
use crate::reply;
use crate::reuse::{Idle, Lent, Reuse};
use crate::runtime::Core;
use crate::shared::Instances;
use crate::state::{Active, State};

const EXPORT_02: &str = "wasi:http/incoming-handler@0.2.";
const EXPORT_03: &str = "wasi:http/handler@0.3.";

pub(crate) const TYPE: EntryType =
    EntryType { entry: Entry::Http, exports: &[EXPORT_03, EXPORT_02], core_exports: &[], prepare: Some(prepare) };

/// The guest's answer: a head with its body, or the error it answered with.
pub(crate) type Answer = Result<Response<WasiBody>, String>;

struct Http {
    generation: Generation,
    equipment: Arc<Equipment>,
    core: Arc<Core>,
}

enum Generation {
    V02(Serial<Proxy>),
    V03(Serial<Service>),
    /// Of 0.3 too, with instances that serve several calls at once.
    Shared(Arc<Instances>, Serial<Service>),
}

/// What is called of an instance.
trait Callee: Send + Sync + Sized + 'static {
    type Pre: Clone + Send + Sync + 'static;

    fn instantiate(pre: &Self::Pre, store: &mut Store<State>) -> impl Future<Output = wasmtime::Result<Self>> + Send;

    /// Calls the guest, until it has nothing left to do for the call.
    fn call<B: RequestBody>(
        &self,
        store: &mut Store<State>,
        request: Request<B>,
        answer: oneshot::Sender<Answer>,
    ) -> impl Future<Output = wasmtime::Result<()>> + Send;
}

/// A request's body as a guest gets it: for good, or lent.
pub(crate) trait RequestBody: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static {}

impl<B: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static> RequestBody for B {}

/// What instances that serve one call at a time are made from, and those that wait for another.
struct Serial<C: Callee> {
    pre: C::Pre,
    idle: Option<Arc<Idle<C>>>,
}

impl<C: Callee> Clone for Serial<C> {
    fn clone(&self) -> Self {
        Self { pre: self.pre.clone(), idle: self.idle.clone() }
    }
}

impl<C: Callee> Serial<C> {
    fn new(pre: C::Pre, equipment: &Equipment, core: &Arc<Core>) -> Self {
        let idle = match equipment.reuse {
            Reuse::Serial(lifetime) => Some(Idle::new(lifetime, core)),
            Reuse::Fresh | Reuse::Concurrent { .. } => None,
        };
        Self { pre, idle }
    }

    /// One call, in an instance that waited for it or a new one.
    async fn run(self, active: Arc<Active>, request: Request<Body>, answer: oneshot::Sender<Answer>) -> wasmtime::Result<Kept> {
        // Said before the store is dropped.
        let failed = |_: &wasmtime::Error| active.meter.note_failed();
        let Some(idle) = &self.idle else {
            let mut store = active.equipment.component_store(&active, None)?;
            let called = async { C::instantiate(&self.pre, &mut store).await?.call(&mut store, request, answer).await };
            called.await.inspect_err(failed)?;
            return Ok(None);
        };
        let mut kept = match idle.take(&active) {
            Some(kept) => kept,
            None => {
                let mut store = active.equipment.component_store(&active, None)?;
                let callee = C::instantiate(&self.pre, &mut store).await.inspect_err(failed)?;
                idle.welcome(store, callee, &active)
            }
        };
        let (parts, body) = request.into_parts();
        let body = Lent::new(body);
        let request = Request::from_parts(parts, body.clone());
        kept.callee.call(&mut kept.store, request, answer).await.inspect_err(failed)?;
        body.take_back();
        Ok(Some(Box::new(kept)))
    }
}

fn prepare(linked: &Linked, equipment: &Arc<Equipment>, core: &Arc<Core>) -> Result<Arc<dyn Handler>, Error> {
    let Linked::Component(pre) = linked else { return Err(Error::new(Kind::Internal, "a core module has no HTTP entry")) };
    let misfit = |error: wasmtime::Error| {
        Error::new(Kind::Unprocessable, format!("the HTTP entry does not fit: {}", error.root_cause()))
            .internal(format!("{error:#}"))
    };
    // The newer generation where a component offers both.
    let ty = pre.component().component_type();
    let is_03 = ty.exports(pre.engine()).any(|(name, _)| name.starts_with(EXPORT_03));
    let generation = if is_03 {
        let serial = Serial::<Service>::new(ServicePre::new(pre.clone()).map_err(misfit)?, equipment, core);
        match equipment.reuse {
            Reuse::Concurrent { lifetime, at_once_max } => {
                Generation::Shared(Instances::new(serial.pre.clone(), lifetime, at_once_max), serial)
            }
            Reuse::Fresh | Reuse::Serial(_) => Generation::V03(serial),
        }
    } else if let Reuse::Concurrent { .. } = equipment.reuse {
        return Err(Error::new(
            Kind::Unprocessable,
            "`reuse = \"concurrent\"` needs a component of WASI 0.3; one of 0.2 can have `reuse = \"serial\"`",
        ));
    } else {
        Generation::V02(Serial::new(ProxyPre::new(pre.clone()).map_err(misfit)?, equipment, core))
    };
    Ok(Arc::new(Http { generation, equipment: Arc::clone(equipment), core: Arc::clone(core) }))
}

impl Handler for Http {
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let whole = call.deadline.whole;
        let (active, input) = Active::of(call, &self.core, &self.equipment);
        let Input::Http(request) = input else { return wrong_input(Entry::Http) };
        let head_only = request.method() == Method::HEAD;
        let (mut guest, answered) = self.generation.begin(active, request, whole);
        Box::pin(async move {
            let mut answered = Some(answered);
            let response = poll_fn(|cx| poll_answer(&mut guest, &mut answered, cx)).await?;
            let response =
                if whole { reply::whole(guest, response).await } else { reply::assemble(guest, response, head_only).await };
            response.map(Reply::Http)
        })
    }
}

impl Generation {
    /// The guest with the call in it, and where its answer comes. Who takes that whole waits for the instance to end.
    fn begin(&self, active: Arc<Active>, request: Request<Body>, whole: bool) -> (Guest, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let future: GuestFuture = match self {
            Self::V02(serial) => Box::pin(serial.clone().run(Arc::clone(&active), request, answer)),
            Self::V03(serial) => Box::pin(serial.clone().run(Arc::clone(&active), request, answer)),
            Self::Shared(instances, alone) => match (!whole).then(|| instances.find(&active)).flatten() {
                Some(instance) => {
                    let (seat, answered) = Instances::call(&instance, &active, request);
                    return (Guest::shared(seat, active), answered);
                }
                // Too many live already, or nobody would drive it: the call has an instance of its own.
                None => Box::pin(alone.clone().run(Arc::clone(&active), request, answer)),
            },
        };
        (Guest::new(future, active), answered)
    }
}

/// Drives the guest until it has answered. A guest that trapped in the same breath has not: its head is not out yet. One
/// that can no longer answer is driven to its end, which says why.
fn poll_answer(
    guest: &mut Guest,
    answered: &mut Option<oneshot::Receiver<Answer>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<WasiBody>, Error>> {
    let ended = guest.poll(cx)?;
    match answered.as_mut().map(|answered| Pin::new(answered).poll(cx)) {
        Some(Poll::Ready(Ok(Ok(response)))) => return Poll::Ready(Ok(response)),
        Some(Poll::Ready(Ok(Err(code)))) => {
            return Poll::Ready(Err(Error::new(Kind::BadResponse, "the guest answered with an error")
                .internal(format!("wasi:http error-code {code}"))));
        }
        Some(Poll::Ready(Err(_))) => *answered = None,
        Some(Poll::Pending) | None => {}
    }
    match ended {
        Poll::Ready(()) => Poll::Ready(Err(Error::new(Kind::NoResponse, "the guest ended without an answer"))),
        Poll::Pending => Poll::Pending,
    }
}

impl Callee for Proxy {
    type Pre = ProxyPre<State>;

    fn instantiate(pre: &Self::Pre, store: &mut Store<State>) -> impl Future<Output = wasmtime::Result<Self>> + Send {
        pre.instantiate_async(store)
    }

    async fn call<B: RequestBody>(
        &self,
        store: &mut Store<State>,
        request: Request<B>,
        answer: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<()> {
        let request = request.map(|body| body.map_err(wasi_body_error));
        let scheme = match request.uri().scheme_str() {
            Some("https") => GuestScheme::Https,
            _ => GuestScheme::Http,
        };
        let request = store.data_mut().http().new_incoming_request(scheme, request)?;
        let outparam = store.data_mut().http().new_response_outparam_from_callback(move |result| {
            // Nobody waits any more when the call has been answered otherwise.
            let _ = answer.send(result.map_err(|code| format!("{code:?}")));
        })?;
        self.wasi_http_incoming_handler().call_handle(store, request, outparam).await
    }
}

impl Callee for Service {
    type Pre = ServicePre<State>;

    fn instantiate(pre: &Self::Pre, store: &mut Store<State>) -> impl Future<Output = wasmtime::Result<Self>> + Send {
        pre.instantiate_async(store)
    }

    async fn call<B: RequestBody>(
        &self,
        store: &mut Store<State>,
        request: Request<B>,
        answer: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<()> {
        let (request, processed) = request_03(store.data_mut(), request);
        store
            .run_concurrent(async move |accessor| -> wasmtime::Result<()> {
                match self.handle(accessor, request).await? {
                    Ok(response) => {
                        let response = accessor.with(|access| response.into_http(access, processed))?;
                        let (using, unused) = oneshot::channel();
                        let _ = answer.send(Ok(response.map(|body| InUse { body, _using: using }.boxed_unsync())));
                        // What the guest wrote is carried to the body by this loop, even when the guest has nothing left to
                        // do: a handler that is lifted sync has written all of it by now.
                        let _ = unused.await;
                    }
                    Err(code) => {
                        let _ = answer.send(Err(format!("{code:?}")));
                    }
                }
                // Tasks the guest left behind.
                poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                Ok(())
            })
            .await?
    }
}

/// A request as guests of WASI 0.3 get it; and when its body has been sent.
pub(crate) fn request_03<B: RequestBody>(
    state: &mut State,
    request: Request<B>,
) -> (p3::Request, impl Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send + 'static + use<B>) {
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().cloned().or_else(|| authority_of(parts.headers.get(header::HOST)));
    let scheme = parts.uri.scheme().cloned().unwrap_or(Scheme::HTTP);
    let headers = FieldMap::new_immutable(state.http().hooks, parts.headers);
    p3::Request::new(
        parts.method,
        Some(scheme),
        authority,
        parts.uri.into_parts().path_and_query,
        headers,
        None,
        body.map_err(wasi_body_error),
    )
}

/// A body that says when nobody uses it any more.
struct InUse {
    body: WasiBody,
    _using: oneshot::Sender<()>,
}

impl http_body::Body for InUse {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

fn authority_of(host: Option<&HeaderValue>) -> Option<Authority> {
    Authority::from_maybe_shared(Bytes::copy_from_slice(host?.as_bytes())).ok()
}
