//! One component with two entries: an HTTP handler that answers `http entry` and a command that prints `run entry`. Proves that a
//! trigger picks the entry, not the file.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Multi;

wasip2::http::proxy::export!(Multi);
wasip2::cli::command::export!(Multi);

impl wasip2::exports::http::incoming_handler::Guest for Multi {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        http02::text(out, 200, b"http entry\n");
    }
}

impl wasip2::exports::cli::run::Guest for Multi {
    fn run() -> Result<(), ()> {
        println!("run entry");
        Ok(())
    }
}
