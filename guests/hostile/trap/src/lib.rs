//! Traps three calls deep. Proves that the failure is the guest's, and that its log shows the guest's functions by name.

use std::hint::black_box;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
        black_box(outer_function(1));
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
