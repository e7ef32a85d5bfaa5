//! What guests of `wasi:http@0.2` share: reading and writing bodies, and the one-line answer.

use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam, Trailers,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// How much of a body is held at a time.
const CHUNK_BYTES: u64 = 64 * 1024;

/// The method as it stood in the request.
pub fn method(request: &IncomingRequest) -> String {
    match request.method() {
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
pub fn target(request: &IncomingRequest) -> String {
    request.path_with_query().unwrap_or_else(|| "/".into())
}

/// Sends the head; the body is the caller's to write and to finish.
pub fn head(out: ResponseOutparam, status: u16, headers: &[(String, Vec<u8>)]) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::from_list(headers).expect("headers a guest may set"));
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Answers with a text and is done.
pub fn text(out: ResponseOutparam, status: u16, text: &[u8]) {
    bytes(out, status, "text/plain", text);
}

/// Answers with bytes of some type and is done. A client that has left is no error.
pub fn bytes(out: ResponseOutparam, status: u16, content_type: &str, bytes: &[u8]) {
    let body = head(out, status, &[("content-type".into(), content_type.into())]);
    let stream = body.write().expect("the stream is taken once");
    let written = write(&stream, bytes);
    drop(stream);
    if written.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Writes and flushes one piece of a body.
pub fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    write_all(stream, bytes)?;
    stream.blocking_flush()
}

/// Writes all of `bytes`, as fast as the host takes them.
pub fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let permitted = stream.check_write()? as usize;
        if permitted == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(permitted.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    Ok(())
}

/// The next piece of a body; none at its end.
pub fn read(stream: &InputStream) -> Result<Option<Vec<u8>>, StreamError> {
    match stream.blocking_read(CHUNK_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StreamError::Closed) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The whole body of a request.
pub fn read_all(request: &IncomingRequest) -> Result<Vec<u8>, StreamError> {
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    let mut all = Vec::new();
    while let Some(bytes) = read(&stream)? {
        all.extend(bytes);
    }
    Ok(all)
}

/// What follows a body that was read to its end.
pub fn trailers(body: IncomingBody) -> Option<Trailers> {
    let future = IncomingBody::finish(body);
    future.subscribe().block();
    future.get()?.ok()?.ok()?
}
