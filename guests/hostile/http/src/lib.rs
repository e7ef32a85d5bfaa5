//! Misbehaves as the request's query says: `what=…`. Proves that whatever a component of `wasi:http` 0.2 does beside looping and trapping
//! ends with its call.

use std::mem;

use attack::Endless;
use common::query::{self, Query};
use http02::{head, target, text, write_all};
use wasip2::cli::stderr::get_stderr;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingRequest, ResponseOutparam, Scheme};

/// In nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

#[global_allocator]
static ALLOCATOR: Endless = Endless;

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = target(&request);
        let (_, query) = query::split(&target);
        match query.get("what").unwrap_or_default() {
            "bulk" => attack::bulk(),
            "realloc" => {
                Endless::begin();
                drop(request.path_with_query());
            }
            "handles" => loop {
                mem::forget(Fields::new());
            },
            "sleeper" => subscribe_duration(HOUR).block(),
            "blackhole" => blackhole(&query),
            "log" => {
                let errors = get_stderr();
                while errors.blocking_write_and_flush(b"one line of many\n").is_ok() {}
            }
            "output" => {
                let body = head(out, 200, &[]);
                let stream = body.write().expect("the stream is taken once");
                while write_all(&stream, &[b'x'; 4096]).is_ok() {}
            }
            "trailers" => {
                let body = head(out, 200, &[]);
                let stale = body.handle();
                OutgoingBody::finish(body, None).expect("an empty body");
                // SAFETY: none; the body is finished, and that is the point. The host must notice.
                let stale = unsafe { OutgoingBody::from_handle(stale) };
                let _ = OutgoingBody::finish(stale, Some(Fields::new()));
            }
            other => text(out, 200, format!("no way {other:?}\n").as_bytes()),
        }
    }
}

/// Waits for a server that takes the request and says nothing.
fn blackhole(query: &Query) {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(query.get("to")).expect("an authority");
    request.set_path_with_query(Some("/")).expect("a path");
    let answer = outgoing_handler::handle(request, None).expect("a request that is sent");
    answer.subscribe().block();
}
