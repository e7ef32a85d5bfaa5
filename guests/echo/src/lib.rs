//! Sends the request's body back, a chunk at a time, and then its trailers. Proves that bodies of any size pass both ways in constant
//! memory. `x-method` and `x-path` tell what arrived; with the request header `x-length` the answer repeats `content-length`.

use http02::{head, method, read, target, trailers, write_all};
use wasip2::http::types::{IncomingRequest, OutgoingBody, ResponseOutparam};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

struct Echo;

wasip2::http::proxy::export!(Echo);

impl wasip2::exports::http::incoming_handler::Guest for Echo {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let from = request.consume().expect("the body is taken once");
        let input = from.stream().expect("the stream is taken once");
        let to = head(out, 200, &headers(&request));
        let output = to.write().expect("the stream is taken once");
        let copied = copy(&input, &output);
        drop((input, output));
        if copied.is_ok() {
            let _ = OutgoingBody::finish(to, trailers(from));
        }
    }
}

fn headers(request: &IncomingRequest) -> Vec<(String, Vec<u8>)> {
    let sent = request.headers();
    // `trailer` too: HTTP/1.1 servers send only the trailers that were announced.
    let mut copied = vec!["content-type", "trailer"];
    if sent.has("x-length") {
        copied.push("content-length");
    }
    let mut headers: Vec<(String, Vec<u8>)> =
        copied.iter().flat_map(|name| sent.get(name).into_iter().map(|value| (name.to_string(), value))).collect();
    headers.push(("x-method".into(), method(request).into()));
    headers.push(("x-path".into(), target(request).into()));
    headers
}

/// Flushes after every chunk: a client that waits for its echo before it sends more must get it.
fn copy(input: &InputStream, output: &OutputStream) -> Result<(), StreamError> {
    while let Some(bytes) = read(input)? {
        write_all(output, &bytes)?;
        output.flush()?;
    }
    output.blocking_flush()
}
