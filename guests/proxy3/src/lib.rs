//! Fetches the URL in `?url=` over `wasi:http/client@0.3.0`; everything else as in `proxy`. Proves outgoing calls of a WASI 0.3 guest;
//! bodies and trailers are handed from one side to the other without being read.

use common::query::{self, Query};
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use wasip3::wit_future;

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

struct Proxy;

wasip3::http::service::export!(Proxy);

impl wasip3::exports::http::handler::Guest for Proxy {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = http03::target(&request);
        let (_, query) = query::split(&target);
        if let Some(count) = query.number("hold") {
            return Ok(http03::text(200, held(&query, count).await.as_bytes()));
        }
        match fetch(request, &query).await {
            Ok(answer) => Ok(pass_on(answer)),
            Err(code) => {
                let name = common::error_code_name(&format!("{code:?}"));
                Ok(http03::text(502, format!("{name}\n").as_bytes()))
            }
        }
    }
}

/// What became of so many requests whose answers are held, and of one more when they are gone.
async fn held(query: &Query, count: u64) -> String {
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(get(query).await);
    }
    let mut text: String = answers.iter().map(told).collect();
    drop(answers);
    text.push_str(&told(&get(query).await));
    text
}

async fn get(query: &Query) -> Result<Response, ErrorCode> {
    let request = Request::new(Fields::new(), None, http03::no_trailers(), None).0;
    fetch(request, query).await
}

fn told(answer: &Result<Response, ErrorCode>) -> String {
    match answer {
        Ok(answer) => format!("{}\n", answer.get_status_code()),
        Err(code) => format!("{}\n", common::error_code_name(&format!("{code:?}"))),
    }
}

async fn fetch(request: Request, query: &Query) -> Result<Response, ErrorCode> {
    let url = query.get("url").unwrap_or_default();
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let method = request.get_method();

    let headers = Fields::new();
    headers.set("x-test", &request.get_headers().get("x-test")).map_err(|_| ErrorCode::HttpRequestDenied)?;
    let (body, trailers) = if matches!(method, Method::Post) {
        let (body, trailers) = http03::body(request);
        (Some(body), trailers)
    } else {
        (None, http03::no_trailers())
    };
    let (upstream, _sent) = Request::new(headers, body, trailers, Some(options(query)));
    upstream.set_method(&method).map_err(|()| ErrorCode::HttpRequestMethodInvalid)?;
    upstream.set_scheme(Some(&scheme)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    upstream.set_authority(Some(authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    upstream.set_path_with_query(Some(&path)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    client::send(upstream).await
}

fn options(query: &Query) -> RequestOptions {
    let options = RequestOptions::new();
    // A host without timeouts may say so; the call is then made without.
    let _ = options.set_connect_timeout(query.number("connect_ms").map(|ms| ms * MS));
    let _ = options.set_first_byte_timeout(query.number("first_byte_ms").map(|ms| ms * MS));
    let _ = options.set_between_bytes_timeout(query.number("between_ms").map(|ms| ms * MS));
    options
}

fn pass_on(answer: Response) -> Response {
    let status = answer.get_status_code();
    let values = answer.get_headers().get("content-type");
    let headers: Vec<_> = values.into_iter().map(|value| ("content-type".to_string(), value)).collect();
    let (body, trailers) = Response::consume_body(answer, wit_future::new(|| Ok(())).1);
    http03::response(status, &headers, body, trailers)
}
