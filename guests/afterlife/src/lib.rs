//! Answers `done`, ends the body, and works on for `ms` milliseconds before it prints `afterlife: finished <id>`. With `mode=midbody` it
//! waits between two chunks instead and prints `afterlife: second <id>` as well. Proves what becomes of a guest once its answer is out.

use common::query;
use http02::{head, target, write};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{IncomingRequest, OutgoingBody, ResponseOutparam};

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

struct Afterlife;

wasip2::http::proxy::export!(Afterlife);

impl wasip2::exports::http::incoming_handler::Guest for Afterlife {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = target(&request);
        let (_, query) = query::split(&target);
        let id = query.get("id").unwrap_or_default();
        let wait = || subscribe_duration(query.number("ms").unwrap_or(300) * MS).block();
        let body = head(out, 200, &[("content-type".into(), b"text/plain".to_vec())]);
        let stream = body.write().expect("the stream is taken once");
        if query.get("mode") == Some("midbody") {
            let _ = write(&stream, b"first\n");
            wait();
            println!("afterlife: second {id}");
            let _ = write(&stream, b"second\n");
            drop(stream);
            let _ = OutgoingBody::finish(body, None);
        } else {
            let _ = write(&stream, b"done\n");
            drop(stream);
            let _ = OutgoingBody::finish(body, None);
            wait();
        }
        println!("afterlife: finished {id}");
    }
}
