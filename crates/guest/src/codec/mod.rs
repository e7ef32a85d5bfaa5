//! How an HTTP request gets into an entry that is not HTTP, and its answer out: one file each.
//!
//! A codec is two functions between HTTP and what the entry takes and gives; it reads no socket and starts no guest. Nothing
//! about an artifact says which codec it was written for, so the configuration does.

mod cgi;
pub(crate) mod ignis;
mod protobuf;
pub(crate) mod sniff;
pub(crate) mod text;
mod wasio;

use std::sync::Arc;

use base::{
    Body, BodyError, BoxFuture, Call, Deadline, Entry, Error, Handler, Input, Kind, Limits, Reply, Via, strip_hop_by_hop,
};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;

/// One format.
pub(crate) struct Codec {
    /// The value of `codec`.
    name: &'static str,
    /// The entry it is for.
    entry: Entry,
    request: fn(&Request<'_>, Bytes) -> Result<Input, Error>,
    response: fn(Reply) -> Result<Response<Body>, Error>,
}

/// Every codec.
const CODECS: &[Codec] = &[ignis::CODEC, wasio::CODEC, cgi::CODEC, text::CODEC];

/// The head of a request, and what is known beside it.
pub(crate) struct Request<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) via: &'a Via,
}

impl Request<'_> {
    fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The path in two: up to the module, and below it.
    fn split(&self) -> (&str, &str) {
        match &self.via.route {
            Some(route) => route.path.split(self.path()),
            None => ("", self.path()),
        }
    }

    fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// The pairs of the query, decoded, in order.
    fn query_pairs(&self) -> impl Iterator<Item = (String, String)> {
        form_urlencoded::parse(self.query().as_bytes()).into_owned()
    }

    /// Name and port the client asked for.
    fn authority(&self) -> &str {
        let host = || self.head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        self.head.uri.authority().map(http::uri::Authority::as_str).or_else(host).unwrap_or_default()
    }
}

/// The codec a module's configuration names; of a plugin that names none, `text`.
///
/// # Errors
///
/// [`Kind::Unprocessable`] for a name nobody knows, and for a codec that is for another entry.
pub(crate) fn find(name: Option<&str>, entries: &[Entry]) -> Result<Option<&'static Codec>, Error> {
    let refuse = |text: String| Err(Error::new(Kind::Unprocessable, text));
    let Some(name) = name else {
        return Ok(entries.contains(&text::CODEC.entry).then_some(&text::CODEC));
    };
    let Some(codec) = CODECS.iter().find(|codec| codec.name == name) else {
        let names: Vec<_> = CODECS.iter().map(|codec| format!("`{}`", codec.name)).collect();
        return refuse(format!("there is no codec `{name}`; there are {}", names.join(", ")));
    };
    if !entries.contains(&codec.entry) {
        let offered: Vec<_> = entries.iter().map(|entry| format!("`{entry}`")).collect();
        return refuse(format!(
            "the codec `{name}` is for the entry `{}`; the artifact offers {}",
            codec.entry,
            offered.join(", ")
        ));
    }
    Ok(Some(codec))
}

/// The entry that a codec is for; none for a name nobody knows.
pub fn entry_of_codec(name: &str) -> Option<Entry> {
    CODECS.iter().find(|codec| codec.name == name).map(|codec| codec.entry)
}

/// Answers an HTTP call through a handler of another entry.
pub(crate) fn handle(
    codec: Option<&'static Codec>,
    handler: Arc<dyn Handler>,
    mut call: Call,
) -> BoxFuture<Result<Reply, Error>> {
    Box::pin(async move {
        let codec = codec.ok_or_else(|| {
            let text =
                "this is a program, and how a request gets into a program must be said: start with --codec wasio, cgi or ignis";
            Error::new(Kind::NoCodec, text)
        })?;
        let Input::Http(request) = std::mem::replace(&mut call.input, Input::Bytes(Bytes::new())) else {
            return Err(Error::new(Kind::Internal, "the call is not HTTP"));
        };
        let (head, body) = request.into_parts();
        let body = body_in_time(body, &call.deadline, &call.module.limits).await?;
        call.input = (codec.request)(&Request { head: &head, via: &call.via }, body)?;
        (codec.response)(handler.handle(call).await?).map(Reply::Http)
    })
}

/// The whole of a call's body, if it comes before the call must have been answered.
pub(crate) async fn body_in_time(body: Body, deadline: &Deadline, limits: &Limits) -> Result<Bytes, Error> {
    let max = limits.body_bytes.min(limits.buffer_bytes);
    let collected = tokio::time::timeout_at(deadline.wall_at.into(), collect(body, max)).await;
    collected.map_err(|_| Error::new(Kind::RequestTimeout, "the request body did not come in time"))?.map_err(|end| match end {
        End::TooLarge => Error::new(Kind::BodyTooLarge, format!("the request body may have at most {max} bytes")),
        End::Broken(BodyError::Timeout) => Error::new(Kind::RequestTimeout, "the request body was silent for too long"),
        End::Broken(error) => Error::new(Kind::BadRequest, "the request body broke off").caused_by(error),
    })
}

/// Why a body is not held in memory.
#[derive(Debug)]
pub(crate) enum End {
    TooLarge,
    Broken(BodyError),
}

/// The whole of a body, up to `max` bytes.
pub(crate) async fn collect(mut body: Body, max: u64) -> Result<Bytes, End> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error {
            BodyError::TooLarge => End::TooLarge,
            other => End::Broken(other),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if (collected.len() + data.len()) as u64 > max {
            return Err(End::TooLarge);
        }
        if collected.is_empty() && body_is_over(&body) {
            return Ok(data);
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

fn body_is_over(body: &Body) -> bool {
    http_body::Body::is_end_stream(body)
}

/// What a program wrote, if it ended well.
fn stdout_of(reply: Reply) -> Result<Bytes, Error> {
    match reply {
        Reply::Command(exit) if exit.code == 0 => Ok(exit.stdout),
        Reply::Command(exit) => {
            Err(Error::new(Kind::GuestExit, "the guest ended its program with an error")
                .internal(format!("exit code {}", exit.code)))
        }
        _ => Err(Error::new(Kind::Internal, "the program gave another's reply")),
    }
}

fn bad_response(detail: impl Into<String>) -> Error {
    Error::new(Kind::BadResponse, "the guest answered with something that is not HTTP").internal(detail)
}

/// Fields as a guest wrote them, checked.
#[derive(Default)]
struct Fields(HeaderMap);

impl Fields {
    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let shown = || String::from_utf8_lossy(name).escape_debug().to_string();
        let name = HeaderName::from_bytes(name).map_err(|_| bad_response(format!("the field name `{}`", shown())))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| bad_response(format!("the value of the field `{name}`")))?;
        self.0.append(name, value);
        Ok(())
    }

    /// The answer with these fields. Framing is the server's, so what the guest says about it is left out.
    fn response(self, status: u16, body: Bytes) -> Result<Response<Body>, Error> {
        // Informational ones are no answer, and those above mean nothing.
        let status = (200..600).contains(&status).then(|| StatusCode::from_u16(status).ok()).flatten();
        let status = status.ok_or_else(|| bad_response("a status out of range"))?;
        let mut headers = self.0;
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
    use super::*;

    /// What codecs are given, from a request line.
    pub(super) fn with_request<T>(
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        test: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let mut request = http::Request::builder().method(method).uri(target).header(header::HOST, "example.com:8080");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let via = Via { route: None, peer: Some("192.0.2.7:5000".parse().expect("an address")) };
        test(&Request { head: &head, via: &via })
    }

    #[test]
    fn a_codec_is_found_by_its_name_and_fits_its_entry() {
        let name = |name, entries: &[Entry]| find(name, entries).map(|codec| codec.map(|codec| codec.name));
        assert_eq!(name(Some("cgi"), &[Entry::Run]).expect("known"), Some("cgi"));
        assert_eq!(name(None, &[Entry::Process]).expect("known"), Some("text"));
        assert_eq!(name(None, &[Entry::Run, Entry::Http]).expect("none needed"), None);
        let wrong = |given, entries: &[Entry]| name(Some(given), entries).expect_err("refused").to_string();
        assert_eq!(wrong("cgl", &[Entry::Run]), "there is no codec `cgl`; there are `ignis`, `wasio`, `cgi`, `text`");
        assert_eq!(wrong("text", &[Entry::Run]), "the codec `text` is for the entry `process`; the artifact offers `run`");
    }

    #[test]
    fn what_is_no_http_never_becomes_a_response() {
        for (name, value) in [("a b", "c"), ("a", "b\r\nc: d"), ("a", "b\nc"), ("a", "b\0"), ("", "b"), ("a\r\nb", "c")] {
            let error = Fields::default().add(name.as_bytes(), value.as_bytes()).expect_err("refused");
            assert_eq!(error.kind, Kind::BadResponse, "{name:?} {value:?}");
        }
        for status in [0, 100, 101, 199, 600, 65535] {
            assert_eq!(Fields::default().response(status, Bytes::new()).expect_err("refused").kind, Kind::BadResponse);
        }
    }

    #[test]
    fn framing_is_the_servers() {
        let mut fields = Fields::default();
        for (name, value) in
            [("content-length", "5"), ("transfer-encoding", "chunked"), ("connection", "x-a"), ("x-a", "1"), ("x-b", "2")]
        {
            fields.add(name.as_bytes(), value.as_bytes()).expect("a field");
        }
        let response = fields.response(200, Bytes::from_static(b"abc")).expect("an answer");
        assert_eq!(response.headers().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-b"]);
    }
}
