//! Reading requests' framing beside hyper.
//!
//! A request with both `Content-Length` and `Transfer-Encoding` may mean one thing to us and another to whoever passed it
//! on: request smuggling (RFC 9112, 6.1). hyper drops the first of the two before anybody sees it, so the raw bytes are
//! looked at as they arrive. Bodies are passed over by their length, so that the head of a pipelined request is found where
//! it begins. A length that cannot be read here — it is longer than what is kept of a line, or no number — may still be one to
//! hyper; from there on it is not known where requests begin, so none is answered.
//!
//! Two more things that hyper takes and others may take for something else are seen only here: a line that ends in LF alone,
//! and a fragment in the target, which is dropped.

use std::mem;

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

/// As much of a line as is looked at: the longer name, and room for a length behind the other.
const PREFIX_BYTES: usize = 48;

/// Where in the stream of requests the next byte is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before a request line, where empty lines mean nothing.
    #[default]
    Before,
    /// In the fields.
    Fields,
    /// In a body, with this many bytes to come.
    Body(u64),
    /// In the line with a chunk's size.
    ChunkSize,
    /// In a chunk, the line end behind it included.
    Chunk(u64),
    /// In the fields behind the last chunk.
    Trailers,
    /// Nothing makes sense any more.
    Lost,
}

/// The framing of one connection's requests, however they were cut into reads.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    place: Place,
    prefix: Vec<u8>,
    /// The line was longer than its prefix.
    is_cut: bool,
    /// The last byte of what there is of the line was CR.
    has_cr: bool,
    /// The head has a length that cannot be read, a line without CR, or a fragment.
    is_unclear: bool,
    length: Option<u64>,
    is_chunked: bool,
    /// Heads that have ended.
    heads: u64,
    ambiguous_at: Option<u64>,
    /// Nothing may be read any more.
    is_broken: bool,
}

impl Framing {
    /// Looks at the next bytes.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.place {
                Place::Lost => return,
                Place::Body(left) | Place::Chunk(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    bytes = &bytes[skipped..];
                    if *left == 0 {
                        self.place = if matches!(self.place, Place::Body(_)) { Place::Before } else { Place::ChunkSize };
                    }
                }
                _ => bytes = self.read_line(bytes),
            }
        }
    }

    /// The first request that is not clear, or that begins where that cannot be known, counted from 0.
    pub(crate) fn ambiguous_at(&self) -> Option<u64> {
        self.ambiguous_at
    }

    /// Whether a body ended in a way that others may take for no end.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let room = PREFIX_BYTES - self.prefix.len();
        self.prefix.extend_from_slice(&line[..line.len().min(room)]);
        self.is_cut |= line.len() > room;
        if let Some(last) = line.last() {
            self.has_cr = *last == b'\r';
        }
        self.is_unclear |= self.place == Place::Before && line.contains(&b'#');
        let Some(end) = end else { return &[] };
        self.is_unclear |= !mem::take(&mut self.has_cr);
        let mut prefix = mem::take(&mut self.prefix);
        self.end_line(prefix.strip_suffix(b"\r").unwrap_or(&prefix));
        prefix.clear();
        self.prefix = prefix;
        self.is_cut = false;
        &bytes[end + 1..]
    }

    fn end_line(&mut self, line: &[u8]) {
        match (&self.place, line.is_empty()) {
            (Place::Before, false) => self.place = Place::Fields,
            (Place::Fields, true) => self.end_head(),
            (Place::Fields, false) => self.note_field(line),
            (Place::ChunkSize, _) => {
                self.place = match chunk_size(line, self.is_cut) {
                    None => {
                        self.ambiguous_at.get_or_insert(self.heads);
                        Place::Lost
                    }
                    Some(0) => Place::Trailers,
                    Some(size) => Place::Chunk(size.saturating_add(2)),
                }
            }
            // hyper reads on to an empty line that ends in CR LF, and takes the next request for a part of this one.
            (Place::Trailers, _) if self.is_unclear => {
                self.ambiguous_at.get_or_insert(self.heads.saturating_sub(1));
                self.place = Place::Lost;
                self.is_broken = true;
            }
            (Place::Trailers, true) => {
                self.place = Place::Before;
            }
            _ => {}
        }
    }

    fn note_field(&mut self, line: &[u8]) {
        if let Some(value) = value_of(line, CONTENT_LENGTH) {
            let number = str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            self.is_unclear |= self.is_cut || number.is_none();
            self.length = Some(number.unwrap_or(0));
        } else if value_of(line, TRANSFER_ENCODING).is_some() {
            self.is_chunked = true;
        }
    }

    fn end_head(&mut self) {
        let length = self.length.take();
        let is_chunked = mem::take(&mut self.is_chunked);
        if is_chunked && length.is_some() || mem::take(&mut self.is_unclear) {
            self.ambiguous_at.get_or_insert(self.heads);
        }
        self.heads += 1;
        self.place = match (is_chunked, length) {
            (true, _) => Place::ChunkSize,
            (false, Some(length)) if length > 0 => Place::Body(length),
            _ => Place::Before,
        };
    }
}

/// What follows `name` in a field line.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (begin, value) = line.split_at_checked(name.len())?;
    begin.eq_ignore_ascii_case(name).then_some(value)
}

/// None for what is no size, or goes on behind what is kept of the line.
fn chunk_size(line: &[u8], is_cut: bool) -> Option<u64> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if is_cut && digits == line.len() {
        return None;
    }
    u64::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTRANSFER-encoding: chunked\r\n\r\n0\r\n\r\n";
    const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\nX: content-length: 4\r\n\r\n";
    const SIZED: &str = "POST / HTTP/1.1\r\ncontent-length: 21\r\n\r\ntransfer-encoding: x\n";
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n13;x\r\n\r\ncontent-length: 1\r\n0\r\nTrailer: x\r\n\r\n";

    /// Reads `stream` cut in two at every place.
    fn ambiguous_at(stream: &str) -> Option<u64> {
        let answers: Vec<_> = (0..=stream.len())
            .map(|cut| {
                let mut framing = Framing::default();
                let (first, second) = stream.as_bytes().split_at(cut);
                framing.read(first);
                framing.read(second);
                framing.ambiguous_at()
            })
            .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        answers[0]
    }

    #[test]
    fn two_lengths_are_seen_in_whichever_request_has_them() {
        assert_eq!(ambiguous_at(BOTH), Some(0));
        assert_eq!(ambiguous_at(&format!("\r\n\r\n{BOTH}")), Some(0));
        for before in [PLAIN, SIZED, CHUNKED] {
            assert_eq!(ambiguous_at(before), None);
            assert_eq!(ambiguous_at(&format!("{before}{BOTH}")), Some(1), "{before}");
            assert_eq!(ambiguous_at(&format!("{before}{before}\r\n{BOTH}")), Some(2), "{before}");
        }
    }

    #[test]
    fn lines_end_in_cr_and_lf() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nX: a\nHost: a\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(ambiguous_at(head), Some(0), "{head:?}");
            assert_eq!(ambiguous_at(&format!("{PLAIN}{head}")), Some(1), "{head:?}");
        }
        for body in ["4\nbody\r\n0\r\n\r\n", "0\n\r\n", "0\r\nX: a\n\r\n", "0\r\n\n"] {
            let stream = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}{PLAIN}");
            assert_eq!(ambiguous_at(&stream), Some(0), "{body:?}");
        }
        let long = format!("GET /{} HTTP/1.1\nHost: a\r\n\r\n", "a".repeat(100));
        assert_eq!(ambiguous_at(&long), Some(0));
    }

    #[test]
    fn a_target_has_no_fragment() {
        assert_eq!(ambiguous_at("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), Some(0));
        assert_eq!(ambiguous_at(&format!("GET /{}#b HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100))), Some(0));
        assert_eq!(ambiguous_at("GET /a%23b HTTP/1.1\r\nHost: a\r\nX: #\r\n\r\n#"), None);
    }

    #[test]
    fn behind_a_length_that_cannot_be_read_no_request_is_answered() {
        let zeros = "0".repeat(60);
        let spaces = " ".repeat(60);
        for length in [format!("{zeros}58"), format!("{spaces}58"), "x".to_owned(), "99999999999999999999".to_owned()] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(ambiguous_at(&head), Some(0), "{length}");
        }
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        for size in [format!("{zeros}2C"), "zz".to_owned(), "11111111111111111".to_owned()] {
            assert_eq!(ambiguous_at(&format!("{chunked}{size}\r\n")), Some(1), "{size}");
        }
        let extended = format!("{chunked}1;{}\r\na\r\n0\r\n\r\n{BOTH}", "x".repeat(100));
        assert_eq!(ambiguous_at(&extended), Some(1), "an extension may be long");
    }
}
