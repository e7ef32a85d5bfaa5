//! Takes memory until there is no more, in an asynchronous WASI 0.3 handler. Proves that the memory limit does not depend on the generation.

use wasip3::http::types::{ErrorCode, Request, Response};

struct Hostile;

wasip3::http::service::export!(Hostile);

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        attack::take_memory()
    }
}
