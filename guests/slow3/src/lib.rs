//! The same as `slow` over WASI 0.3: proves how many calls can wait at once in the other engine.

use common::query;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Request, Response};

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

struct Slow;

wasip3::http::service::export!(Slow);

impl wasip3::exports::http::handler::Guest for Slow {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = http03::target(&request);
        let (_, query) = query::split(&target);
        wait_for(query.number("ms").unwrap_or(1000) * MS).await;
        Ok(http03::text(200, b"slept\n"))
    }
}
