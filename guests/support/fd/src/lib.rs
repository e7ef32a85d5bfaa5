//! A guest's side of the codec `ignis`: one `FDRequest` on standard input, one `FDResponse` on standard output, both protobuf without a
//! length in front. Only what guests need of them, in both directions: those that call through the host send requests and read responses.

use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;

/// Names and values.
pub type Headers = Vec<(String, String)>;

/// An `FDRequest`.
#[derive(Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query; the absolute URL where it goes to the host.
    pub uri: String,
    /// Header fields, one entry a value.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// An `FDResponse`.
#[derive(Default)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Header fields, one entry a value.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".into(), "text/plain".into())], body: body.into() }
    }

    /// Decodes what the host wrote; none where it is damaged.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let mut response = Self { status: 200, ..Self::default() };
        for field in fields(message) {
            match field? {
                (1, Value::Bytes(bytes)) => response.body = bytes.to_vec(),
                (2, Value::Int(status)) if status != 0 => response.status = status.try_into().ok()?,
                (4, Value::Bytes(entry)) => add_header(&mut response.headers, entry)?,
                _ => {}
            }
        }
        Some(response)
    }

    /// Encodes it for the host.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &self.body);
        put_int(&mut message, 2, self.status.into());
        put_int(&mut message, 3, self.body.len() as u64);
        put_headers(&mut message, 4, &self.headers);
        message
    }
}

impl Request {
    /// Decodes what the host wrote; none where it is damaged.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let mut request = Self::default();
        for field in fields(message) {
            match field? {
                (1, Value::Bytes(bytes)) => request.method = text(bytes),
                (2, Value::Bytes(entry)) => add_header(&mut request.headers, entry)?,
                (3, Value::Bytes(bytes)) => request.body = bytes.to_vec(),
                (8, Value::Bytes(bytes)) => request.uri = text(bytes),
                _ => {}
            }
        }
        Some(request)
    }

    /// Encodes it for the host.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, self.method.as_bytes());
        put_headers(&mut message, 2, &self.headers);
        put_bytes(&mut message, 3, &self.body);
        put_int(&mut message, 4, self.body.len() as u64);
        put_bytes(&mut message, 8, self.uri.as_bytes());
        message
    }
}

/// Reads the request and writes what `answer` makes of it.
pub fn main(answer: impl FnOnce(Request) -> Response) -> ExitCode {
    let mut input = Vec::new();
    let request = stdin().lock().read_to_end(&mut input).ok().and_then(|_| Request::decode(&input));
    let Some(request) = request else {
        eprintln!("standard input is not an FDRequest");
        return ExitCode::FAILURE;
    };
    match stdout().write_all(&answer(request).encode()).and_then(|()| stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

/// Number and value of each field; none in place of the first that is damaged, and nothing behind it.
fn fields(mut message: &[u8]) -> impl Iterator<Item = Option<(u64, Value<'_>)>> {
    let mut damaged = false;
    std::iter::from_fn(move || {
        if message.is_empty() || damaged {
            return None;
        }
        let field = take_field(&mut message);
        damaged = field.is_none();
        Some(field)
    })
}

fn take_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = take_int(message)?;
    let value = take_int(message)?;
    match key & 7 {
        0 => Some((key >> 3, Value::Int(value))),
        2 => {
            let (bytes, rest) = message.split_at_checked(value.try_into().ok()?)?;
            *message = rest;
            Some((key >> 3, Value::Bytes(bytes)))
        }
        // The other types are in no message of ours.
        _ => None,
    }
}

fn take_int(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(value);
        }
    }
    None
}

fn add_header(headers: &mut Headers, entry: &[u8]) -> Option<()> {
    let mut name = String::new();
    for field in fields(entry) {
        match field? {
            (1, Value::Bytes(bytes)) => name = text(bytes),
            (2, Value::Bytes(values)) => {
                for value in fields(values) {
                    if let (1, Value::Bytes(value)) = value? {
                        headers.push((name.clone(), text(value)));
                    }
                }
            }
            _ => {}
        }
    }
    Some(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn put_int(message: &mut Vec<u8>, number: u64, value: u64) {
    varint(message, number << 3);
    varint(message, value);
}

fn put_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(message, number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn put_headers(message: &mut Vec<u8>, number: u64, headers: &Headers) {
    for (name, value) in headers {
        let (mut values, mut entry) = (Vec::new(), Vec::new());
        put_bytes(&mut values, 1, value.as_bytes());
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, &values);
        put_bytes(message, number, &entry);
    }
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
