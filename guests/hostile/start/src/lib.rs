//! Never gets as far as its handler: it loops while it is started. Proves that the deadline of CPU time holds before a guest's first call.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

/// Called before anything else.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    attack::spin()
}

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {}
}
