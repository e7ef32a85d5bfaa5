//! How core modules reach outside: the host functions of Ignis, in both of its forms.
//!
//! | module | function | messages |
//! | --- | --- | --- |
//! | `env` | `host_http_request(request, len, answer, room) -> len` | JSON, the answer in a buffer of the guest |
//! | `env` | `host_socket_operation(request, len, answer, room) -> len` | the same |
//! | `ignis_http` | `call_host(request, len) -> address << 32 \| len` | protobuf, the answer where the guest's allocator says |
//! | `ignis_socket` | `call_host(request, len) -> address << 32 \| len` | JSON, likewise |
//!
//! 0 means that there is no answer: the request makes no sense, is denied or failed, or its answer does not fit. Everything goes through
//! egress, by the module's allow-list and budget. Sockets are the instance's and close with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{Caller, Extern, Linker};

use crate::codec::{collect, ignis};
use crate::memory::Memory;
use crate::outbound::{Budget, log_failure};
use crate::state::{Active, State};

/// The modules guests import.
pub(crate) const MODULES: [&str; 3] = ["env", "ignis_http", "ignis_socket"];

/// Bytes of one message in either direction: as much as one call into the host may make it copy.
const MESSAGE_BYTES_MAX: u32 = 8 << 20;

/// Bytes read from a socket at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// What an instance has outside.
pub(crate) struct Outside {
    budget: Budget,
    /// By the number a guest knows it by; each has its place among the requests at once.
    sockets: BTreeMap<u32, (TcpStream, OwnedSemaphorePermit)>,
    last_socket: u32,
}

impl Outside {
    pub(crate) fn new(active: &Active) -> Self {
        Self { budget: Budget::new(active), sockets: BTreeMap::new(), last_socket: 0 }
    }
}

/// Defines the function `name` of `module`, one of [`MODULES`], if there is one.
pub(crate) fn define(linker: &mut Linker<State>, module: &str, name: &str) -> wasmtime::Result<bool> {
    match (module, name) {
        ("env", "host_http_request") => {
            linker.func_wrap_async(module, name, |mut caller, (at, len, to, room): (u32, u32, u32, u32)| {
                Box::new(async move {
                    let answer = match message(&mut caller, at, len)? {
                        Some(request) => http_json(&mut caller, &request, room).await,
                        None => None,
                    };
                    into_buffer(&mut caller, answer, to, room)
                })
            })?
        }
        ("env", "host_socket_operation") => {
            linker.func_wrap_async(module, name, |mut caller, (at, len, to, room): (u32, u32, u32, u32)| {
                Box::new(async move {
                    let answer = match message(&mut caller, at, len)? {
                        Some(request) => Some(socket_json(&mut caller, &request).await),
                        None => None,
                    };
                    into_buffer(&mut caller, answer, to, room)
                })
            })?
        }
        ("ignis_http", "call_host") => linker.func_wrap_async(module, name, |mut caller, (at, len): (u32, u32)| {
            Box::new(async move {
                let answer = match message(&mut caller, at, len)? {
                    Some(request) => http_protobuf(&mut caller, &request).await,
                    None => None,
                };
                into_allocated(&mut caller, answer).await
            })
        })?,
        ("ignis_socket", "call_host") => linker.func_wrap_async(module, name, |mut caller, (at, len): (u32, u32)| {
            Box::new(async move {
                let answer = match message(&mut caller, at, len)? {
                    Some(request) => Some(socket_json(&mut caller, &request).await),
                    None => None,
                };
                into_allocated(&mut caller, answer).await
            })
        })?,
        _ => return Ok(false),
    };
    Ok(true)
}

/// The guest's message; none for one that is too large or not in its memory.
fn message(caller: &mut Caller<'_, State>, at: u32, len: u32) -> wasmtime::Result<Option<Vec<u8>>> {
    let (memory, _) = Memory::of(caller)?;
    Ok(memory.bytes(at, len).ok().filter(|_| len <= MESSAGE_BYTES_MAX).map(<[u8]>::to_vec))
}

/// Writes the answer to a buffer of the guest; returns its length, 0 where there is none or it does not fit.
fn into_buffer(caller: &mut Caller<'_, State>, answer: Option<Vec<u8>>, to: u32, room: u32) -> wasmtime::Result<u32> {
    let Some(answer) = answer.filter(|answer| answer.len() <= room as usize) else { return Ok(0) };
    let (mut memory, _) = Memory::of(caller)?;
    Ok(if memory.write(to, &answer).is_ok() { u32::try_from(answer.len())? } else { 0 })
}

/// Writes the answer to where the guest's allocator says; returns address and length, 0 where there is none.
async fn into_allocated(caller: &mut Caller<'_, State>, answer: Option<Vec<u8>>) -> wasmtime::Result<u64> {
    let Some(answer) = answer else { return Ok(0) };
    let len = u32::try_from(answer.len())?;
    let function = |caller: &mut Caller<'_, State>, name| caller.get_export(name).and_then(Extern::into_func);
    let at = if let Some(malloc) = function(caller, "malloc") {
        malloc.typed::<u32, u32>(&*caller)?.call_async(&mut *caller, len).await?
    } else if let Some(realloc) = function(caller, "cabi_realloc") {
        realloc.typed::<(u32, u32, u32, u32), u32>(&*caller)?.call_async(&mut *caller, (0, 0, 1, len)).await?
    } else {
        wasmtime::bail!("the guest calls the host and exports neither `malloc` nor `cabi_realloc` for its answer");
    };
    let (mut memory, _) = Memory::of(caller)?;
    memory.write(at, &answer)?;
    Ok(u64::from(at) << 32 | u64::from(len))
}

/// Go writes what is empty as `null`.
#[derive(Deserialize)]
struct HttpRequest {
    method: Option<String>,
    url: String,
    headers: Option<BTreeMap<String, Option<OneOrMore>>>,
    /// Base64.
    body: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Serialize)]
struct HttpAnswer {
    status_code: u16,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
}

async fn http_json(caller: &mut Caller<'_, State>, message: &[u8], room: u32) -> Option<Vec<u8>> {
    let asked: HttpRequest = serde_json::from_slice(message).ok()?;
    let method = asked.method.filter(|method| !method.is_empty()).unwrap_or_else(|| "GET".to_owned());
    let body = Bytes::from(STANDARD.decode(asked.body.unwrap_or_default()).ok()?);
    let mut request = Request::builder().method(method.as_str()).uri(&asked.url).body(body).ok()?;
    for (name, values) in asked.headers.unwrap_or_default() {
        let name = HeaderName::try_from(name).ok()?;
        let values = match values {
            None => Vec::new(),
            Some(OneOrMore::One(value)) => vec![value],
            Some(OneOrMore::More(values)) => values,
        };
        for value in values {
            request.headers_mut().append(name.clone(), HeaderValue::try_from(value).ok()?);
        }
    }
    // In base64 three bytes become four.
    let (head, body) = send(caller, request, u64::from(room.min(MESSAGE_BYTES_MAX)) / 4 * 3).await?;
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(ignis::train_case(name.as_str())).or_default().push(value);
    }
    serde_json::to_vec(&HttpAnswer { status_code: head.status.as_u16(), headers, body: STANDARD.encode(&body) }).ok()
}

async fn http_protobuf(caller: &mut Caller<'_, State>, message: &[u8]) -> Option<Vec<u8>> {
    let request = ignis::decode_request(message)?;
    let (head, body) = send(caller, request, u64::from(MESSAGE_BYTES_MAX)).await?;
    Some(ignis::encode_response(&head, &body))
}

/// Sends a request and takes its whole answer, up to `bytes_max`.
async fn send(
    caller: &mut Caller<'_, State>,
    mut request: Request<Bytes>,
    bytes_max: u64,
) -> Option<(http::response::Parts, Bytes)> {
    let active = Arc::clone(&caller.data().active);
    let _place = caller.data_mut().core().outside.budget.take()?;
    if let Some(trace) = &active.trace {
        request.headers_mut().entry("traceparent").or_insert_with(|| trace.clone());
    }
    // The body is here whole: its length is known, whatever the guest says of it.
    request.headers_mut().remove(http::header::CONTENT_LENGTH);
    let host = request.uri().host().map(str::to_owned);
    let sent = active.core.egress.send(&active.equipment.policy, request.map(Full::new), egress::Options::default()).await;
    let response: Response<base::Body> = match sent {
        Ok(response) => response,
        Err(error) => {
            log_failure(&active, host.as_deref(), &error);
            return None;
        }
    };
    let (head, body) = response.into_parts();
    Some((head, collect(body, bytes_max).await.ok()?))
}

#[derive(Deserialize)]
struct SocketRequest {
    operation: String,
    network: Option<String>,
    address: Option<String>,
    fd: Option<u32>,
    /// Base64.
    data: Option<String>,
    size: Option<usize>,
}

impl SocketRequest {
    /// 0 is nobody's.
    fn fd(&self) -> u32 {
        self.fd.unwrap_or_default()
    }
}

async fn socket_json(caller: &mut Caller<'_, State>, message: &[u8]) -> Vec<u8> {
    let answer = match serde_json::from_slice(message) {
        Ok(request) => socket(caller, request).await,
        Err(error) => Err(format!("the request cannot be read: {error}")),
    };
    answer.unwrap_or_else(|error| json!({ "error": error })).to_string().into_bytes()
}

async fn socket(caller: &mut Caller<'_, State>, request: SocketRequest) -> Result<Value, String> {
    match request.operation.as_str() {
        "dial" => dial(caller, &request).await,
        "read" => {
            let (socket, _) = of(caller, request.fd())?;
            let mut bytes = vec![0; request.size.unwrap_or_default().clamp(1, READ_BYTES_MAX)];
            let read = socket.read(&mut bytes).await.map_err(|error| format!("cannot read: {}", error.kind()))?;
            Ok(json!({ "data": STANDARD.encode(&bytes[..read]), "bytes_read": read }))
        }
        "write" => {
            let bytes =
                STANDARD.decode(request.data.as_deref().unwrap_or_default()).map_err(|_| "`data` is not base64".to_owned())?;
            let (socket, _) = of(caller, request.fd())?;
            socket.write_all(&bytes).await.map_err(|error| format!("cannot write: {}", error.kind()))?;
            Ok(json!({ "bytes_sent": bytes.len() }))
        }
        "close" => match caller.data_mut().core().outside.sockets.remove(&request.fd()) {
            Some(_) => Ok(json!({})),
            None => Err(no_socket(request.fd())),
        },
        other => Err(format!("there is no operation `{other}`; there are dial, read, write and close")),
    }
}

async fn dial(caller: &mut Caller<'_, State>, request: &SocketRequest) -> Result<Value, String> {
    let (network, address) = (request.network.as_deref().unwrap_or_default(), request.address.as_deref().unwrap_or_default());
    if !matches!(network, "" | "tcp" | "tcp4" | "tcp6") {
        return Err(format!("the network `{network}` is not supported; `tcp` is"));
    }
    let active = Arc::clone(&caller.data().active);
    let place = caller.data_mut().core().outside.budget.take().ok_or_else(|| "the limit of connections is reached".to_owned())?;
    let socket = active.core.egress.dial(&active.equipment.policy, address, None).await.map_err(|error| {
        log_failure(&active, Some(address), &error);
        // The rest, such as addresses, is for the log.
        match error {
            egress::Error::Denied(_) | egress::Error::AddressProhibited(_) => "the address is not allowed".to_owned(),
            egress::Error::InvalidUri(_) => "the address is not a host and a port".to_owned(),
            egress::Error::ConnectionTimeout => "the connection did not come in time".to_owned(),
            _ => "cannot connect".to_owned(),
        }
    })?;
    let outside = &mut caller.data_mut().core().outside;
    outside.last_socket += 1;
    outside.sockets.insert(outside.last_socket, (socket, place));
    Ok(json!({ "fd": outside.last_socket }))
}

fn of<'a>(caller: &'a mut Caller<'_, State>, fd: u32) -> Result<&'a mut (TcpStream, OwnedSemaphorePermit), String> {
    caller.data_mut().core().outside.sockets.get_mut(&fd).ok_or_else(|| no_socket(fd))
}

fn no_socket(fd: u32) -> String {
    format!("there is no socket {fd}")
}
