//! Answers completely and then loops for ever. Proves that the client has its answer and the deadline still holds.

use std::hint::black_box;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        http02::text(out, 200, b"complete\n");
        let mut turns = 0u64;
        loop {
            turns = black_box(turns.wrapping_add(1));
        }
    }
}
