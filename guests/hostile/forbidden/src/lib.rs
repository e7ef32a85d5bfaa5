//! Tries to set headers that are the connection's and not the guest's, and values that would split a head; answers what the host said
//! to each, one a line. Proves that no guest can smuggle.

use wasip2::http::types::{Fields, HeaderError, IncomingRequest, ResponseOutparam};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let lines: String =
            ATTEMPTS.iter().map(|(name, value)| format!("{name:?} {value:?}: {}\n", attempt(name, value))).collect();
        http02::text(out, 200, lines.as_bytes());
    }
}

const ATTEMPTS: &[(&str, &str)] = &[
    ("connection", "close"),
    ("Connection", "close"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "websocket"),
    ("host", "example.com"),
    ("http2-settings", "AAMAAABkAAQAAP__"),
    ("x-split", "a\r\nset-cookie: evil=1"),
    ("x-line", "a\nb"),
    ("x-return", "a\rb"),
    ("x-nul", "a\0b"),
    ("x bad name", "a"),
    ("x-bad\r\nname", "a"),
    ("", "a"),
    ("x-fine", "a"),
];

fn attempt(name: &str, value: &str) -> &'static str {
    match Fields::new().append(name, value.as_bytes()) {
        Ok(()) => "ok",
        Err(HeaderError::InvalidSyntax) => "invalid-syntax",
        Err(HeaderError::Forbidden) => "forbidden",
        Err(HeaderError::Immutable) => "immutable",
    }
}
