//! Traps three calls deep in a WASI 0.3 handler.

use wasip3::http::types::{ErrorCode, Request, Response};

struct Hostile;

wasip3::http::service::export!(Hostile);

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        attack::trap();
        Err(ErrorCode::InternalError(None))
    }
}
