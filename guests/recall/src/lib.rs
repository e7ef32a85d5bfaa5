//! Answers with how many calls its instance has had, this one included: what keeps an instance for another call shows in the number.
//! By its path it also does what must not be kept, or must not reach the next call.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::query;
use http02::{head, target, text, write};
use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

/// The calls of this instance.
static CALLS: AtomicU64 = AtomicU64::new(0);

struct Recall;

wasip2::http::proxy::export!(Recall);

impl wasip2::exports::http::incoming_handler::Guest for Recall {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let call = CALLS.fetch_add(1, Relaxed) + 1;
        let target = target(&request);
        let (path, query) = query::split(&target);
        let answer = format!("{call}\n");
        match path {
            "/trap" => unreachable!("asked to trap"),
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(None))),
            "/nothing" => {}
            // The body is never finished: with the instance it ends, not with the next call.
            "/open" => {
                let body = head(out, 200, &[]);
                let stream = body.write().expect("the stream is taken once");
                let _ = write(&stream, answer.as_bytes());
                std::mem::forget((stream, body));
            }
            // The request's body stays here, unread.
            "/hold" => {
                std::mem::forget(request.consume().expect("the body is taken once"));
                text(out, 200, answer.as_bytes());
            }
            "/print" => {
                println!("call {}", query.get("id").unwrap_or_default());
                text(out, 200, answer.as_bytes());
            }
            "/grow" => {
                std::mem::forget(vec![1_u8; query.number("mib").unwrap_or(1) as usize * 1024 * 1024]);
                text(out, 200, answer.as_bytes());
            }
            _ => text(out, 200, answer.as_bytes()),
        }
    }
}
