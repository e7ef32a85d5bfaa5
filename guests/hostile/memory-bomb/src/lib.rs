//! Takes and touches memory, 1 MiB at a time, until there is no more, and then traps. Proves the memory limit.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
        attack::take_memory()
    }
}
