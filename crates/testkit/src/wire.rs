//! HTTP/1.1 as it stands on the wire: heads, chunks, trailers. Forgives nothing a server must not send.

use std::io::{self, BufRead, Read as _};

/// Longer lines are no answer of ours.
const LINE_BYTES_MAX: u64 = 256 << 10;

/// Fields in their order, names in lower case.
pub type Fields = Vec<(String, String)>;

/// The first value of `name`.
pub fn field<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The start line and the fields after it; none where the peer closed before its first byte.
///
/// # Errors
///
/// `UnexpectedEof` within a head, `InvalidData` for what is not HTTP.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<(String, Fields)>> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let start = read_line(from)?;
    Ok(Some((start, read_fields(from)?)))
}

/// Fields up to and with the empty line: of a head, or the trailers of a chunked body.
///
/// # Errors
///
/// As [`read_head`].
pub fn read_fields(from: &mut impl BufRead) -> io::Result<Fields> {
    let mut fields = Fields::new();
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a field without a colon", &line))?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(invalid("a field with a bad name", &line));
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// The next chunk of a chunked body; none at the last one, after which the trailers come.
///
/// # Errors
///
/// As [`read_head`].
pub fn read_chunk(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let line = read_line(from)?;
    let digits = line.split(';').next().unwrap_or_default().trim_end();
    let bytes = usize::from_str_radix(digits, 16).map_err(|_| invalid("a bad chunk size", &line))?;
    if bytes == 0 {
        return Ok(None);
    }
    let mut chunk = vec![0; bytes];
    from.read_exact(&mut chunk)?;
    match read_line(from)?.as_str() {
        "" => Ok(Some(chunk)),
        other => Err(invalid("a chunk longer than its size", other)),
    }
}

/// A chunk as it is sent.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Up to and without CR LF.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => String::from_utf8(line.to_owned()).map_err(|_| invalid("a line that is not UTF-8", "")),
        None if line.last() == Some(&b'\n') => Err(invalid("a line without CR", &String::from_utf8_lossy(&line))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub(crate) fn invalid(what: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_up_to_its_empty_line() {
        let mut bytes = &b"HTTP/1.1 200 OK\r\nContent-Type:  text/plain \r\nx-a: b:c\r\n\r\nbody"[..];
        let (start, fields) = read_head(&mut bytes).expect("a head").expect("not the end");
        assert_eq!(start, "HTTP/1.1 200 OK");
        assert_eq!(fields, [("content-type".into(), "text/plain".into()), ("x-a".into(), "b:c".into())]);
        assert_eq!(field(&fields, "x-a"), Some("b:c"));
        assert_eq!(field(&fields, "x-b"), None);
        assert_eq!(bytes, b"body");
    }

    #[test]
    fn the_end_is_told_from_a_broken_head() {
        assert!(read_head(&mut &b""[..]).expect("the end").is_none());
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\nx-a"[..], io::ErrorKind::UnexpectedEof),
            (b"HTTP/1.1 200 OK\r\n", io::ErrorKind::UnexpectedEof),
            (b"HTTP/1.1 200 OK\nx: y\r\n\r\n", io::ErrorKind::InvalidData),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", io::ErrorKind::InvalidData),
            (b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n", io::ErrorKind::InvalidData),
        ] {
            let error = read_head(&mut &*bytes).expect_err("a broken head");
            assert_eq!(error.kind(), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn chunks_end_with_none_and_trailers() {
        let mut bytes = &b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\nnext"[..];
        assert_eq!(read_chunk(&mut bytes).expect("a chunk"), Some(b"hello".to_vec()));
        assert_eq!(read_chunk(&mut bytes).expect("a chunk"), Some(b"0123456789".to_vec()));
        assert_eq!(read_chunk(&mut bytes).expect("the last"), None);
        assert_eq!(read_fields(&mut bytes).expect("trailers"), [("x-sum".into(), "1".into())]);
        assert_eq!(bytes, b"next");
        for (bytes, expected) in [
            (&b"5\r\nhel"[..], io::ErrorKind::UnexpectedEof),
            (b"", io::ErrorKind::UnexpectedEof),
            (b"x\r\n", io::ErrorKind::InvalidData),
            (b"2\r\nhello\r\n", io::ErrorKind::InvalidData),
        ] {
            let error = read_chunk(&mut &*bytes).expect_err("a broken chunk");
            assert_eq!(error.kind(), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_is_sent_as_a_chunk_is_read_as_one() {
        assert_eq!(read_chunk(&mut &*chunk(b"some bytes")).expect("a chunk"), Some(b"some bytes".to_vec()));
    }
}
