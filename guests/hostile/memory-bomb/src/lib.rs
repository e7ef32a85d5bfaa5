//! Takes and touches memory, 1 MiB at a time, until there is no more, and then traps. Proves the memory limit.

use std::hint::black_box;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK_BYTES).unwrap();
            chunk.resize(CHUNK_BYTES, 0xa5);
            chunks.push(black_box(chunk));
        }
    }
}

const CHUNK_BYTES: usize = 1024 * 1024;
