//! Sends the request's body back, and then its trailers, over WASI 0.3. The host's own stream is handed back to it; with `?copy` in
//! the query the guest reads and writes every chunk itself. Headers as in `echo`.

use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::wit_stream;

struct Echo;

wasip3::http::service::export!(Echo);

impl wasip3::exports::http::handler::Guest for Echo {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let headers = headers(&request);
        let target = http03::target(&request);
        let (_, query) = common::query::split(&target);
        let (input, trailers) = http03::body(request);
        if query.get("copy").is_none() {
            return Ok(http03::response(200, &headers, input, trailers));
        }
        let (writer, output) = wit_stream::new();
        wasip3::spawn(http03::copy(input, writer));
        Ok(http03::response(200, &headers, output, trailers))
    }
}

fn headers(request: &Request) -> Vec<(String, Vec<u8>)> {
    let sent = request.get_headers();
    // `trailer` too: HTTP/1.1 servers send only the trailers that were announced.
    let mut copied = vec!["content-type", "trailer"];
    if sent.has("x-length") {
        copied.push("content-length");
    }
    let mut headers: Vec<(String, Vec<u8>)> =
        copied.iter().flat_map(|name| sent.get(name).into_iter().map(|value| (name.to_string(), value))).collect();
    headers.push(("x-method".into(), http03::method(request).into()));
    headers.push(("x-path".into(), http03::target(request).into()));
    headers
}
