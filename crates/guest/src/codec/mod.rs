//! How an HTTP request gets into an entry that is not HTTP, and its answer out: one file each.
//!
//! A codec is two functions between HTTP and what the entry takes and gives; it reads no socket and starts no guest. Nothing
//! about an artifact says which codec it was written for, so the configuration does.

mod cgi;
mod fields;
pub(crate) mod ignis;
mod protobuf;
pub(crate) mod sniff;
pub(crate) mod text;
mod wasio;

use std::sync::Arc;

use base::{Body, BodyError, BoxFuture, Call, Deadline, Entry, Error, Handler, Input, Kind, Limits, Reply, Via};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Response, header};
use http_body_util::BodyExt;

pub(crate) use self::fields::Fields;

/// One format.
pub(crate) struct Codec {
    /// The value of `codec`.
    pub(crate) name: &'static str,
    /// The entry it is for.
    pub(crate) entry: Entry,
    request: fn(&Request<'_>, Bytes) -> Result<Input, Error>,
    /// With the bytes that its fields may have.
    pub(crate) response: fn(Reply, u32) -> Result<Response<Body>, Error>,
}

/// Every codec.
pub(crate) const CODECS: &[Codec] = &[ignis::CODEC, wasio::CODEC, cgi::CODEC, text::CODEC];

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
        let fields_max = call.module.limits.fields_bytes;
        (codec.response)(handler.handle(call).await?, fields_max).map(Reply::Http)
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

/// As much of a guest's bytes as a log line is the better for.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).escape_debug().to_string();
    if bytes.len() > SHOWN_BYTES_MAX { shown + "…" } else { shown }
}

fn bad_response(detail: impl Into<String>) -> Error {
    Error::new(Kind::BadResponse, "the guest answered with something that is not HTTP").internal(detail)
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
        let via = Via { peer: Some("192.0.2.7:5000".parse().expect("an address")), ..Via::default() };
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
}
