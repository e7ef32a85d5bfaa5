//! Calls itself until the stack is full. Proves that a stack overflow is a trap like any other.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        http02::text(out, 200, format!("{}\n", attack::descend(1)).as_bytes());
    }
}
