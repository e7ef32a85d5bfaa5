//! Calls itself until the stack is full. Proves that a stack overflow is a trap like any other.

use std::hint::black_box;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        http02::text(out, 200, format!("{}\n", descend(1)).as_bytes());
    }
}

/// Has work left after the call, so that no compiler makes a loop of it.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if black_box(depth) == 0 {
        return 1;
    }
    descend(depth + 1).wrapping_mul(3) ^ black_box(depth)
}
