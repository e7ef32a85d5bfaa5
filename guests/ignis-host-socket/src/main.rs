//! Talks to a server through the host function `env.host_socket_operation`: dials `address`, writes the body of the request, reads until
//! the other side closes or `size` bytes are there, and closes; `room` is the size of the buffer for answers. Answers what was read; with `steps` what the host said to each step, as
//! lines of JSON. `fd` reads from a descriptor this guest never opened, `raw` sends a message as it is. Proves the function, and that a
//! socket belongs to the instance that opened it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::query::{self, Query};
use fd::Response;
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// Of the buffer for answers, where `room` says nothing: base64 of what is read at once, and some more.
const ROOM_BYTES: usize = 128 << 10;

/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// Read in all, where `size` says nothing.
const SIZE_BYTES: u64 = 1 << 20;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// JSON in, JSON out; returns the length of what was written, 0 on failure or where it does not fit.
    fn host_socket_operation(request: *const u8, request_len: usize, answer: *mut u8, answer_len: usize) -> i32;
}

fn main() -> ExitCode {
    fd::main(|request| {
        let (_, query) = query::split(&request.uri);
        let room = query.number("room").map_or(ROOM_BYTES, |room| room as usize);
        let mut steps = Steps { said: String::new(), room };
        let read = talk(&query, &request.body, &mut steps);
        match read {
            _ if query.get("steps").is_some() => Response::text(200, steps.said),
            Some(read) => Response::text(200, read),
            None => Response::text(502, steps.said),
        }
    })
}

/// What was read; none where a step failed.
fn talk(query: &Query, body: &[u8], steps: &mut Steps) -> Option<Vec<u8>> {
    if let Some(raw) = query.get("raw") {
        steps.take(raw)?;
        return Some(Vec::new());
    }
    if let Some(fd) = query.number("fd") {
        steps.take(&json!({ "operation": "read", "fd": fd, "size": 1 }).to_string())?;
        return Some(Vec::new());
    }
    let address = query.get("address").unwrap_or_default();
    let fd = steps.take(&json!({ "operation": "dial", "network": "tcp", "address": address }).to_string())?["fd"].as_u64()?;
    let mut rest = body;
    while !rest.is_empty() {
        let write = json!({ "operation": "write", "fd": fd, "data": STANDARD.encode(rest) });
        let sent = steps.take(&write.to_string())?["bytes_sent"].as_u64()?;
        rest = rest.get(usize::try_from(sent).ok().filter(|sent| *sent > 0)?..)?;
    }
    let size = query.number("size").unwrap_or(SIZE_BYTES) as usize;
    let mut read = Vec::new();
    while read.len() < size {
        let wanted = READ_BYTES.min(size - read.len());
        let answer = steps.ask(&json!({ "operation": "read", "fd": fd, "size": wanted }).to_string())?;
        match answer["error"].as_str() {
            Some("EOF") => break,
            Some(_) => return None,
            None => read.extend(STANDARD.decode(answer["data"].as_str()?).ok()?),
        }
    }
    steps.take(&json!({ "operation": "close", "fd": fd }).to_string())?;
    Some(read)
}

/// A conversation with the host.
struct Steps {
    /// What the host said so far, a line each.
    said: String,
    /// Of the buffer for answers.
    room: usize,
}

impl Steps {
    /// One operation; none where the host says that it failed.
    fn take(&mut self, operation: &str) -> Option<Value> {
        self.ask(operation).filter(|answer| answer.get("error").is_none())
    }

    /// One operation; none where the host says nothing.
    fn ask(&mut self, operation: &str) -> Option<Value> {
        let mut answer = vec![0; self.room];
        // SAFETY: both are buffers of the lengths that are given.
        let length = unsafe { host_socket_operation(operation.as_ptr(), operation.len(), answer.as_mut_ptr(), answer.len()) };
        let answer = usize::try_from(length).ok().and_then(|length| answer.get(..length)).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(self.said, "{}", String::from_utf8_lossy(answer));
        serde_json::from_slice(answer).ok()
    }
}
