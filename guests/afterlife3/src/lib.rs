//! The same as `afterlife` over WASI 0.3, where a task that goes on after it has returned is an ordinary thing.

use common::query;
use wasip3::clocks::monotonic_clock::{now, wait_for};
use wasip3::http::types::{ErrorCode, Request, Response};

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

struct Afterlife;

wasip3::http::service::export!(Afterlife);

impl wasip3::exports::http::handler::Guest for Afterlife {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = http03::target(&request);
        let (_, query) = query::split(&target);
        let id = query.get("id").unwrap_or_default().to_string();
        let wait = query.number("ms").unwrap_or(300) * MS;
        let burns = query.get("mode") == Some("burn");
        let midbody = query.get("mode") == Some("midbody");
        let (response, mut body) = http03::streamed(200, &[("content-type".into(), b"text/plain".to_vec())]);
        wasip3::spawn(async move {
            if midbody {
                body.write_all(b"first\n".to_vec()).await;
                wait_for(wait).await;
                http03::print(format!("afterlife: second {id}")).await;
                body.write_all(b"second\n".to_vec()).await;
                drop(body);
            } else {
                body.write_all(b"done\n".to_vec()).await;
                drop(body);
                if burns {
                    let end = now() + wait;
                    while now() < end {}
                } else {
                    wait_for(wait).await;
                }
            }
            http03::print(format!("afterlife: finished {id}")).await;
        });
        Ok(response)
    }
}
