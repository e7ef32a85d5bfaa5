//! Fetches the URL in `?url=`, with the request's method and, for a POST, its body, and sends status, type and body of the answer back.
//! `connect_ms`, `first_byte_ms` and `between_ms` set the timeouts of WASI; a failure is 502 with the name of the error code. With `hold=N` it
//! makes N requests and holds their answers, lets go of them and makes one more, and answers a line for each. Proves outgoing calls of a
//! WASI 0.2 guest: permission, timeouts, streaming both ways, how many at once.

use common::query;
use std::time::Duration;
use wstd::http::{Body, Client, Error, Method, Request, Response, StatusCode, error::ErrorCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_string();
    let (_, query) = query::split(&target);
    if let Some(count) = query.number("hold") {
        return Ok(Response::new(held(&query, count).await.into()));
    }
    match fetch(request, &query).await {
        Ok(answer) => Ok(answer),
        Err(error) => Ok(Response::builder()
            .status(StatusCode::BAD_GATEWAY)
            .header("content-type", "text/plain")
            .body(format!("{}\n", name(&error)).into())?),
    }
}

fn name(error: &Error) -> String {
    match error.downcast_ref::<ErrorCode>() {
        Some(code) => common::error_code_name(&format!("{code:?}")),
        None => format!("{error:#}"),
    }
}

/// What became of so many requests whose answers are held, and of one more when they are gone.
async fn held(query: &query::Query, count: u64) -> String {
    let get = || fetch(Request::new(Body::empty()), query);
    let told = |answer: &Result<Response<Body>, Error>| match answer {
        Ok(answer) => format!("{}\n", answer.status().as_u16()),
        Err(error) => format!("{}\n", name(error)),
    };
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(get().await);
    }
    let mut text: String = answers.iter().map(told).collect();
    drop(answers);
    text.push_str(&told(&get().await));
    text
}

async fn fetch(request: Request<Body>, query: &query::Query) -> Result<Response<Body>, Error> {
    let mut client = Client::new();
    if let Some(ms) = query.number("connect_ms") {
        client.set_connect_timeout(Duration::from_millis(ms));
    }
    if let Some(ms) = query.number("first_byte_ms") {
        client.set_first_byte_timeout(Duration::from_millis(ms));
    }
    if let Some(ms) = query.number("between_ms") {
        client.set_between_bytes_timeout(Duration::from_millis(ms));
    }
    let mut upstream = Request::builder().method(request.method()).uri(query.get("url").unwrap_or_default());
    if let Some(value) = request.headers().get("x-test") {
        upstream = upstream.header("x-test", value);
    }
    let body = if request.method() == Method::POST { request.into_body() } else { Body::empty() };
    let answer = client.send(upstream.body(body)?).await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(value) = answer.headers().get("content-type") {
        response = response.header("content-type", value);
    }
    Ok(response.body(answer.into_body())?)
}
