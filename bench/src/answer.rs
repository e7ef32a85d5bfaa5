//! Reads HTTP/1.1 answers out of a buffer: just what a load generator needs, so that it costs less than the server it loads.

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a whole answer yet.
    Partial,
    /// An answer and how many bytes of the buffer it took.
    Whole(Answer, usize),
    /// Nothing that HTTP/1.1 allows, or nothing this client reads.
    Broken,
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body without chunk headers.
    pub body: Vec<u8>,
    /// Whether the server closes the connection behind it.
    pub close: bool,
}

/// What the head says about the body.
enum Framing {
    Length(usize),
    Chunked,
}

/// Parses the answer at the beginning of `buffer`.
pub fn parse(buffer: &[u8]) -> Parsed {
    let Some(end) = find(buffer, b"\r\n\r\n") else { return Parsed::Partial };
    let Some((status, framing, close)) = head(&buffer[..end]) else { return Parsed::Broken };
    let start = end + 4;
    let rest = &buffer[start..];
    match framing {
        Framing::Length(length) if rest.len() < length => Parsed::Partial,
        Framing::Length(length) => Parsed::Whole(Answer { status, body: rest[..length].to_vec(), close }, start + length),
        Framing::Chunked => match chunks(rest) {
            Chunks::Partial => Parsed::Partial,
            Chunks::Broken => Parsed::Broken,
            Chunks::Whole(body, used) => Parsed::Whole(Answer { status, body, close }, start + used),
        },
    }
}

fn head(head: &[u8]) -> Option<(u16, Framing, bool)> {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = std::str::from_utf8(lines.next()?.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()?;
    let (mut framing, mut close) = (None, false);
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            framing = Some(Framing::Length(std::str::from_utf8(value).ok()?.parse().ok()?));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing = value.eq_ignore_ascii_case(b"chunked").then_some(Framing::Chunked);
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close");
        }
    }
    Some((status, framing?, close))
}

enum Chunks {
    Partial,
    Broken,
    Whole(Vec<u8>, usize),
}

fn chunks(buffer: &[u8]) -> Chunks {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(line) = find(&buffer[at..], b"\r\n") else { return Chunks::Partial };
        let size = std::str::from_utf8(&buffer[at..at + line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size else { return Chunks::Broken };
        at += line + 2;
        // Trailers are not read: no server of the comparison sends any.
        let Some(chunk) = buffer.get(at..at + size + 2) else { return Chunks::Partial };
        if !chunk.ends_with(b"\r\n") {
            return Chunks::Broken;
        }
        at += size + 2;
        if size == 0 {
            return Chunks::Whole(body, at);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn find(buffer: &[u8], what: &[u8]) -> Option<usize> {
    buffer.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8], close: bool) -> Answer {
        Answer { status, body: body.to_vec(), close }
    }

    #[test]
    fn lengths_and_chunks() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP";
        assert_eq!(parse(text), Parsed::Whole(answer(200, b"hi", false), text.len() - 4));
        let text =
            b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nhi\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(parse(text), Parsed::Whole(answer(503, b"hi0123456789", true), text.len()));
    }

    #[test]
    fn every_beginning_is_partial() {
        for text in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"[..],
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"[..],
        ] {
            for end in 0..text.len() {
                assert_eq!(parse(&text[..end]), Parsed::Partial, "{end}");
            }
        }
    }

    #[test]
    fn nonsense_is_broken() {
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), Parsed::Broken);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Parsed::Broken);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxx\r\n"), Parsed::Broken);
    }
}
