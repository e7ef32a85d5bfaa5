//! Sleeps for `ms` milliseconds, 1000 where nothing is said, and answers `slept`. Proves deadlines, draining and limits on calls in flight.

use common::query;
use http02::{target, text};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

struct Slow;

wasip2::http::proxy::export!(Slow);

impl wasip2::exports::http::incoming_handler::Guest for Slow {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = target(&request);
        let (_, query) = query::split(&target);
        subscribe_duration(query.number("ms").unwrap_or(1000) * MS).block();
        text(out, 200, b"slept\n");
    }
}
