//! HTTP/2 without TLS, begun by its preface: some connections, and on each some streams at once.

use super::{Options, Verdict};
use crate::check::Check;
use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::Request;
use std::io::{Error, Result};
use std::sync::Arc;
use tokio::net::TcpStream;

/// One lane.
pub(super) struct Stream {
    options: Arc<Options>,
    sender: SendRequest<Bytes>,
}

/// The lanes of one connection. Only small answers without fields of their own are asked for.
pub(super) async fn connect(options: &Arc<Options>, streams: u32) -> Result<Vec<Stream>> {
    let stream = TcpStream::connect(&options.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::handshake(stream).await.map_err(Error::other)?;
    // When it breaks, its streams say so.
    tokio::spawn(async { drop(connection.await) });
    Ok((0..streams).map(|_| Stream { options: Arc::clone(options), sender: sender.clone() }).collect())
}

impl Stream {
    pub(super) async fn ask(&mut self, target: &str) -> Result<Verdict> {
        let uri = format!("http://{}{target}", self.options.address);
        let request = Request::get(uri).body(()).map_err(Error::other)?;
        let mut sender = self.sender.clone().ready().await.map_err(Error::other)?;
        let (answer, _) = sender.send_request(request, true).map_err(Error::other)?;
        let (head, mut body) = answer.await.map_err(Error::other)?.into_parts();
        let mut check = Check::new(&self.options.expect);
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(Error::other)?;
            check.feed(&piece);
            body.flow_control().release_capacity(piece.len()).map_err(Error::other)?;
        }
        Ok(self.options.judge(head.status.as_u16(), 0, check))
    }
}
