//! What guests of `wasi:http@0.3` share: reading and writing bodies, and the one-line answer.

use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Trailers};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::{wit_future, wit_stream};

/// How much of a body is held at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// What ends a body.
pub type TrailersFuture = FutureReader<Result<Option<Trailers>, ErrorCode>>;

/// The method as it stood in the request.
pub fn method(request: &Request) -> String {
    match request.get_method() {
        Method::Get => "GET".into(),
        Method::Head => "HEAD".into(),
        Method::Post => "POST".into(),
        Method::Put => "PUT".into(),
        Method::Delete => "DELETE".into(),
        Method::Connect => "CONNECT".into(),
        Method::Options => "OPTIONS".into(),
        Method::Trace => "TRACE".into(),
        Method::Patch => "PATCH".into(),
        Method::Other(name) => name,
    }
}

/// Path and query of the request, `/` where the host gave none.
pub fn target(request: &Request) -> String {
    request.get_path_with_query().unwrap_or_else(|| "/".into())
}

/// A response whose body is given.
pub fn response(status: u16, headers: &[(String, Vec<u8>)], body: StreamReader<u8>, trailers: TrailersFuture) -> Response {
    let fields = Fields::from_list(headers).expect("headers a guest may set");
    let (response, _sent) = Response::new(fields, Some(body), trailers);
    response.set_status_code(status).expect("a valid status");
    response
}

/// A response whose body is still to be written, and the writer for it.
pub fn streamed(status: u16, headers: &[(String, Vec<u8>)]) -> (Response, StreamWriter<u8>) {
    let (writer, body) = wit_stream::new();
    (response(status, headers, body, no_trailers()), writer)
}

/// A text; it is written once the response has been returned.
pub fn text(status: u16, text: &[u8]) -> Response {
    bytes(status, "text/plain", text)
}

/// Bytes of some type; they are written once the response has been returned.
pub fn bytes(status: u16, content_type: &str, bytes: &[u8]) -> Response {
    let (response, mut writer) = streamed(status, &[("content-type".into(), content_type.into())]);
    let bytes = bytes.to_vec();
    wasip3::spawn(async move {
        // What could not be written belongs to a client that has left.
        let _ = writer.write_all(bytes).await;
    });
    response
}

/// The end of a body without trailers.
pub fn no_trailers() -> TrailersFuture {
    // A writer that is dropped writes its default.
    wit_future::new(|| Ok(None)).1
}

/// The body of a request, and what ends it.
pub fn body(request: Request) -> (StreamReader<u8>, TrailersFuture) {
    Request::consume_body(request, wit_future::new(|| Ok(())).1)
}

/// The whole body of a request; none if it broke off.
pub async fn read_all(request: Request) -> Option<Vec<u8>> {
    let (stream, trailers) = body(request);
    let bytes = stream.collect().await;
    trailers.await.ok().map(|_| bytes)
}

/// Copies a body through the guest's own memory, a chunk at a time, until either side ends it.
pub async fn copy(mut from: StreamReader<u8>, mut to: StreamWriter<u8>) {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let (result, filled) = from.read(chunk).await;
        let ended = !matches!(result, StreamResult::Complete(_));
        chunk = to.write_all(filled).await;
        if ended || !chunk.is_empty() {
            return;
        }
    }
}

/// Prints one line through `wasi:cli/stdout@0.3.0`, not through the standard library, which speaks 0.2.
pub async fn print(line: String) {
    let (mut writer, text) = wit_stream::new();
    let written = wasip3::cli::stdout::write_via_stream(text);
    let _ = writer.write_all(format!("{line}\n").into_bytes()).await;
    drop(writer);
    let _ = written.await;
}
