//! Asks at times of its own, or as fast as it is answered.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Any answer: longer than waiting for a place and for a core together.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) status: u16,
    pub(crate) says_when: bool,
}

/// Connections that are kept from request to request; as many as there are requests at once.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    request: Rc<str>,
    idle: Rc<RefCell<Vec<TcpStream>>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").into();
        Self { address, request, idle: Rc::default() }
    }

    pub(crate) async fn ask(&self) -> Answer {
        let began = Instant::now();
        let (status, says_when) = timeout(PATIENCE, self.exchange()).await.expect("an answer in time").expect("an answer");
        Answer { at: Instant::now(), took: began.elapsed(), status, says_when }
    }

    pub(crate) async fn exchange(&self) -> std::io::Result<(u16, bool)> {
        let kept = self.idle.borrow_mut().pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await?,
        };
        stream.write_all(self.request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let length = field("content-length: ").and_then(|length| length.parse().ok());
            if length.map_or(!body.ends_with("0\r\n\r\n"), |length: usize| body.len() < length) {
                continue;
            }
            let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
            let says_when = field("retry-after: ").is_some_and(|seconds| seconds.parse::<u32>().is_ok());
            self.idle.borrow_mut().push(stream);
            return Ok((status, says_when));
        }
    }

    /// As many at once, each after the other, for so long; the number of good answers a second.
    pub(crate) async fn peak(&self, at_once: usize, duration: Duration) -> f64 {
        let end = Instant::now() + duration;
        let mut lanes = JoinSet::new();
        for _ in 0..at_once {
            let client = self.clone();
            lanes.spawn_local(async move {
                let mut good = 0_u32;
                while Instant::now() < end {
                    good += u32::from(client.ask().await.status == 200);
                }
                good
            });
        }
        let began = Instant::now();
        let good: u32 = lanes.join_all().await.into_iter().sum();
        f64::from(good) / began.elapsed().as_secs_f64()
    }

    /// So many a second for so long, whatever comes back.
    pub(crate) async fn offer(&self, rate: f64, duration: Duration) -> Vec<Answer> {
        let (began, mut sent, mut requests) = (Instant::now(), 0_u32, JoinSet::new());
        while began.elapsed() < duration {
            sleep_until(began + Duration::from_secs_f64(f64::from(sent) / rate)).await;
            let client = self.clone();
            requests.spawn_local(async move { client.ask().await });
            sent += 1;
        }
        requests.join_all().await
    }
}
