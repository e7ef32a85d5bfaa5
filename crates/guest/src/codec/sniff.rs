//! What a body is, from its first bytes, for guests that do not say.

/// Beginnings that mean HTML (a selection of WHATWG's, "MIME Sniffing", 7.1), each followed by a space or `>`.
const HTML: &[&str] = &[
    "<!doctype html",
    "<html",
    "<head",
    "<script",
    "<iframe",
    "<h1",
    "<div",
    "<font",
    "<table",
    "<a",
    "<style",
    "<title",
    "<b",
    "<body",
    "<br",
    "<p",
];

/// Beginnings of binary formats.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
];

/// The content type of `body`.
pub(crate) fn content_type(body: &[u8]) -> &'static str {
    if let Some((_, found)) = MAGIC.iter().find(|(magic, _)| body.starts_with(magic)) {
        return found;
    }
    let Ok(text) = std::str::from_utf8(body) else { return "application/octet-stream" };
    let start = text.trim_start();
    if is_html(start.as_bytes()) {
        "text/html; charset=utf-8"
    } else if start.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}

fn is_html(start: &[u8]) -> bool {
    let follows = |tag: &&str| {
        let (begin, rest) = start.split_at_checked(tag.len()).unwrap_or_default();
        begin.eq_ignore_ascii_case(tag.as_bytes()) && matches!(rest.first(), Some(b' ' | b'>' | b'\n' | b'\t' | b'\r'))
    };
    start.starts_with(b"<!--") || HTML.iter().any(follows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_told_by_their_beginning() {
        for (body, expected) in [
            (&b"<!DOCTYPE html><p>"[..], "text/html; charset=utf-8"),
            (b"\n  <html lang=en>", "text/html; charset=utf-8"),
            (b"<!-- x -->", "text/html; charset=utf-8"),
            (b"<htmlx>", "text/plain; charset=utf-8"),
            (b"<", "text/plain; charset=utf-8"),
            (b"\x89PNG\r\n\x1a\nrest", "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"%PDF-1.7", "application/pdf"),
            (b" {\"a\": [1]}\n", "application/json"),
            (b"[1, 2]", "application/json"),
            (b"{not json", "text/plain; charset=utf-8"),
            (b"42", "text/plain; charset=utf-8"),
            ("größe".as_bytes(), "text/plain; charset=utf-8"),
            (b"", "text/plain; charset=utf-8"),
            (b"\xff\xfe\x00", "application/octet-stream"),
        ] {
            assert_eq!(content_type(body), expected, "{:?}", String::from_utf8_lossy(body));
        }
    }
}
