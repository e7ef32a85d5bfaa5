//! A client of HTTP/2: h2's own, told to wait no longer than a test may.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use testkit::DEADLINE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// One connection.
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    origin: String,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The fields in order of their names, but for the date.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let fields = self.headers.iter().filter(|(name, _)| *name != "date");
        let mut fields: Vec<_> =
            fields.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
        fields.sort();
        fields
    }
}

/// A request that was sent.
pub(crate) struct Sent {
    pub(crate) answer: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

impl Sent {
    /// The head of the answer; its body stays to be read.
    pub(crate) async fn head(self) -> (StatusCode, RecvStream, SendStream<Bytes>) {
        let answer = in_time(self.answer).await.expect("an answer");
        (answer.status(), answer.into_body(), self.body)
    }

    pub(crate) async fn whole(self) -> Result<Answer, h2::Error> {
        let (head, mut body) = in_time(self.answer).await?.into_parts();
        let mut answer = Answer { status: head.status.as_u16(), headers: head.headers, body: Vec::new(), trailers: None };
        while let Some(piece) = in_time(body.data()).await {
            answer.body.extend_from_slice(&take(&mut body, piece?));
        }
        answer.trailers = in_time(body.trailers()).await?;
        Ok(answer)
    }
}

impl Client {
    /// With prior knowledge.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with(address, &Builder::new()).await
    }

    pub(crate) async fn with(address: SocketAddr, builder: &Builder) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream, &format!("http://{address}"), builder).await
    }

    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        origin: &str,
        builder: &Builder,
    ) -> Self {
        let (sender, connection) = builder.handshake(stream).await.expect("a handshake");
        Self { sender, connection: tokio::spawn(connection), origin: origin.to_owned() }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.origin))
    }

    /// Sends a head. The body follows, unless it has ended.
    pub(crate) async fn send(&mut self, request: http::request::Builder, has_ended: bool) -> Sent {
        self.try_send(request, has_ended).await.expect("a request is taken")
    }

    pub(crate) async fn try_send(&mut self, request: http::request::Builder, has_ended: bool) -> Result<Sent, h2::Error> {
        let mut sender = in_time(self.sender.clone().ready()).await?;
        let (answer, body) = sender.send_request(request.body(()).expect("a request"), has_ended)?;
        Ok(Sent { answer, body })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(self.request("GET", path)).await
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(&mut self, request: http::request::Builder) -> Answer {
        self.send(request, true).await.whole().await.expect("a whole answer")
    }

    /// Sends a body and maybe trailers, and reads the answer meanwhile.
    pub(crate) async fn post(&mut self, path: &str, pieces: &[Bytes], trailers: Option<HeaderMap>) -> Answer {
        let Sent { answer, mut body } = self.send(self.request("POST", path), false).await;
        let pieces = pieces.to_vec();
        let writing = tokio::spawn(async move {
            for piece in pieces {
                write(&mut body, piece).await;
            }
            match trailers {
                Some(trailers) => body.send_trailers(trailers),
                None => body.send_data(Bytes::new(), true),
            }
        });
        let (answer, body) = in_time(answer).await.expect("an answer").into_parts();
        let answer = Answer { status: answer.status.as_u16(), headers: answer.headers, body: Vec::new(), trailers: None };
        let answer = read_rest(answer, body).await;
        in_time(writing).await.expect("no panic").expect("the end is taken");
        answer
    }

    /// How the server ended the connection: the reason of its GOAWAY, or none where it said no other than that all is well.
    pub(crate) async fn ended(self) -> Option<Reason> {
        drop(self.sender);
        in_time(self.connection).await.expect("no panic").err().and_then(|error| error.reason())
    }

    /// Whether it has.
    pub(crate) fn has_ended(&self) -> bool {
        self.connection.is_finished()
    }
}

async fn read_rest(mut answer: Answer, mut body: RecvStream) -> Answer {
    while let Some(piece) = in_time(body.data()).await {
        let piece = piece.expect("a whole body");
        answer.body.extend_from_slice(&take(&mut body, piece));
    }
    answer.trailers = in_time(body.trailers()).await.expect("a whole body");
    answer
}

/// Writes a piece as the window allows.
pub(crate) async fn write(body: &mut SendStream<Bytes>, mut piece: Bytes) {
    while !piece.is_empty() {
        body.reserve_capacity(piece.len());
        let room = in_time(std::future::poll_fn(|cx| body.poll_capacity(cx))).await.expect("open").expect("open");
        let room = room.min(piece.len());
        body.send_data(piece.split_to(room), false).expect("open");
    }
}

/// The next piece of a body; an empty frame, which may say that it ends, is none.
pub(crate) async fn read(body: &mut RecvStream) -> Option<Bytes> {
    loop {
        let piece = in_time(body.data()).await?.expect("a whole body");
        if !piece.is_empty() {
            return Some(take(body, piece));
        }
    }
}

/// Makes room for as much again.
fn take(body: &mut RecvStream, piece: Bytes) -> Bytes {
    body.flow_control().release_capacity(piece.len()).expect("it was taken");
    piece
}

pub(crate) async fn in_time<T>(wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, wanted).await.expect("in time")
}

/// Waits for a condition, with a pause between two looks.
pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !condition().await {
        assert!(std::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
