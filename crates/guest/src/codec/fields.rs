//! Fields as a guest wrote them: checked and counted one by one.

use base::{Body, Error, strip_hop_by_hop};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{bad_response, shown};

/// Fields of one message of a guest: an answer, or a request to somebody else.
pub(crate) struct Fields {
    map: HeaderMap,
    bytes: usize,
    bytes_max: u32,
}

impl Fields {
    /// None yet, and at most so many bytes of them.
    pub(crate) fn up_to(bytes_max: u32) -> Self {
        Self { map: HeaderMap::new(), bytes: 0, bytes_max }
    }

    /// Adds a value of a field.
    ///
    /// # Errors
    ///
    /// If it is no HTTP, or more than a guest may say: counted as the fields of components are, the name once and each value with
    /// what they take beside their bytes.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let name = HeaderName::from_bytes(name).map_err(|_| bad_response(format!("the field name `{}`", shown(name))))?;
        let of_name = if self.map.contains_key(&name) { 0 } else { name.as_str().len() + size_of::<HeaderName>() };
        let bytes = self.bytes + of_name + value.len() + size_of::<HeaderValue>();
        if bytes > self.bytes_max as usize {
            return Err(bad_response(format!("more fields than {} bytes", self.bytes_max)));
        }
        let value = HeaderValue::from_bytes(value).map_err(|_| bad_response(format!("the value of the field `{name}`")))?;
        self.map.try_append(name, value).map_err(|_| bad_response("more fields than a message has room for"))?;
        self.bytes = bytes;
        Ok(())
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        self.map.contains_key(name)
    }

    /// What they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn into_map(self) -> HeaderMap {
        self.map
    }

    /// The answer with these fields. Framing is the server's, so what the guest says about it is left out.
    pub(super) fn response(self, status: u16, body: Bytes) -> Result<Response<Body>, Error> {
        // Informational ones are no answer, and those above mean nothing.
        let status = (200..600).contains(&status).then(|| StatusCode::from_u16(status).ok()).flatten();
        let status = status.ok_or_else(|| bad_response("a status out of range"))?;
        let mut headers = self.map;
        strip_hop_by_hop(&mut headers);
        headers.remove(header::CONTENT_LENGTH);
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut response = Response::new(if bodiless { Body::Empty } else { Body::from(body) });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use base::Kind;

    use super::*;

    const FIELDS_BYTES_MAX: u32 = 128 << 10;

    #[test]
    fn what_is_no_http_never_becomes_a_response() {
        for (name, value) in [("a b", "c"), ("a", "b\r\nc: d"), ("a", "b\nc"), ("a", "b\0"), ("", "b"), ("a\r\nb", "c")] {
            let error = Fields::up_to(FIELDS_BYTES_MAX).add(name.as_bytes(), value.as_bytes()).expect_err("refused");
            assert_eq!(error.kind, Kind::BadResponse, "{name:?} {value:?}");
        }
        for status in [0, 100, 101, 199, 600, 65535] {
            assert_eq!(
                Fields::up_to(FIELDS_BYTES_MAX).response(status, Bytes::new()).expect_err("refused").kind,
                Kind::BadResponse
            );
        }
    }

    #[test]
    fn framing_is_the_servers() {
        let mut fields = Fields::up_to(FIELDS_BYTES_MAX);
        for (name, value) in
            [("content-length", "5"), ("transfer-encoding", "chunked"), ("connection", "x-a"), ("x-a", "1"), ("x-b", "2")]
        {
            fields.add(name.as_bytes(), value.as_bytes()).expect("a field");
        }
        let response = fields.response(200, Bytes::from_static(b"abc")).expect("an answer");
        assert_eq!(response.headers().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-b"]);
    }

    #[test]
    fn what_a_guest_says_in_fields_is_bounded() {
        let added = |field: &dyn Fn(usize) -> (String, String)| {
            let mut fields = Fields::up_to(FIELDS_BYTES_MAX);
            (0..100_000)
                .take_while(|n| {
                    let (name, value) = field(*n);
                    fields.add(name.as_bytes(), value.as_bytes()).is_ok()
                })
                .count()
        };
        let (name_bytes, value_bytes) = (size_of::<HeaderName>(), size_of::<HeaderValue>());
        assert_eq!(added(&|n| (format!("x-{n:05}"), String::new())), FIELDS_BYTES_MAX as usize / (7 + name_bytes + value_bytes));
        assert_eq!(added(&|_| ("x".to_owned(), String::new())), (FIELDS_BYTES_MAX as usize - 1 - name_bytes) / value_bytes);
        assert_eq!(added(&|_| ("x".to_owned(), "x".repeat(60 << 10))), 2);
        assert_eq!(added(&|_| ("x".to_owned(), "x".repeat(128 << 10))), 0);
        assert_eq!(added(&|_| ("x".repeat(70 << 10), String::new())), 0);
    }
}
