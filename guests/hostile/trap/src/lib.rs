//! Traps three calls deep. Proves that the failure is the guest's, and that its log shows the guest's functions by name.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
        attack::trap();
    }
}
