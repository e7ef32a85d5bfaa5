//! The same as `recall` over WASI 0.3, where one instance may have several calls at the same time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::query;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Request, Response};

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

/// The calls of this instance.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Those at `/meet`.
static MET: AtomicU64 = AtomicU64::new(0);

struct Recall;

wasip3::http::service::export!(Recall);

impl wasip3::exports::http::handler::Guest for Recall {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let call = CALLS.fetch_add(1, Relaxed) + 1;
        let target = http03::target(&request);
        let (path, query) = query::split(&target);
        let ms = query.number("ms").unwrap_or(100);
        match path {
            "/trap" => unreachable!("asked to trap"),
            "/error" => return Err(ErrorCode::InternalError(None)),
            "/spin" => loop {
                std::hint::black_box(call);
            },
            // Answers only when so many are here at once.
            "/meet" => {
                MET.fetch_add(1, Relaxed);
                while MET.load(Relaxed) < query.number("calls").unwrap_or(2) {
                    wait_for(MS).await;
                }
            }
            "/sleep" => wait_for(ms * MS).await,
            // The body comes while others are served.
            "/stream" => {
                let (response, mut body) = http03::streamed(200, &[]);
                wasip3::spawn(async move {
                    for piece in 0..query_pieces(&target) {
                        wait_for(ms * MS).await;
                        if !body.write_all(format!("{call}: {piece}\n").into_bytes()).await.is_empty() {
                            return;
                        }
                    }
                });
                return Ok(response);
            }
            "/echo" => return Ok(http03::text(200, &http03::read_all(request).await.unwrap_or_default())),
            // Works on for nobody.
            "/linger" => wasip3::spawn(async move { wait_for(ms * MS).await }),
            "/print" => http03::print(format!("call {}", query.get("id").unwrap_or_default())).await,
            _ => {}
        }
        Ok(http03::text(200, format!("{call}\n").as_bytes()))
    }
}

/// How many pieces a streamed body has.
fn query_pieces(target: &str) -> u64 {
    query::split(target).1.number("pieces").unwrap_or(3)
}
