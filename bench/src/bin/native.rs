//! The floor of the comparison: hyper on one thread, the bytes and headers of the hello guests, and what else scenarios ask a guest for.

use bench::{HELLO, SENT_BACK, spin};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request)) });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A client that leaves is no news.
        tokio::spawn(async { drop(connection.await) });
    }
}

type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// The hello at every path but those of other scenarios.
fn answer(request: Request<Incoming>) -> Answer {
    match request.uri().path() {
        "/echo" => Response::new(Either::Right(request.into_body())),
        "/headers" => {
            let mut response = text(HELLO);
            let sent = request.headers().iter().filter(|(name, _)| name.as_str().starts_with(SENT_BACK));
            response.headers_mut().extend(sent.map(|(name, value)| (name.clone(), value.clone())));
            response
        }
        "/spin" => {
            let rounds = request.uri().query().and_then(|query| query.strip_prefix("rounds=")?.parse().ok());
            text(format!("{:016x}\n", spin(rounds.unwrap_or(0))))
        }
        _ => text(HELLO),
    }
}

fn text(body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}
