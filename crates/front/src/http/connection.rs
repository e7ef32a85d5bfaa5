//! One connection, from accept to its end: TLS where it is asked for, which protocol, and that protocol.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{error, io};

use base::ClientLimits;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::http::clock::{Clock, Phase};
use crate::http::http2;
use crate::http::io::{Protocol, Socket};
use crate::http::service::Service;
use crate::http::transport::Transport;

/// When the server drains: how long a connection that is between requests is still read. What a client sent before it
/// could know arrives by then.
const LAST_REQUEST: Duration = Duration::from_millis(100);
const LAST_REQUEST_POLL: Duration = Duration::from_millis(5);

/// hyper's least: it panics below.
const HEAD_BYTES_MIN: u32 = 8 << 10;

/// Bytes of a request head.
pub(super) fn head_bytes_max(limits: &ClientLimits) -> u32 {
    limits.target_bytes.saturating_add(limits.fields_bytes).max(HEAD_BYTES_MIN)
}

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: std::net::TcpStream,
    client: SocketAddr,
    service: Arc<Service>,
    mut draining: watch::Receiver<bool>,
) {
    let clock = Arc::new(Clock::new(client, service.options.tls.is_some(), service.options.clients));
    let opened = tokio::select! {
        opened = open(stream, &clock, &service) => opened,
        () = no_request_in_time(&mut draining, &clock) => return,
    };
    let ended = match opened {
        Ok((socket, Protocol::Http1)) => {
            serve_http1(socket, &clock, &service, draining).await.map_err(|error| with_cause(&error))
        }
        // Boxed: connections of HTTP/1 do not carry the room for it.
        Ok((socket, Protocol::Http2)) => {
            Box::pin(http2::serve(socket, &clock, &service, draining)).await.map_err(|error| with_cause(&error))
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = ended {
        // The client left, was too slow, or did not speak HTTP: all its own business.
        tracing::info!(target: "fornax::client", error, "a connection ended");
    }
}

/// Agrees on TLS and on a protocol.
async fn open(stream: std::net::TcpStream, clock: &Arc<Clock>, service: &Service) -> io::Result<(Socket, Protocol)> {
    let stream = TcpStream::from_std(stream)?;
    // Answers leave in one write; waiting for more would only delay them. An error here means the peer is gone.
    let _ = stream.set_nodelay(true);
    let transport = match &service.options.tls {
        None => Transport::Plain(stream),
        // Boxed, as what is kept of it is: only connections with TLS pay for its size.
        Some(tls) => {
            let agreed = tokio::time::timeout(clock.limits().first_byte, Box::pin(tls.accept(stream)));
            Transport::Tls(Box::new(agreed.await??))
        }
    };
    let mut socket = Socket::new(transport, Arc::clone(clock));
    let protocol = socket.protocol().await?;
    Ok((socket, protocol))
}

async fn serve_http1(
    socket: Socket,
    clock: &Arc<Clock>,
    service: &Arc<Service>,
    mut draining: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let connection = http1::Builder::new()
        .max_headers(clock.limits().fields as usize)
        .max_buf_size(head_bytes_max(clock.limits()) as usize)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service_fn(|request| Service::begin(service, clock, request)));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        // A request that is on its way is answered; hyper would close a connection that has read none of it.
        () = no_request_in_time(&mut draining, clock) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Returns once the server drains and a connection without a request was given the time for one.
async fn no_request_in_time(draining: &mut watch::Receiver<bool>, clock: &Clock) {
    told_to_end(draining).await;
    let end = Instant::now() + LAST_REQUEST;
    while clock.phase() != Phase::Busy && Instant::now() < end {
        tokio::time::sleep(LAST_REQUEST_POLL).await;
    }
}

/// Returns once the server drains. One that is dropped counts as well.
pub(super) fn told_to_end(draining: &mut watch::Receiver<bool>) -> impl Future<Output = ()> {
    let told = draining.wait_for(|draining| *draining);
    async { drop(told.await) }
}

fn with_cause(error: &hyper::Error) -> String {
    match error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
