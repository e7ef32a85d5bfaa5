//! Reads HTTP/1.1 answers as they come: just what a load generator needs, so that it costs less than the server it loads.

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Where its body ends.
    pub body: Body,
    /// Whether the server closes the connection behind it.
    pub close: bool,
    /// Bytes it takes, the empty line included.
    pub length: usize,
}

/// Not HTTP/1.1, or none that this client reads.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// The head at the beginning of `buffer`; none while it is not whole.
pub fn head(buffer: &[u8]) -> Result<Option<Head>, Broken> {
    let Some(end) = find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = buffer[..end].split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = lines.next().and_then(|line| number(line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?, 10)).ok_or(Broken)?;
    let (mut body, mut close) = (None, false);
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Broken)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            body = Some(Body::Length(number(value, 10).ok_or(Broken)?));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            body = value.eq_ignore_ascii_case(b"chunked").then_some(Body::Size);
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close");
        }
    }
    let status = u16::try_from(status).map_err(|_| Broken)?;
    Ok(Some(Head { status, body: body.ok_or(Broken)?, close, length: end + 4 }))
}

/// How many fields of a head begin with `prefix`, in small letters.
pub fn count_fields(head: &[u8], prefix: &str) -> usize {
    let begins = |line: &[u8]| line.get(..prefix.len()).is_some_and(|name| name.eq_ignore_ascii_case(prefix.as_bytes()));
    head.split(|&byte| byte == b'\n').filter(|line| begins(line)).count()
}

/// What of a body is still to come.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// A line with the size of a chunk.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// The line end behind the last chunk. Trailers are not read: no server of the comparison sends any.
    Last,
    /// Nothing.
    Whole,
}

impl Body {
    /// Whether all of it has been taken.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Whole | Self::Length(0))
    }

    /// Takes what `buffer` begins with, hands each piece of the body to `piece`, and returns how many bytes it took. Those it leaves
    /// belong to the next answer or need more behind them.
    pub fn take(&mut self, buffer: &[u8], mut piece: impl FnMut(&[u8])) -> Result<usize, Broken> {
        let mut at = 0;
        while !self.is_whole() {
            let rest = &buffer[at..];
            match self {
                Self::Length(left) | Self::Chunk(left) => {
                    let now = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    piece(&rest[..now]);
                    *left -= now as u64;
                    at += now;
                    if *self == Self::Chunk(0) {
                        *self = Self::ChunkEnd;
                    } else if !self.is_whole() {
                        return Ok(at);
                    }
                }
                Self::Size => {
                    let Some(line) = find(rest, b"\r\n") else { return Ok(at) };
                    let size = number(&rest[..line], 16).ok_or(Broken)?;
                    *self = if size == 0 { Self::Last } else { Self::Chunk(size) };
                    at += line + 2;
                }
                Self::ChunkEnd | Self::Last => {
                    let Some(end) = rest.get(..2) else { return Ok(at) };
                    if end != b"\r\n" {
                        return Err(Broken);
                    }
                    *self = if *self == Self::Last { Self::Whole } else { Self::Size };
                    at += 2;
                }
                Self::Whole => {}
            }
        }
        Ok(at)
    }
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

fn find(buffer: &[u8], what: &[u8]) -> Option<usize> {
    buffer.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of `step` bytes: status, body, and how many bytes the answer took.
    fn read(text: &[u8], step: usize) -> Option<(u16, Vec<u8>, usize)> {
        let head = head(text).ok()??;
        let (mut framing, mut body, mut at) = (head.body, Vec::new(), head.length);
        let mut end = at;
        while !framing.is_whole() && end < text.len() {
            end = text.len().min(end + step);
            at += framing.take(&text[at..end], |piece| body.extend_from_slice(piece)).ok()?;
        }
        framing.is_whole().then_some((head.status, body, at))
    }

    #[test]
    fn lengths_and_chunks_in_pieces_of_any_size() {
        let length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP";
        let chunked =
            b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nhi\r\nA\r\n0123456789\r\n0\r\n\r\nHTTP";
        for step in 1..80 {
            assert_eq!(read(length, step), Some((200, b"hi".to_vec(), length.len() - 4)), "{step}");
            assert_eq!(read(chunked, step), Some((503, b"hi0123456789".to_vec(), chunked.len() - 4)), "{step}");
        }
        assert!(head(chunked).unwrap().unwrap().close && !head(length).unwrap().unwrap().close);
    }

    #[test]
    fn every_beginning_is_not_whole() {
        for text in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"[..],
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"[..],
        ] {
            for end in 0..text.len() {
                assert_eq!(read(&text[..end], 7), None, "{end}");
            }
        }
    }

    #[test]
    fn nonsense_is_broken() {
        assert_eq!(head(b"SSH-2.0\r\n\r\n"), Err(Broken));
        assert_eq!(head(b"HTTP/1.1 200 OK\r\n\r\n"), Err(Broken));
        assert_eq!(Body::Size.take(b"xx\r\n", |_| {}), Err(Broken));
        assert_eq!(Body::Chunk(1).take(b"abc", |_| {}), Err(Broken));
    }

    #[test]
    fn fields_are_counted_by_their_beginning() {
        let text = b"HTTP/1.1 200 OK\r\nX-Bench-0: a\r\nx-bench-1: b\r\nx-other: x-bench-\r\n\r\n";
        assert_eq!(count_fields(text, "x-bench-"), 2);
    }
}
