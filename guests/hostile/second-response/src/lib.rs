//! Answers, and then answers again through the handle it no longer owns. Proves that the second answer traps and that the client
//! sees nothing of it.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let first = OutgoingResponse::new(Fields::new());
        // Made before the first answer: its handle must not fall into the place that becomes free.
        let second = OutgoingResponse::new(Fields::new());
        let body = first.body().unwrap();
        let handle = out.handle();
        ResponseOutparam::set(out, Ok(first));
        let stream = body.write().unwrap();
        let _ = stream.blocking_write_and_flush(b"first\n");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
        // SAFETY: none; the handle is gone, and that is the point. The host must notice.
        let stale = unsafe { ResponseOutparam::from_handle(handle) };
        ResponseOutparam::set(stale, Ok(second));
    }
}
