//! The same as `hostile/start` over WASI 0.3.

use wasip3::http::types::{ErrorCode, Request, Response};

attack::spins_at_start!();

struct Hostile;

wasip3::http::service::export!(Hostile);

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        Err(ErrorCode::InternalError(None))
    }
}
