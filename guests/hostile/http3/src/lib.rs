//! The same as `hostile/http` over `wasi:http@0.3`; besides, `what=task` answers and leaves a task behind that never ends.

use std::mem;

use attack::Endless;
use common::query::{self, Query};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};

/// In nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

#[global_allocator]
static ALLOCATOR: Endless = Endless;

struct Hostile;

wasip3::http::service::export!(Hostile);

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = http03::target(&request);
        let (_, query) = query::split(&target);
        match query.get("what").unwrap_or_default() {
            "bulk" => attack::bulk(),
            "realloc" => {
                Endless::begin();
                drop(request.get_path_with_query());
            }
            "handles" => loop {
                mem::forget(Fields::new());
            },
            "sleeper" => wait_for(HOUR).await,
            "blackhole" => blackhole(&query).await?,
            "log" => loop {
                http03::print("one line of many".into()).await;
            },
            "output" => {
                let (response, mut body) = http03::streamed(200, &[]);
                wasip3::spawn(async move { while body.write_all(vec![b'x'; 4096]).await.is_empty() {} });
                return Ok(response);
            }
            "task" => {
                wasip3::spawn(async {
                    // The answer has left by then.
                    wait_for(20_000_000).await;
                    attack::spin()
                });
                return Ok(http03::text(200, b"complete\n"));
            }
            _ => {}
        }
        Ok(http03::text(200, b"no such way\n"))
    }
}

/// Waits for a server that takes the request and says nothing.
async fn blackhole(query: &Query) -> Result<(), ErrorCode> {
    let request = Request::new(Fields::new(), None, http03::no_trailers(), None).0;
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(query.get("to")).expect("an authority");
    request.set_path_with_query(Some("/")).expect("a path");
    client::send(request).await.map(drop)
}
