//! What benchmarks ask for beside the hello: `/headers` answers `Hello from Fornax!` and sends back each field that begins with `x-bench-`;
//! `/spin?rounds=N` turns a generator of random numbers N times and answers its state in hexadecimal. Proves that fields pass both
//! ways in order, and gives a call a known amount to compute.

use common::query;
use http02::{head, target, text, write};
use wasip2::http::types::{IncomingRequest, OutgoingBody, ResponseOutparam};

struct Work;

wasip2::http::proxy::export!(Work);

impl wasip2::exports::http::incoming_handler::Guest for Work {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = target(&request);
        match query::split(&target) {
            ("/headers", _) => send_back(&request, out),
            ("/spin", query) => text(out, 200, format!("{:016x}\n", spin(query.number("rounds").unwrap_or(0))).as_bytes()),
            _ => text(out, 404, b"not found\n"),
        }
    }
}

fn send_back(request: &IncomingRequest, out: ResponseOutparam) {
    let sent = request.headers().entries().into_iter().filter(|(name, _)| name.starts_with("x-bench-"));
    let headers: Vec<_> = [("content-type".to_string(), b"text/plain".to_vec())].into_iter().chain(sent).collect();
    let body = head(out, 200, &headers);
    let stream = body.write().expect("the stream is taken once");
    let written = write(&stream, b"Hello from Fornax!\n");
    drop(stream);
    // A client that has left is no error.
    if written.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}

/// xorshift64, each turn needing the one before; `bench` has the same for the native server.
fn spin(rounds: u64) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}
