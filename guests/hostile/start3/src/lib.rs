//! The same as `hostile/start` over WASI 0.3.

use wasip3::http::types::{ErrorCode, Request, Response};

/// Called before anything else.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    attack::spin()
}

struct Hostile;

wasip3::http::service::export!(Hostile);

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        Err(ErrorCode::InternalError(None))
    }
}
