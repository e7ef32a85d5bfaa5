//! Answers every request with `Hello from Fornax!`. Proves that a guest written with the `wstd` crate, the common way to write
//! one for WASI 0.2, runs unchanged.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(_request: Request<Body>) -> Result<Response<Body>, Error> {
    Ok(Response::builder().header("content-type", "text/plain").body("Hello from Fornax!\n".into())?)
}
