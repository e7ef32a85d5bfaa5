//! HTTP requests of core modules, in JSON and in protobuf.

use std::collections::BTreeMap;
use std::fmt;

use base::Limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use wasmtime::Caller;

use super::MESSAGE_BYTES_MAX;
use crate::codec::{Fields, collect, ignis};
use crate::outbound::log_failure;
use crate::state::State;

/// Go writes what is empty as `null`.
#[derive(Deserialize)]
struct Asked {
    method: Option<String>,
    url: String,
    headers: Option<AskedFields>,
    /// Base64.
    body: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    status_code: u16,
    headers: BTreeMap<String, Vec<String>>,
    body: String,
}

/// The answer to a request in JSON, of at most `room` bytes; none where the request makes no sense or fails.
pub(super) async fn json(caller: &mut Caller<'_, State>, message: &[u8], room: u32) -> Option<Vec<u8>> {
    let asked: Asked = serde_json::from_slice(message).ok()?;
    let method = asked.method.filter(|method| !method.is_empty()).unwrap_or_else(|| "GET".to_owned());
    let body = Bytes::from(STANDARD.decode(asked.body.unwrap_or_default()).ok()?);
    let mut request = Request::builder().method(method.as_str()).uri(&asked.url).body(body).ok()?;
    if let Some(fields) = asked.headers {
        *request.headers_mut() = fields.up_to(caller.data().active().module.limits.fields_bytes)?;
    }
    // In base64 three bytes become four.
    let (head, body) = send(caller, request, u64::from(room) / 4 * 3).await?;
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(ignis::train_case(name.as_str())).or_default().push(value);
    }
    serde_json::to_vec(&Answer { status_code: head.status.as_u16(), headers, body: STANDARD.encode(&body) }).ok()
}

/// The same in protobuf.
pub(super) async fn protobuf(caller: &mut Caller<'_, State>, message: &[u8]) -> Option<Vec<u8>> {
    let request = ignis::decode_request(message, caller.data().active().module.limits.fields_bytes)?;
    let (head, body) = send(caller, request, u64::from(MESSAGE_BYTES_MAX)).await?;
    Some(ignis::encode_response(&head, &body))
}

/// Sends a request and takes its whole answer, up to `bytes_max`.
async fn send(
    caller: &mut Caller<'_, State>,
    mut request: Request<Bytes>,
    bytes_max: u64,
) -> Option<(http::response::Parts, Bytes)> {
    let active = caller.data().active();
    let _place = caller.data_mut().core().outside.budget.take()?;
    if let Some(trace) = &active.trace {
        request.headers_mut().entry("traceparent").or_insert_with(|| trace.clone());
    }
    // The body is here whole: its length is known, whatever the guest says of it.
    request.headers_mut().remove(http::header::CONTENT_LENGTH);
    let host = request.uri().host().map(str::to_owned);
    let sent = active.core.egress.send(&active.equipment.policy, request.map(Full::new), egress::Options::default()).await;
    let response: Response<base::Body> = match sent {
        Ok(response) => response,
        Err(error) => {
            log_failure(&active.equipment, Some(active.id), host.as_deref(), &error);
            return None;
        }
    };
    let (head, body) = response.into_parts();
    Some((head, collect(body, bytes_max).await.ok()?))
}

/// Fields in JSON: each name has a value, a list of values, or `null`. Checked and counted one by one as they are read: a list
/// of empty values is a few bytes each as text, and many more in memory.
struct AskedFields(Fields);

impl Default for AskedFields {
    fn default() -> Self {
        // The module's own limit is known to who reads them.
        Self(Fields::up_to(Limits::CAPS.fields_bytes))
    }
}

impl AskedFields {
    /// If they have no more bytes than that.
    fn up_to(self, bytes_max: u32) -> Option<HeaderMap> {
        (self.0.bytes() <= bytes_max as usize).then(|| self.0.into_map())
    }
}

impl<'de> Deserialize<'de> for AskedFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for AskedFields {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Values { name: &name, fields: &mut self.0 })?;
        }
        Ok(self)
    }
}

/// What is said of one name.
struct Values<'a> {
    name: &'a str,
    fields: &'a mut Fields,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of texts or null")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.fields.add(self.name.as_bytes(), value.as_bytes()).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while let Some(value) = values.next_element::<String>()? {
            self.fields.add(self.name.as_bytes(), value.as_bytes()).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Option<Vec<(String, String)>> {
        let asked: Asked = serde_json::from_str(&format!(r#"{{"url": "http://a/", "headers": {json}}}"#)).ok()?;
        let map = asked.headers.unwrap_or_default().up_to(Limits::default().fields_bytes)?;
        Some(map.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect())
    }

    #[test]
    fn fields_are_one_value_or_many() {
        let expected = [("x-a", "1"), ("x-b", "2"), ("x-b", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(r#"{"X-A": "1", "x-b": ["2", "3"], "x-c": [], "x-d": null}"#).as_deref(), Some(&expected[..]));
        assert_eq!(fields("null"), Some(Vec::new()));
        for bad in [r#"{"x y": "1"}"#, r#"{"x": "a\r\nb: c"}"#, r#"{"x": 1}"#, r#"{"x": [["1"]]}"#, r#"["x"]"#] {
            assert_eq!(fields(bad), None, "{bad}");
        }
    }

    #[test]
    fn fields_over_their_limit_are_refused_and_not_kept() {
        let many: Vec<_> = (0..25_000).map(|n| format!(r#""x-{n}": "1""#)).collect();
        let empty = vec![r#""""#; 1 << 20].join(",");
        for json in [
            format!("{{{}}}", many.join(",")),
            format!(r#"{{"x": [{empty}]}}"#),
            format!(r#"{{"x": "{}"}}"#, "x".repeat(128 << 10)),
        ] {
            assert_eq!(fields(&json), None, "{} bytes", json.len());
        }
    }
}
