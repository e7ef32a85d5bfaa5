//! HTTP/1.1: a connection that is kept, and opened again where the server or this client ended it.

use super::{Options, Verdict};
use crate::answer::{self, Broken, Head};
use crate::check::{self, Check, PIECE_BYTES};
use crate::{SENT_BACK, answer::count_fields};
use bytes::{Buf, BytesMut};
use std::io::{Error, Result};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// One lane.
pub(super) struct Connection {
    options: Arc<Options>,
    stream: Option<TcpStream>,
    /// What was read ahead.
    buffer: BytesMut,
    fields: String,
}

impl Connection {
    pub(super) async fn open(options: &Arc<Options>) -> Result<Self> {
        let numbered = (0..options.fields).map(|index| format!("{SENT_BACK}{index}: value-{index}"));
        let fields = numbered.chain(options.field.clone()).map(|field| field + "\r\n").collect();
        // Who leaves after each request begins each with a connection.
        let stream = if options.leave.is_some() { None } else { Some(connect(&options.address).await?) };
        Ok(Self { options: Arc::clone(options), stream, buffer: BytesMut::with_capacity(4096), fields })
    }

    /// Sends one request and reads its answer. After an error the next one has a new connection.
    pub(super) async fn ask(&mut self, target: &str) -> Result<Verdict> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.buffer.clear();
                connect(&self.options.address).await?
            }
        };
        let head = self.request(target);
        if let Some(leave) = self.options.leave {
            stream.write_all(head.as_bytes()).await?;
            tokio::time::sleep(leave).await;
            // A reset: an orderly end would keep the port for a minute, and a storm would run out of them.
            stream.set_zero_linger()?;
            return Ok(Verdict::Left);
        }
        let (mut from, mut to) = stream.split();
        let (verdict, close) = match self.options.body {
            None => {
                to.write_all(head.as_bytes()).await?;
                read(&self.options, &mut from, &mut self.buffer).await?
            }
            // A server that echoes answers before it has all: who only sends waits for ever.
            Some(length) => tokio::select! {
                answer = read(&self.options, &mut from, &mut self.buffer) => answer?,
                error = send(&mut to, &head, length) => return Err(error),
            },
        };
        if !close {
            self.stream = Some(stream);
        }
        Ok(verdict)
    }

    fn request(&self, target: &str) -> String {
        let Self { options, fields, .. } = self;
        let address = &options.address;
        match options.body {
            None => format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n"),
            Some(length) => {
                format!("POST {target} HTTP/1.1\r\nhost: {address}\r\n{fields}content-length: {length}\r\n\r\n")
            }
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends head and body; returns only where that fails, since it is the answer that ends a request.
async fn send(to: &mut WriteHalf<'_>, head: &str, length: u64) -> Error {
    let mut sent = 0;
    let mut result = to.write_all(head.as_bytes()).await;
    while result.is_ok() && sent < length {
        let now = (length - sent).min(PIECE_BYTES as u64) as usize;
        result = to.write_all(&check::pattern(sent)[..now]).await;
        sent += now as u64;
    }
    match result {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

/// The next answer, and whether the server closes the connection behind it.
async fn read(options: &Options, from: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> Result<(Verdict, bool)> {
    let not_http = |Broken| Error::other("not HTTP");
    let Head { status, mut body, close, length } = loop {
        match answer::head(buffer).map_err(not_http)? {
            Some(head) => break head,
            None => more(from, buffer).await?,
        }
    };
    let fields = if options.fields > 0 { count_fields(&buffer[..length], SENT_BACK) } else { 0 };
    buffer.advance(length);
    let mut check = Check::new(&options.expect);
    loop {
        let used = body.take(buffer, |piece| check.feed(piece)).map_err(not_http)?;
        buffer.advance(used);
        if body.is_whole() {
            break;
        }
        // Long bodies in long pieces: this program shall not be what is measured.
        buffer.reserve(if options.body.is_some() { 4 * PIECE_BYTES } else { 0 });
        more(from, buffer).await?;
    }
    Ok((options.judge(status, fields, check), close))
}

async fn more(from: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> Result<()> {
    buffer.reserve(4096);
    match from.read_buf(buffer).await? {
        0 => Err(Error::other("closed in the middle of an answer")),
        _ => Ok(()),
    }
}

impl Options {
    /// Whether a whole answer is the right one.
    pub(super) fn judge(&self, status: u16, fields: usize, check: Check<'_>) -> Verdict {
        if self.refused == Some(status) {
            return Verdict::Refused;
        }
        match check.end() {
            _ if status != self.status => Verdict::Wrong(format!("status {status}")),
            Err(what) => Verdict::Wrong(what),
            Ok(()) if fields != self.fields => Verdict::Wrong(format!("{fields} of {} fields", self.fields)),
            Ok(()) => Verdict::Right,
        }
    }
}
