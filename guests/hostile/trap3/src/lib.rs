//! Traps three calls deep in a WASI 0.3 handler.

use std::hint::black_box;
use wasip3::http::types::{ErrorCode, Request, Response};

struct Hostile;

wasip3::http::service::export!(Hostile);

impl wasip3::exports::http::handler::Guest for Hostile {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        black_box(outer_function(1));
        Err(ErrorCode::InternalError(None))
    }
}

#[inline(never)]
fn outer_function(depth: u32) -> u32 {
    black_box(middle_function(black_box(depth) + 1)) + 1
}

#[inline(never)]
fn middle_function(depth: u32) -> u32 {
    black_box(inner_trap(black_box(depth) + 1)) + 1
}

#[inline(never)]
fn inner_trap(depth: u32) -> u32 {
    if black_box(depth) > 0 {
        core::arch::wasm32::unreachable();
    }
    depth
}
