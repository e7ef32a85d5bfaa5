//! `ignis`: a protobuf `FDRequest` on standard input, an `FDResponse` on standard output, both bare.
//!
//! ```text
//! FDRequest   1 method · 2 header map<string, HeaderFields> · 3 body · 4 content_length · 5 transfer_encoding StringSlice
//!             6 host · 7 remote_addr · 8 request_uri · 9 pattern
//! FDResponse  1 body · 2 status_code · 3 length · 4 header map<string, HeaderFields>
//! HeaderFields, StringSlice   1 fields, repeated
//! ```

use base::{Body, Command, Entry, Error, Input, Reply, Stdio};
use bytes::Bytes;
use http::{Response, header};

use super::protobuf::{Malformed, Reader, Value, Writer};
use super::{Codec, Fields, Request, bad_response, sniff, stdout_of};

pub(super) const CODEC: Codec = Codec { name: "ignis", entry: Entry::Run, request, response };

fn request(request: &Request<'_>, body: Bytes) -> Result<Input, Error> {
    let head = request.head;
    let mut message = Writer::default();
    message.bytes(1, head.method.as_str().as_bytes());
    write_fields(&mut message, 2, &head.headers);
    message.bytes(3, &body);
    let chunked = request.via.in_chunks;
    message.int(4, if chunked { -1 } else { i64::try_from(body.len()).unwrap_or(i64::MAX) });
    if chunked {
        let mut encodings = Writer::default();
        encodings.element(1, b"chunked");
        message.element(5, &encodings.into_bytes());
    }
    message.bytes(6, request.authority().as_bytes());
    message.bytes(7, request.via.peer.map(|peer| peer.to_string()).unwrap_or_default().as_bytes());
    message.bytes(8, below(request).as_bytes());
    let pattern = request.via.route.as_ref().map(|route| route.path.as_str()).unwrap_or_default();
    message.bytes(9, pattern.as_bytes());
    let stdin = message.into_bytes().into();
    Ok(Input::Command(Command { args: Vec::new(), env: Vec::new(), stdio: Stdio::Buffered(stdin) }))
}

/// The path below the module, and the query.
fn below(request: &Request<'_>) -> String {
    let path = match request.split().1 {
        "" => "/",
        path => path,
    };
    match request.head.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// `content-type` as `Content-Type`, as Go writes fields.
pub(crate) fn train_case(name: &str) -> String {
    let mut at_start = true;
    let letter = |c: char| {
        let c = if at_start { c.to_ascii_uppercase() } else { c };
        at_start = c == '-';
        c
    };
    name.chars().map(letter).collect()
}

/// The request of an `FDRequest` a guest made; its URI is absolute, and its fields have at most so many bytes.
pub(crate) fn decode_request(bytes: &[u8], fields_max: u32) -> Option<http::Request<Bytes>> {
    let mut builder = http::Request::builder();
    let (mut body, mut fields) = (Bytes::new(), Fields::up_to(fields_max));
    let mut message = Reader::new(bytes);
    while let Some(field) = message.next().ok()? {
        builder = match field {
            (1, Value::Bytes(method)) => builder.method(method),
            (8, Value::Bytes(uri)) => builder.uri(uri),
            (2, Value::Bytes(entry)) => {
                decode_field(entry, &mut fields).ok()?.ok()?;
                builder
            }
            (3, Value::Bytes(bytes)) => {
                body = Bytes::copy_from_slice(bytes);
                builder
            }
            _ => builder,
        };
    }
    let mut request = builder.body(body).ok()?;
    *request.headers_mut() = fields.into_map();
    Some(request)
}

/// The `FDResponse` a guest gets.
pub(crate) fn encode_response(head: &http::response::Parts, body: &[u8]) -> Vec<u8> {
    let mut message = Writer::default();
    message.bytes(1, body);
    message.int(2, i64::from(head.status.as_u16()));
    message.int(3, i64::try_from(body.len()).unwrap_or(i64::MAX));
    write_fields(&mut message, 4, &head.headers);
    message.into_bytes()
}

/// Every field but `Host`, which Go keeps apart.
fn write_fields(message: &mut Writer, number: u64, headers: &http::HeaderMap) {
    for name in headers.keys().filter(|name| **name != header::HOST) {
        let mut fields = Writer::default();
        for value in headers.get_all(name) {
            // A protobuf string is UTF-8.
            fields.element(1, String::from_utf8_lossy(value.as_bytes()).as_bytes());
        }
        let mut entry = Writer::default();
        entry.bytes(1, train_case(name.as_str()).as_bytes());
        entry.element(2, &fields.into_bytes());
        message.element(number, &entry.into_bytes());
    }
}

fn response(reply: Reply, fields_max: u32) -> Result<Response<Body>, Error> {
    let stdout = stdout_of(reply)?;
    decode(&stdout, fields_max).map_err(|Malformed| bad_response("standard output is no FDResponse"))?
}

/// The answer of a message, or what is no HTTP in it.
fn decode(bytes: &Bytes, fields_max: u32) -> Result<Result<Response<Body>, Error>, Malformed> {
    let (mut status, mut body, mut fields) = (0, Bytes::new(), Fields::up_to(fields_max));
    let mut message = Reader::new(bytes);
    while let Some(field) = message.next()? {
        match field {
            (1, Value::Bytes(bytes_of_body)) => body = bytes.slice_ref(bytes_of_body),
            (2, Value::Int(number)) => status = number,
            (4, Value::Bytes(entry)) => {
                if let Err(error) = decode_field(entry, &mut fields)? {
                    return Ok(Err(error));
                }
            }
            // Lengths are counted, and what is not known is passed over.
            (1 | 2 | 4, _) => return Err(Malformed),
            _ => {}
        }
    }
    let status = if status == 0 { 200 } else { u16::try_from(status).unwrap_or(u16::MAX) };
    if !body.is_empty() && !fields.has(&header::CONTENT_TYPE) {
        // What Go's server would do with a handler that does not say.
        let sniffed = fields.add(header::CONTENT_TYPE.as_str().as_bytes(), sniff::content_type(&body).as_bytes());
        if let Err(error) = sniffed {
            return Ok(Err(error));
        }
    }
    Ok(fields.response(status, body))
}

/// One entry of the map: a name and its values. Read twice, since the name may stand behind them and they may be many.
fn decode_field(entry: &[u8], fields: &mut Fields) -> Result<Result<(), Error>, Malformed> {
    let mut name = &[][..];
    let mut message = Reader::new(entry);
    while let Some(field) = message.next()? {
        if let (1, Value::Bytes(bytes)) = field {
            name = bytes;
        }
    }
    let mut message = Reader::new(entry);
    while let Some(field) = message.next()? {
        let (2, Value::Bytes(list)) = field else { continue };
        let mut list = Reader::new(list);
        while let Some(value) = list.next()? {
            let (1, Value::Bytes(value)) = value else { continue };
            if let Err(error) = fields.add(name, value) {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use base::{Exit, Kind};
    use http_body_util::BodyExt;

    use super::super::tests::with_request;
    use super::*;

    fn answer(stdout: &[u8]) -> Result<Response<Body>, Error> {
        response(Reply::Command(Exit { code: 0, stdout: Bytes::copy_from_slice(stdout) }), 128 << 10)
    }

    fn field(name: &str, values: &[&str]) -> Vec<u8> {
        let (mut fields, mut entry) = (Writer::default(), Writer::default());
        values.iter().for_each(|value| fields.element(1, value.as_bytes()));
        entry.bytes(1, name.as_bytes());
        entry.element(2, &fields.into_bytes());
        entry.into_bytes()
    }

    #[test]
    fn a_request_is_a_message() {
        let fields = [("content-type", "text/plain"), ("x-b3-trace", "1"), ("x-b3-trace", "2")];
        let input = with_request("PUT", "/user/7?full=1", &fields, |head| request(head, Bytes::from_static(b"hi")));
        let Ok(Input::Command(Command { stdio: Stdio::Buffered(stdin), .. })) = input else { panic!("a command") };
        let mut reader = Reader::new(&stdin);
        let mut found = Vec::new();
        while let Some(next) = reader.next().expect("well-formed") {
            found.push(next);
        }
        let (first, second) = (field("Content-Type", &["text/plain"]), field("X-B3-Trace", &["1", "2"]));
        let expected = [
            (1, Value::Bytes(b"PUT")),
            (2, Value::Bytes(&first)),
            (2, Value::Bytes(&second)),
            (3, Value::Bytes(b"hi")),
            (4, Value::Int(2)),
            (6, Value::Bytes(b"example.com:8080")),
            (7, Value::Bytes(b"192.0.2.7:5000")),
            (8, Value::Bytes(b"/user/7?full=1")),
        ];
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_message_is_an_answer() {
        let mut message = Writer::default();
        message.bytes(1, b"made");
        message.int(2, 201);
        message.int(3, 4);
        message.element(4, &field("X-A", &["1", "2"]));
        message.int(15, 1);
        let response = answer(&message.into_bytes()).expect("an answer");
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "made");
        let empty = answer(b"").expect("an answer");
        assert_eq!((empty.status().as_u16(), empty.headers().len()), (200, 0));
    }

    #[test]
    fn what_is_no_answer_is_the_guests_fault() {
        let status = |number| {
            let mut message = Writer::default();
            message.int(2, number);
            message.into_bytes()
        };
        let header = |value| {
            let mut message = Writer::default();
            message.element(4, &field("X-A", &[value]));
            message.into_bytes()
        };
        for bytes in
            [b"Hello, World!\n".to_vec(), status(99), status(1000), status(-1), header("a\r\nSet-Cookie: b"), vec![0x0a, 0x7f]]
        {
            assert_eq!(answer(&bytes).expect_err("refused").kind, Kind::BadResponse, "{bytes:?}");
        }
        let failed = response(Reply::Command(Exit { code: 3, stdout: Bytes::new() }), 128 << 10).expect_err("refused");
        assert_eq!((failed.kind, failed.detail().as_str()), (Kind::GuestExit, "exit code 3"));
    }

    #[test]
    fn fields_over_their_limit_are_refused_in_both_directions() {
        let many: Vec<_> = (0..25_000).map(|n| field(&format!("X-{n}"), &["1"])).collect();
        let empty = vec![field("X-A", &vec![""; 1 << 20])];
        let large = vec![field("X-A", &[&"x".repeat(128 << 10)])];
        let message = |number, entries: &[Vec<u8>]| {
            let mut message = Writer::default();
            message.bytes(8, b"http://a/");
            entries.iter().for_each(|entry| message.element(number, entry));
            message.into_bytes()
        };
        for entries in [many, empty, large] {
            assert_eq!(answer(&message(4, &entries)).expect_err("refused").kind, Kind::BadResponse);
            assert!(decode_request(&message(2, &entries), 128 << 10).is_none());
        }
        let fits = [field("X-A", &["1", "2"]), field("X-B", &["3"])];
        assert_eq!(decode_request(&message(2, &fits), 128 << 10).expect("a request").headers().len(), 3);
    }
}
