//! A command whose answer is wrong in the way its argument or the query of the request says. Proves that no codec passes on what a client must not see.

use fd::{Headers, Request, Response};
use std::env;
use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;

/// More names than a map of fields has room for.
const FIELDS: usize = 25_000;

/// Of one field's value.
const LARGE_BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    let kind = env::args().nth(1).or_else(|| env::var("QUERY_STRING").ok()).or_else(query).unwrap_or_default();
    let Some(answer) = answer(&kind) else {
        eprintln!("no such answer: {kind}");
        return ExitCode::FAILURE;
    };
    match stdout().write_all(&answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Of the codec `ignis`.
fn query() -> Option<String> {
    let mut input = Vec::new();
    stdin().lock().read_to_end(&mut input).ok()?;
    Some(Request::decode(&input)?.uri.split_once('?')?.1.to_string())
}

fn answer(kind: &str) -> Option<Vec<u8>> {
    let header = |name: &str, value: &str| -> Headers { vec![(name.into(), value.into())] };
    let response = |status, headers| Response { status, headers, body: b"body".to_vec() }.encode();
    let whole = || response(200, header("X-Good", "yes"));
    Some(match kind {
        "ignis-damaged" => whole().iter().map(|byte| byte | 0x80).collect(),
        "ignis-cut" => whole()[..whole().len() - 2].to_vec(),
        "ignis-status" => response(1000, Headers::new()),
        "ignis-informational" => response(101, Headers::new()),
        "ignis-value" => response(200, header("X-Bad", "a\r\nX-Injected: b")),
        "ignis-name" => response(200, header("X-Bad: a\r\nX-Injected", "b")),
        "ignis-framing" => response(200, header("Transfer-Encoding", "chunked")),
        "ignis-fields" => response(200, (0..FIELDS).map(|n| (format!("X-{n}"), "1".into())).collect()),
        "ignis-large" => response(200, header("X-Large", &"x".repeat(LARGE_BYTES))),
        "cgi-status" => b"Status: 1000\n\nbody".to_vec(),
        "cgi-words" => b"Status: fine\n\nbody".to_vec(),
        "cgi-value" => b"X-Bad: a\rX-Injected: b\n\nbody".to_vec(),
        "cgi-name" => b"X Bad: a\n\nbody".to_vec(),
        "cgi-colon" => b"no field at all\n\nbody".to_vec(),
        "cgi-endless" => b"X-Good: yes\nX-Bad: a".to_vec(),
        "cgi-framing" => b"Content-Length: 100\n\nbody".to_vec(),
        "cgi-fields" => format!("Status: 200\n{}\nbody", (0..FIELDS).map(|n| format!("X-{n}: 1\n")).collect::<String>()).into(),
        "cgi-large" => format!("Status: 200\nConnection: {}\n\nbody", "a,".repeat(LARGE_BYTES / 2)).into(),
        _ => return None,
    })
}
