//! Answers every request with `Hello from Fornax!` over WASI 0.3: an asynchronous handler that returns the response first and
//! writes the body afterwards.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

struct Hello;

wasip3::http::service::export!(Hello);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::from_list(&[("content-type".into(), b"text/plain".to_vec())]).unwrap();
        let (mut writer, body) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body), trailers);
        wasip3::spawn(async move {
            writer.write_all(b"Hello from Fornax!\n".to_vec()).await;
        });
        Ok(response)
    }
}
