//! The only place where an [`Error`] becomes a response.
//!
//! The body is JSON with a stable `type`, a sentence and the request's id; everything else that is known goes to the log
//! under the same id. No path, address or backtrace leaves the process.

use std::borrow::Cow;

use base::{Body, Error, RequestId};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// The response for `error`, which is logged and counted by the caller.
pub(crate) fn error_response(error: &Error, id: RequestId) -> Response<Body> {
    let body = format!(r#"{{"type":"{}","message":"{}","request":"{id}"}}"#, error.kind.name(), json_text(&error.external),);
    let mut response = Response::new(Body::Full(Bytes::from(body + "\n")));
    *response.status_mut() = StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A JSON string's inside.
pub(crate) fn json_text(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c == '"' || c == '\\' || c.is_control()) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push_str(&format!("\\u{:04x}", c as u32)),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use base::Kind;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_error_is_json_without_what_is_internal() {
        let error = Error::new(Kind::Overloaded, "say \"when\"\n").internal("/secret/path").retry_after(3);
        let id = RequestId::next();
        let response = error_response(&error, id);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
        let body = response.into_body().collect().await.expect("a full body").to_bytes();
        let expected = format!("{{\"type\":\"overloaded\",\"message\":\"say \\\"when\\\"\\u000a\",\"request\":\"{id}\"}}\n");
        assert_eq!(body, expected);
    }
}
