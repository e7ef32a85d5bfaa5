//! Answers, and loops where the host lets it clean up. Proves that the deadline of CPU time holds for that, too.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        http02::text(out, 200, b"complete\n");
    }
}

/// Called when the handler has returned.
#[unsafe(export_name = "cabi_post_wasi:http/incoming-handler@0.2.12#handle")]
extern "C" fn clean_up() {
    attack::spin()
}
