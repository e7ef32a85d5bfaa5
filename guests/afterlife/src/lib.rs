//! Answers `done`, ends the body, and works on for `ms` milliseconds before it prints `afterlife: finished <id>`. With `mode=midbody` it
//! waits between two chunks instead and prints `afterlife: second <id>` as well; with `mode=read` it reads the request's body in place of
//! waiting and prints `afterlife: read <bytes> <id>`; with `mode=drop` it breaks its body off. Proves what becomes of a guest once its answer
//! is out.

use common::query;
use http02::{head, read_all, target, write};
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
        let mode = query.get("mode");
        let first: &[u8] = if matches!(mode, Some("midbody" | "drop")) { b"first\n" } else { b"done\n" };
        let _ = write(&stream, first);
        if mode == Some("midbody") {
            wait();
            println!("afterlife: second {id}");
            let _ = write(&stream, b"second\n");
        }
        drop(stream);
        if mode == Some("drop") {
            return drop(body);
        }
        let _ = OutgoingBody::finish(body, None);
        match mode {
            Some("midbody") => {}
            Some("read") => println!("afterlife: read {} {id}", read_all(&request).map_or(0, |body| body.len())),
            _ => wait(),
        }
        println!("afterlife: finished {id}");
    }
}
