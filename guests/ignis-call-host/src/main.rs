//! Sends a request through the host function `ignis_http.call_host`, whose messages are those of the codec `ignis` and whose answers the
//! host puts where this guest's `malloc` says: `method`, `url` and the body of the request that came. Answers what came back; 502 where
//! nothing did.

use common::query;
use fd::{Request, Response};
use std::process::ExitCode;
use std::ptr::with_exposed_provenance;
use std::slice;

#[link(wasm_import_module = "ignis_http")]
unsafe extern "C" {
    /// An `FDRequest` in, the address of an `FDResponse` times 2^32 and its length out; 0 on failure.
    fn call_host(request: *const u8, request_len: usize) -> u64;
}

fn main() -> ExitCode {
    fd::main(|request| {
        let (_, query) = query::split(&request.uri);
        let headers = request.headers.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let message = Request {
            method: query.get("method").unwrap_or("GET").into(),
            uri: query.get("url").unwrap_or_default().into(),
            headers: headers.collect(),
            body: request.body,
        };
        let message = message.encode();
        // SAFETY: a buffer and its length.
        let answer = unsafe { call_host(message.as_ptr(), message.len()) };
        let (address, length) = ((answer >> 32) as usize, answer as u32 as usize);
        if address == 0 {
            return Response::text(502, "the host does not answer\n");
        }
        // SAFETY: the host wrote this many bytes at an address from our allocator, and nobody frees it.
        let answer = unsafe { slice::from_raw_parts(with_exposed_provenance(address), length) };
        Response::decode(answer).unwrap_or_else(|| Response::text(502, "the host's answer is damaged\n"))
    })
}
