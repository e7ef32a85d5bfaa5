//! A server for guests to call.
//!
//! | path | answers |
//! | --- | --- |
//! | `/ok` | `ok` and a newline |
//! | `/slow?ms=N` | `slow` and a newline, after N ms |
//! | `/echo` | the body, each piece as it comes, and its type |
//! | `/sink` | `N bytes` and a newline, when the body is there |
//! | `/stream?chunks=N&ms=M` | N lines `chunk I`, M ms before each but the first |
//! | `/status?code=N` | that status, and `status N` |
//! | `/redirect?to=PATH` | 302 |
//! | `/hang` | nothing, until the server ends |
//!
//! Everything else is 404. Sleeping is what its slow paths are for; no test waits by it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::DEADLINE;
use crate::wire::{self, Fields, field};

/// What an upstream was asked.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Every field, names in lower case.
    pub headers: Fields,
    /// As much of the body as came.
    pub body: Vec<u8>,
}

/// A server on a free port of the loopback address. Ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    connections: AtomicUsize,
    /// Those still open, to be closed at the end.
    streams: Mutex<Vec<TcpStream>>,
    requests: Mutex<Vec<Recorded>>,
}

impl Upstream {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stopped.load(SeqCst) {
                    return;
                }
                serving.accept(stream);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked so far, in order; a body is there when its request has been answered.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often it was connected to.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        // Wakes the accept; if it fails, nobody is accepting.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for stream in self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, stream: TcpStream) {
        self.connections.fetch_add(1, SeqCst);
        let Ok(second) = stream.try_clone() else { return };
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(second);
        let shared = Arc::clone(self);
        thread::spawn(move || {
            // The client's end of it is what the test looks at.
            let _ = shared.serve(stream);
        });
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut to = stream.try_clone()?;
        let mut from = BufReader::new(stream);
        while let Some((start, headers)) = wire::read_head(&mut from)? {
            let mut words = start.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let index = {
                let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
                let (method, target) = (method.to_owned(), target.to_owned());
                requests.push(Recorded { method, target, headers: headers.clone(), body: Vec::new() });
                requests.len() - 1
            };
            let mut pieces = Pieces { from: &mut from, left: Left::of(&headers), shared: self, index };
            answer(target, &headers, &mut pieces, &mut to)?;
            while pieces.next()?.is_some() {}
        }
        Ok(())
    }
}

fn answer(target: &str, headers: &Fields, body: &mut Pieces<'_, impl BufRead>, to: &mut impl Write) -> io::Result<()> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str| text(key).and_then(|value| value.parse().ok());
    match path {
        "/ok" => whole(to, "200 OK", "", "ok\n"),
        "/slow" => {
            thread::sleep(Duration::from_millis(number("ms").unwrap_or(100)));
            whole(to, "200 OK", "", "slow\n")
        }
        "/echo" => {
            let kind = field(headers, "content-type").unwrap_or("application/octet-stream");
            chunked_head(to, kind)?;
            while let Some(piece) = body.next()? {
                to.write_all(&wire::chunk(&piece))?;
            }
            to.write_all(b"0\r\n\r\n")
        }
        "/sink" => {
            let mut bytes = 0;
            while let Some(piece) = body.next()? {
                bytes += piece.len();
            }
            whole(to, "200 OK", "", &format!("{bytes} bytes\n"))
        }
        "/stream" => {
            chunked_head(to, "text/plain")?;
            for index in 0..number("chunks").unwrap_or(3) {
                if index > 0 {
                    thread::sleep(Duration::from_millis(number("ms").unwrap_or(0)));
                }
                to.write_all(&wire::chunk(format!("chunk {index}\n").as_bytes()))?;
            }
            to.write_all(b"0\r\n\r\n")
        }
        "/status" => {
            let code = number("code").unwrap_or(200);
            whole(to, &format!("{code} Status"), "", &format!("status {code}\n"))
        }
        "/redirect" => whole(to, "302 Found", &format!("location: {}\r\n", text("to").unwrap_or("/ok")), "elsewhere\n"),
        "/hang" => {
            // Returns when the client gives up or the server ends.
            body.from.read_to_end(&mut Vec::new())?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        _ => whole(to, "404 Not Found", "", "no such path\n"),
    }
}

fn whole(to: &mut impl Write, status: &str, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    to.write_all(text.as_bytes())
}

fn chunked_head(to: &mut impl Write, kind: &str) -> io::Result<()> {
    to.write_all(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes())
}

/// How much of a request's body is still to come.
enum Left {
    Bytes(usize),
    Chunks,
}

impl Left {
    fn of(headers: &Fields) -> Self {
        match field(headers, "transfer-encoding") {
            Some(_) => Self::Chunks,
            None => Self::Bytes(field(headers, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)),
        }
    }
}

/// A request's body as it comes, recorded.
struct Pieces<'a, R> {
    from: &'a mut R,
    left: Left,
    shared: &'a Shared,
    index: usize,
}

impl<R: BufRead> Pieces<'_, R> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let piece = match self.left {
            Left::Bytes(0) => None,
            Left::Bytes(left) => {
                let mut piece = self.from.fill_buf()?.to_owned();
                if piece.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                piece.truncate(left);
                self.from.consume(piece.len());
                self.left = Left::Bytes(left - piece.len());
                Some(piece)
            }
            Left::Chunks => {
                let piece = wire::read_chunk(self.from)?;
                if piece.is_none() {
                    wire::read_fields(self.from)?;
                    self.left = Left::Bytes(0);
                }
                piece
            }
        };
        if let Some(piece) = &piece {
            self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner)[self.index].body.extend(piece);
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Client};

    #[test]
    fn every_path_answers_on_one_connection_and_is_recorded() {
        let upstream = Upstream::start();
        let mut client = Client::connect(upstream.addr());
        assert_eq!(client.get("/ok").text(), "ok\n");
        assert_eq!(client.get("/slow?ms=1").text(), "slow\n");
        assert_eq!(client.get("/stream?chunks=2").text(), "chunk 0\nchunk 1\n");
        assert_eq!(client.get("/status?code=418").status, 418);
        assert_eq!(client.get("/redirect?to=/ok").header("location"), Some("/ok"));
        assert_eq!(client.get("/else").status, 404);
        let chunked = Body::Chunked(vec![b"one ".to_vec(), b"two".to_vec()]);
        assert_eq!(client.request("POST", "/echo", &[], chunked).text(), "one two");
        assert_eq!(client.request("POST", "/echo", &[], Body::Length(vec![b'x'; 100_000])).body.len(), 100_000);
        assert_eq!(client.request("POST", "/sink", &[], Body::Length(b"five!".to_vec())).text(), "5 bytes\n");
        assert_eq!(upstream.connections(), 1);
        let requests = upstream.requests();
        assert_eq!(requests.len(), 9);
        assert_eq!((requests[6].method.as_str(), requests[6].target.as_str()), ("POST", "/echo"));
        assert_eq!(requests[6].body, b"one two");
        assert_eq!(requests[7].body.len(), 100_000);
    }

    #[test]
    fn a_hanging_answer_ends_with_the_server() {
        let upstream = Upstream::start();
        let mut client = Client::connect(upstream.addr());
        client.send(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
        crate::wait_until("the request arrived", DEADLINE, || upstream.requests().len() == 1);
        drop(upstream);
        assert_eq!(client.read_to_end().expect("the end"), b"");
    }
}
