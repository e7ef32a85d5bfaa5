//! Talks to a server through the host function `ignis_socket.call_host`, whose messages are the JSON of `env.host_socket_operation` and whose
//! answers the host puts where this guest's `malloc` says: dials `address`, writes the body of the request, reads `size` bytes and closes.
//! With `dials=N` it opens N sockets, closes the first and opens one more, and answers a line for each. Proves the function, and how many
//! sockets there may be at once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::query::{self, Query};
use fd::Response;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::ptr::with_exposed_provenance;
use std::slice;

#[link(wasm_import_module = "ignis_socket")]
unsafe extern "C" {
    /// JSON in, the address of JSON times 2^32 and its length out; 0 on failure.
    fn call_host(request: *const u8, request_len: usize) -> u64;
}

fn main() -> ExitCode {
    fd::main(|request| {
        let (_, query) = query::split(&request.uri);
        let answer = match query.number("dials") {
            Some(count) => Ok(dials(&query, count).into_bytes()),
            None => talk(&query, &request.body),
        };
        match answer {
            Ok(read) => Response::text(200, read),
            Err(why) => Response::text(502, why),
        }
    })
}

/// One operation; what the host says is wrong with it.
fn operate(operation: &Value) -> Result<Value, String> {
    let message = operation.to_string();
    // SAFETY: a buffer and its length.
    let answer = unsafe { call_host(message.as_ptr(), message.len()) };
    let (address, length) = ((answer >> 32) as usize, answer as u32 as usize);
    if address == 0 {
        return Err("the host does not answer\n".into());
    }
    // SAFETY: the host wrote this many bytes at an address from our allocator, and nobody frees it.
    let answer = unsafe { slice::from_raw_parts(with_exposed_provenance::<u8>(address), length) };
    let answer: Value = serde_json::from_slice(answer).map_err(|_| "the host's answer is damaged\n".to_string())?;
    match answer.get("error") {
        Some(error) => Err(format!("error: {}\n", error.as_str().unwrap_or_default())),
        None => Ok(answer),
    }
}

fn dial(query: &Query) -> Result<u64, String> {
    let address = query.get("address").unwrap_or_default();
    let answer = operate(&json!({ "operation": "dial", "network": "tcp", "address": address }))?;
    answer["fd"].as_u64().ok_or_else(|| "no descriptor\n".into())
}

fn talk(query: &Query, body: &[u8]) -> Result<Vec<u8>, String> {
    let fd = dial(query)?;
    let sent = operate(&json!({ "operation": "write", "fd": fd, "data": STANDARD.encode(body) }))?;
    if sent["bytes_sent"].as_u64() != Some(body.len() as u64) {
        return Err(format!("not all was sent: {sent}\n"));
    }
    let size = query.number("size").unwrap_or(1) as usize;
    let mut read = Vec::new();
    while read.len() < size {
        let answer = operate(&json!({ "operation": "read", "fd": fd, "size": size - read.len() }))?;
        read.extend(answer["data"].as_str().and_then(|data| STANDARD.decode(data).ok()).unwrap_or_default());
    }
    operate(&json!({ "operation": "close", "fd": fd }))?;
    Ok(read)
}

fn dials(query: &Query, count: u64) -> String {
    let mut opened: Vec<Result<u64, String>> = (0..count).map(|_| dial(query)).collect();
    if let Some(Ok(first)) = opened.first() {
        let closed = operate(&json!({ "operation": "close", "fd": first }));
        opened.push(closed.and_then(|_| dial(query)));
    }
    opened.iter().map(|socket| if socket.is_ok() { "open\n" } else { "refused\n" }).collect()
}
