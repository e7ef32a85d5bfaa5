//! Sends a request through the host function `env.host_http_request`: `method`, `url`, headers `header=NAME:VALUE` and the body of the
//! request that came. Answers, as JSON, what came back; `room` is the length of the buffer for it. Proves the function, its failures, and
//! with `raw` and the addresses in `at` and `to` that a hostile pointer reaches nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::query;
use fd::{Request, Response};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Of the buffer for the answer, where `room` says nothing.
const ROOM_BYTES: u64 = 64 << 10;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// JSON in, JSON out; returns the length of what was written, 0 on failure or where it does not fit.
    fn host_http_request(request: usize, request_len: usize, answer: usize, answer_len: usize) -> i32;
}

fn main() -> ExitCode {
    fd::main(|request| {
        let answer = ask(&request);
        Response {
            headers: vec![("Content-Type".into(), "application/json".into())],
            ..Response::text(200, format!("{answer}\n"))
        }
    })
}

fn ask(request: &Request) -> Value {
    let (_, query) = query::split(&request.uri);
    let number = |key: &str, default: u64| query.number(key).unwrap_or(default) as usize;
    let mut headers = serde_json::Map::new();
    if let Some((name, value)) = query.get("header").and_then(|header| header.split_once(':')) {
        headers.insert(name.into(), json!([value]));
    }
    let message = match query.get("raw") {
        Some(raw) => raw.to_string(),
        None => json!({
            "method": query.get("method").unwrap_or("GET"),
            "url": query.get("url").unwrap_or_default(),
            "headers": headers,
            "body": STANDARD.encode(&request.body),
        })
        .to_string(),
    };
    let mut answer = vec![0; number("room", ROOM_BYTES)];
    let at = number("at", message.as_ptr().addr() as u64);
    let to = number("to", answer.as_mut_ptr().expose_provenance() as u64);
    // SAFETY: without `at` and `to` both are buffers of the lengths that are given; with them it is the host that has to refuse, and
    // this guest hands out nothing but its own memory.
    let length = unsafe { host_http_request(at, message.len(), to, answer.len()) };
    let Ok(length @ 1..) = usize::try_from(length) else { return json!({ "failed": true }) };
    let Some(Ok(mut answer)) = answer.get(..length).map(serde_json::from_slice::<Value>) else {
        return json!({ "damaged": length });
    };
    let body = answer["body"].as_str().and_then(|body| STANDARD.decode(body).ok());
    answer["body"] = body.map_or(Value::Null, |body| String::from_utf8_lossy(&body).into());
    answer
}
