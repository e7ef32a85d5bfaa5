//! Answers every request with `Hello from Fornax!` over WASI 0.3, from a handler that is lifted *synchronously*: it returns on the stack
//! it was called on and no task outlives it. Proves that a host does not take every `async func` for one with a callback. Its body and
//! trailers are writes begun before it returns and never looked at again, so `content-length` has to tell the host where the body ends.

use bindings::wasi::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use bindings::{wit_future, wit_stream};
use std::alloc::alloc;
use wit_bindgen::{FutureReader, StreamReader};

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated")]
    wit_bindgen::generate!({
        path: "wit",
        world: "hello",
        async: ["-export:wasi:http/handler@0.3.0#handle"],
        generate_all,
    });
}

const GREETING: &[u8] = b"Hello from Fornax!\n";

struct Hello;

bindings::export!(Hello with_types_in bindings);

impl bindings::exports::wasi::http::handler::Guest for Hello {
    fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = [("content-type", "text/plain".to_string()), ("content-length", GREETING.len().to_string())];
        let headers = headers.map(|(name, value)| (name.to_string(), value.into_bytes()));
        let headers = Fields::from_list(&headers).expect("headers a guest may set");
        let (response, _sent) = Response::new(headers, Some(body()), trailers());
        Ok(response)
    }
}

/// A stream with a write of the greeting already under way.
fn body() -> StreamReader<u8> {
    let operations = <u8 as wit_stream::StreamPayload>::VTABLE;
    // SAFETY: both ends are fresh; the bytes live for ever, so the host may read them after this call.
    let reader = unsafe {
        let (reader, writer) = ends((operations.new)());
        (operations.start_write)(writer, GREETING.as_ptr(), GREETING.len());
        reader
    };
    StreamReader::new(reader, operations)
}

/// A future with a write of "no trailers" already under way.
fn trailers() -> FutureReader<Result<Option<Trailers>, ErrorCode>> {
    let operations = <Result<Option<Trailers>, ErrorCode> as wit_future::FuturePayload>::VTABLE;
    // SAFETY: both ends are fresh; the value is lowered into memory that is never freed, so the host may read it after this call.
    let reader = unsafe {
        let (reader, writer) = ends((operations.new)());
        let lowered = alloc(operations.layout);
        (operations.lower)(Ok(None), lowered);
        (operations.start_write)(writer, lowered);
        reader
    };
    // SAFETY: the handle is the reading end of this very type.
    unsafe { FutureReader::new(reader, operations) }
}

/// Reading and writing end, as the canonical ABI packs them.
fn ends(handles: u64) -> (u32, u32) {
    (handles as u32, (handles >> 32) as u32)
}
