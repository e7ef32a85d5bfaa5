//! Calls itself until the stack is full, in an asynchronous WASI 0.3 handler. Proves that a stack overflow there is a trap like any other.

use wasip3::http::types::{ErrorCode, Request, Response};

struct Hostile;

wasip3::http::service::export!(Hostile);

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        Err(ErrorCode::InternalError(Some(attack::descend(1).to_string())))
    }
}
