//! `text`: plugins behind HTTP. The body goes in, or the parameter `input`; the lines that were logged come out, with the
//! return code beside them.

use base::{Body, Entry, Error, Input, Kind, Output, Reply};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};

use super::{Codec, Request};

pub(super) const CODEC: Codec = Codec { name: "text", entry: Entry::Process, request, response };

/// Carries what `process` returned.
const RETURN_CODE: HeaderName = HeaderName::from_static("fornax-return-code");

/// The parameter that stands for a body.
const INPUT: &str = "input";

fn request(request: &Request<'_>, body: Bytes) -> Result<Input, Error> {
    Ok(Input::Bytes(input(request, body)))
}

/// The body, or what the query says in place of one.
pub(crate) fn input(request: &Request<'_>, body: Bytes) -> Bytes {
    if !body.is_empty() {
        return body;
    }
    let input = request.query_pairs().find(|(name, _)| name == INPUT).map(|(_, value)| value);
    input.unwrap_or_default().into()
}

fn response(reply: Reply, _fields_max: u32) -> Result<Response<Body>, Error> {
    let Reply::Bytes(Output { text, code }) = reply else {
        return Err(Error::new(Kind::Internal, "the plugin gave another's reply"));
    };
    let mut response = Response::new(Body::from(Bytes::from(text)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(RETURN_CODE, HeaderValue::from(code));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_request;
    use super::*;

    fn input(target: &str, body: &'static str) -> Bytes {
        let input = with_request("POST", target, &[], |head| request(head, Bytes::from_static(body.as_bytes())));
        let Ok(Input::Bytes(bytes)) = input else { panic!("bytes") };
        bytes
    }

    #[test]
    fn the_body_goes_before_the_parameter() {
        assert_eq!(input("/?input=a+b%21", ""), "a b!");
        assert_eq!(input("/?input=a", "body"), "body");
        assert_eq!(input("/?other=a", ""), "");
    }

    #[test]
    fn the_code_stands_beside_the_lines() {
        let response = response(Reply::Bytes(Output { text: "one\ntwo".to_owned(), code: -2 }), 128 << 10).expect("an answer");
        assert_eq!((response.status().as_u16(), &response.headers()[RETURN_CODE]), (200, &HeaderValue::from_static("-2")));
    }
}
