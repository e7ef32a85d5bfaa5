//! The `http` entry: components that export wasi:http's handler, 0.2 or 0.3, lifted sync or async.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::{Body, BoxFuture, Call, Entry, Error, Handler, Input, Kind, Reply};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme as GuestScheme;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView, p3};

use crate::entry::{EntryType, Linked, wrong_input};
use crate::execution::{Guest, GuestFuture};
use crate::instance::Equipment;
use crate::outbound::wasi_body_error;
use crate::reply;
use crate::runtime::Core;
use crate::state::{Active, State};

const EXPORT_02: &str = "wasi:http/incoming-handler@0.2.";
const EXPORT_03: &str = "wasi:http/handler@0.3.";

pub(crate) const TYPE: EntryType =
    EntryType { entry: Entry::Http, exports: &[EXPORT_03, EXPORT_02], core_exports: &[], prepare: Some(prepare) };

/// The guest's answer: a head with its body, or the error it answered with.
type Answer = Result<Response<WasiBody>, String>;

#[derive(Clone)]
enum Generation {
    V02(ProxyPre<State>),
    V03(ServicePre<State>),
}

struct Http {
    generation: Generation,
    equipment: Arc<Equipment>,
    core: Arc<Core>,
}

fn prepare(linked: &Linked, equipment: &Arc<Equipment>, core: &Arc<Core>) -> Result<Arc<dyn Handler>, Error> {
    let Linked::Component(pre) = linked else { return Err(Error::new(Kind::Internal, "a core module has no HTTP entry")) };
    // The newer generation where a component offers both.
    let ty = pre.component().component_type();
    let is_03 = ty.exports(pre.engine()).any(|(name, _)| name.starts_with(EXPORT_03));
    let generation =
        if is_03 { ServicePre::new(pre.clone()).map(Generation::V03) } else { ProxyPre::new(pre.clone()).map(Generation::V02) };
    let generation = generation.map_err(|error| {
        Error::new(Kind::Unprocessable, format!("the HTTP entry does not fit: {}", error.root_cause()))
            .internal(format!("{error:#}"))
    })?;
    Ok(Arc::new(Http { generation, equipment: Arc::clone(equipment), core: Arc::clone(core) }))
}

impl Handler for Http {
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let whole = call.deadline.whole;
        let (active, input) = Active::of(call, &self.core, &self.equipment);
        let Input::Http(request) = input else { return wrong_input(Entry::Http) };
        let head_only = request.method() == Method::HEAD;
        let (answer, answered) = oneshot::channel();
        let future: GuestFuture = match &self.generation {
            Generation::V02(pre) => Box::pin(run_02(pre.clone(), Arc::clone(&active), request, answer)),
            Generation::V03(pre) => Box::pin(run_03(pre.clone(), Arc::clone(&active), request, answer)),
        };
        let mut guest = Guest::new(future, active);
        Box::pin(async move {
            let mut answered = Some(answered);
            let response = poll_fn(|cx| poll_answer(&mut guest, &mut answered, cx)).await?;
            let response =
                if whole { reply::whole(guest, response).await } else { reply::assemble(guest, response, head_only).await };
            response.map(Reply::Http)
        })
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

async fn run_02(
    pre: ProxyPre<State>,
    active: Arc<Active>,
    request: Request<Body>,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let mut store = active.equipment.component_store(&active, None)?;
    call_02(&pre, &mut store, request, answer).await.inspect_err(|_| active.meter.note_failed())
}

async fn call_02(
    pre: &ProxyPre<State>,
    mut store: &mut Store<State>,
    request: Request<Body>,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let proxy = pre.instantiate_async(&mut store).await?;
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
    proxy.wasi_http_incoming_handler().call_handle(store, request, outparam).await
}

async fn run_03(
    pre: ServicePre<State>,
    active: Arc<Active>,
    request: Request<Body>,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let mut store = active.equipment.component_store(&active, None)?;
    call_03(&pre, &mut store, request, answer).await.inspect_err(|_| active.meter.note_failed())
}

async fn call_03(
    pre: &ServicePre<State>,
    mut store: &mut Store<State>,
    request: Request<Body>,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let service = pre.instantiate_async(&mut store).await?;
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().cloned().or_else(|| authority_of(parts.headers.get(header::HOST)));
    let scheme = parts.uri.scheme().cloned().unwrap_or(Scheme::HTTP);
    let headers = FieldMap::new_immutable(store.data_mut().http().hooks, parts.headers);
    let (request, processed) = p3::Request::new(
        parts.method,
        Some(scheme),
        authority,
        parts.uri.into_parts().path_and_query,
        headers,
        None,
        body.map_err(wasi_body_error),
    );
    store
        .run_concurrent(async move |accessor| -> wasmtime::Result<()> {
            match service.handle(accessor, request).await? {
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

/// A body that says when nobody uses it any more.
struct InUse {
    body: WasiBody,
    _using: oneshot::Sender<()>,
}

impl http_body::Body for InUse {
    type Data = bytes::Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

fn authority_of(host: Option<&HeaderValue>) -> Option<Authority> {
    Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(host?.as_bytes())).ok()
}
