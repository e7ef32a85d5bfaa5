//! Sends the head, and then a byte every ten milliseconds for ever. Proves that who wants the whole answer does not wait for ever.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam};

/// Ten milliseconds, in nanoseconds.
const PAUSE_NS: u64 = 10_000_000;

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        while stream.blocking_write_and_flush(b".").is_ok() {
            subscribe_duration(PAUSE_NS).block();
        }
    }
}
