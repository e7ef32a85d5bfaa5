//! `wasio`: one JSON object on standard input; all of standard output is the body.
//!
//! Programs written for WASIO read `params` and `seed`; the other keys are ours, and such programs pass over them.

use std::collections::BTreeMap;

use base::{Body, Entry, Error, Input, Kind, Reply, Stdio};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Response, header};
use serde::Serialize;

use super::{Codec, Fields, Request, sniff, stdout_of};

pub(super) const CODEC: Codec = Codec { name: "wasio", entry: Entry::Run, request, response };

#[derive(Serialize)]
struct Payload<'a> {
    /// The first value of each parameter of the query.
    params: BTreeMap<String, String>,
    /// Another for each call.
    seed: i64,
    method: &'a str,
    path: &'a str,
    headers: BTreeMap<&'a str, String>,
    body: String,
    /// `base64` for a body that is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    query: BTreeMap<String, Vec<String>>,
    /// The parameters of the route's path.
    route: BTreeMap<&'a str, String>,
}

fn request(request: &Request<'_>, body: Bytes) -> Result<Input, Error> {
    let mut params = BTreeMap::new();
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.query_pairs() {
        params.entry(name.clone()).or_insert_with(|| value.clone());
        query.entry(name).or_default().push(value);
    }
    let (body, body_encoding) = match std::str::from_utf8(&body) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (STANDARD.encode(&body), Some("base64")),
    };
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let route = request.via.route.as_ref();
    let payload = Payload {
        params,
        seed: (rand::random::<u64>() >> 1).cast_signed(),
        method: request.head.method.as_str(),
        path: request.path(),
        headers: joined(&request.head.headers),
        body,
        body_encoding,
        query,
        route: route
            .map(|route| route.path.parameters(request.path()).map(|(name, value)| (name, decoded(value))).collect())
            .unwrap_or_default(),
    };
    let json = serde_json::to_vec(&payload)
        .map_err(|error| Error::new(Kind::Internal, "the request cannot be written as JSON").caused_by(error))?;
    Ok(Input::Command(base::Command { args: Vec::new(), env: Vec::new(), stdio: Stdio::Buffered(json.into()) }))
}

/// Each field's values in one text.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match joined.get_mut(name.as_str()) {
            Some(text) => *text = format!("{text}, {value}"),
            None => drop(joined.insert(name.as_str(), value.into_owned())),
        }
    }
    joined
}

fn response(reply: Reply, fields_max: u32) -> Result<Response<Body>, Error> {
    let body = stdout_of(reply)?;
    let mut fields = Fields::up_to(fields_max);
    fields.add(header::CONTENT_TYPE.as_str().as_bytes(), sniff::content_type(&body).as_bytes())?;
    fields.response(200, body)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::with_request;
    use super::*;

    fn stdin(method: &str, target: &str, body: &'static [u8]) -> String {
        let input = with_request(method, target, &[("x-a", "1"), ("x-a", "2")], |head| request(head, Bytes::from_static(body)));
        let Ok(Input::Command(base::Command { stdio: Stdio::Buffered(stdin), .. })) = input else { panic!("a command") };
        String::from_utf8(stdin.into()).expect("JSON is text")
    }

    #[test]
    fn a_request_is_one_object_without_a_line_end() {
        let text = stdin("POST", "/a%20b?name=Ann&name=Bob&x=%C3%A4+", b"hi");
        assert!(text.starts_with(r#"{"params":{"#) && text.ends_with('}'), "{text}");
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        assert!(value["seed"].take().as_i64().is_some_and(|seed| seed >= 0));
        let expected = json!({
            "params": {"name": "Ann", "x": "ä "}, "seed": null, "method": "POST", "path": "/a%20b",
            "headers": {"host": "example.com:8080", "x-a": "1, 2"}, "body": "hi",
            "query": {"name": ["Ann", "Bob"], "x": ["ä "]}, "route": {},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_body_that_is_no_text_is_encoded() {
        let value: Value = serde_json::from_str(&stdin("POST", "/", b"\xff\x00")).expect("JSON");
        assert_eq!((&value["body"], &value["body_encoding"]), (&json!("/wA="), &json!("base64")));
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(stdin("GET", "/", b""), stdin("GET", "/", b""));
    }
}
