//! One connection to a server, and what came back over it, byte by byte.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use crate::DEADLINE;
use crate::wire::{self, Fields};

/// More than this is sent by a thread: a server that answers while it reads must be read meanwhile.
const SENT_AT_ONCE_BYTES: usize = 32 << 10;

/// A request's body.
#[derive(Clone, Debug)]
pub enum Body {
    /// No body and no field about one.
    None,
    /// With `content-length`.
    Length(Vec<u8>),
    /// With `transfer-encoding: chunked`, chunks as given.
    Chunked(Vec<Vec<u8>>),
    /// The same, and trailers.
    Trailers(Vec<Vec<u8>>, Vec<(&'static str, &'static str)>),
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Every field, in order, names in lower case.
    pub headers: Fields,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The fields after a chunked body.
    pub trailers: Fields,
    /// The connection ended before the body did.
    pub truncated: bool,
}

impl Response {
    /// The first value of the field `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::field(&self.headers, name)
    }

    /// The body as text, replaced where it is none.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads a whole answer to a request of `method`.
    ///
    /// # Errors
    ///
    /// As [`wire::read_head`]; a body that ends early is no error but `truncated`.
    pub fn read(from: &mut impl io::BufRead, method: &str) -> io::Result<Self> {
        let mut response = Self::read_final_head(from)?;
        response.read_body(from, method)?;
        Ok(response)
    }

    /// Reads a head. The body stays to be read.
    ///
    /// # Errors
    ///
    /// As [`wire::read_head`].
    pub fn read_head(from: &mut impl io::BufRead) -> io::Result<Self> {
        let (start, headers) = wire::read_head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = start.strip_prefix("HTTP/1.1 ").or_else(|| start.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| wire::invalid("a bad status line", &start))?;
        Ok(Self { status, headers, body: Vec::new(), trailers: Fields::new(), truncated: false })
    }

    /// Skips `100 Continue`.
    fn read_final_head(from: &mut impl io::BufRead) -> io::Result<Self> {
        loop {
            let response = Self::read_head(from)?;
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    fn read_body(&mut self, from: &mut impl io::BufRead, method: &str) -> io::Result<()> {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(());
        }
        let read = match (self.header("transfer-encoding"), self.header("content-length")) {
            (Some("chunked"), None) => self.read_chunks(from),
            (None, Some(length)) => {
                let length: usize = length.parse().map_err(|_| wire::invalid("a bad content-length", length))?;
                let mut limited = from.take(length as u64);
                let read = limited.read_to_end(&mut self.body);
                self.truncated = self.body.len() < length;
                read.map(drop)
            }
            (None, None) => from.read_to_end(&mut self.body).map(drop),
            framing => return Err(wire::invalid("bad framing", &format!("{framing:?}"))),
        };
        match read {
            Err(error) if is_end(&error) => {
                self.truncated = true;
                Ok(())
            }
            read => read,
        }
    }

    fn read_chunks(&mut self, from: &mut impl io::BufRead) -> io::Result<()> {
        while let Some(chunk) = wire::read_chunk(from)? {
            self.body.extend(chunk);
        }
        self.trailers = wire::read_fields(from)?;
        Ok(())
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

/// A connection that is kept alive from request to request.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
    }

    /// Connects; reads and writes that take longer than [`DEADLINE`] fail.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { reader: BufReader::new(stream), address })
    }

    /// `GET path`.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], Body::None)
    }

    /// Sends a request and reads the answer.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Response {
        self.try_request(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request and reads the answer. `Host` is the address unless `headers` has one. A server may answer before it
    /// has taken the whole body, so only a missing answer is a failure.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn try_request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> io::Result<Response> {
        let head = self.head(method, path, headers, &body);
        let pieces = match body {
            Body::None => Vec::new(),
            Body::Length(bytes) => vec![bytes],
            Body::Chunked(chunks) => encode(&chunks, &[]),
            Body::Trailers(chunks, trailers) => encode(&chunks, &trailers),
        };
        if head.len() + pieces.iter().map(Vec::len).sum::<usize>() <= SENT_AT_ONCE_BYTES {
            // Refused bytes show in the answer, or in that there is none.
            let _ = self.send(&[head.into_bytes(), pieces.concat()].concat());
            return self.read_response(method);
        }
        let mut writer = self.reader.get_ref().try_clone()?;
        thread::scope(|scope| {
            scope.spawn(move || {
                let sent = writer.write_all(head.as_bytes());
                pieces.iter().fold(sent, |sent, piece| sent.and_then(|()| writer.write_all(piece)))
            });
            let response = self.read_response(method);
            if response.is_err() || response.as_ref().is_ok_and(|r| r.header("connection") == Some("close")) {
                // The server takes no more of the body: the writer must not wait for it.
                let _ = self.reader.get_ref().shutdown(Shutdown::Both);
            }
            response
        })
    }

    /// The head [`Client::request`] sends.
    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Body) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match body {
            Body::None => {}
            Body::Length(bytes) => head.push_str(&format!("content-length: {}\r\n", bytes.len())),
            Body::Chunked(_) => head.push_str("transfer-encoding: chunked\r\n"),
            Body::Trailers(_, trailers) => {
                let names: Vec<_> = trailers.iter().map(|(name, _)| *name).collect();
                head.push_str(&format!("transfer-encoding: chunked\r\ntrailer: {}\r\n", names.join(", ")));
            }
        }
        head + "\r\n"
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// The answer to a request of `method` that was sent.
    ///
    /// # Errors
    ///
    /// As [`Response::read`].
    pub fn read_response(&mut self, method: &str) -> io::Result<Response> {
        Response::read(&mut self.reader, method)
    }

    /// The next head, also that of an interim answer. The body stays to be read.
    ///
    /// # Errors
    ///
    /// As [`Response::read_head`].
    pub fn read_head(&mut self) -> io::Result<Response> {
        Response::read_head(&mut self.reader)
    }

    /// The next chunk of a chunked body; none at its end, where its trailers are read too.
    ///
    /// # Errors
    ///
    /// As [`wire::read_chunk`].
    pub fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let chunk = wire::read_chunk(&mut self.reader)?;
        if chunk.is_none() {
            wire::read_fields(&mut self.reader)?;
        }
        Ok(chunk)
    }

    /// Everything up to the end of the connection.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Err(error) if !is_end(&error) => Err(error),
            _ => Ok(bytes),
        }
    }

    /// The socket, for those who want to close half of it or look at its timers.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}

fn encode(chunks: &[Vec<u8>], trailers: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = chunks.iter().map(|bytes| wire::chunk(bytes)).collect();
    let trailers: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    pieces.push(format!("0\r\n{trailers}\r\n").into_bytes());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str, method: &str) -> (Response, String) {
        let mut rest = bytes.as_bytes();
        let response = Response::read(&mut rest, method).expect("a response");
        (response, String::from_utf8_lossy(rest).into_owned())
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        for (bytes, method, body, truncated, rest) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP", "GET", "ok", false, "HTTP"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", "GET", "ok", true, ""),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP", "GET", "ok", false, "HTTP"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "GET", "ok", true, ""),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nHTTP", "HEAD", "", false, "HTTP"),
            ("HTTP/1.1 204 No Content\r\n\r\nHTTP", "GET", "", false, "HTTP"),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", "GET", "to the end", false, ""),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "PUT", "x", false, ""),
        ] {
            let (response, left) = read(bytes, method);
            assert_eq!((response.text().as_str(), response.truncated, left.as_str()), (body, truncated, rest), "{bytes:?}");
        }
    }

    #[test]
    fn trailers_are_kept_apart_from_headers() {
        let (response, _) = read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a: 1\r\n\r\n0\r\nX-B: 2\r\n\r\n", "GET");
        assert_eq!(response.header("x-a"), Some("1"));
        assert_eq!(response.header("x-b"), None);
        assert_eq!(response.trailers, [("x-b".into(), "2".into())]);
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        for bytes in [
            "SPDY 200\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nlong\r\n",
            "",
        ] {
            Response::read(&mut bytes.as_bytes(), "GET").expect_err(bytes);
        }
    }
}
