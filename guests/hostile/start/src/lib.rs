//! Never gets as far as its handler: it loops while it is started. Proves that the deadline of CPU time holds before a guest's first call.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

attack::spins_at_start!();

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {}
}
