//! `cgi`: CGI/1.1 (RFC 3875). The request's head is in the environment, its body on standard input; the answer is fields, an
//! empty line, and a body.

use base::{Body, Command, Entry, Error, Input, Kind, Reply, Stdio};
use bytes::Bytes;
use http::uri::Scheme;
use http::{Response, header};

use super::{Codec, Fields, Request, bad_response, shown, stdout_of};

pub(super) const CODEC: Codec = Codec { name: "cgi", entry: Entry::Run, request, response };

/// What every script is told, whatever the request.
const SOFTWARE: &str = concat!("fornax/", env!("CARGO_PKG_VERSION"));

/// Fields that are not passed on as `HTTP_…`: two have variables of their own, two hold credentials the server is meant to
/// keep (RFC 3875, 4.1.18), and `HTTP_PROXY` would be taken for the configuration of a proxy.
const WITHHELD: [&str; 5] = ["content-type", "content-length", "authorization", "proxy-authorization", "proxy"];

fn request(request: &Request<'_>, body: Bytes) -> Result<Input, Error> {
    let head = request.head;
    let (script, below) = request.split();
    let authority = request.authority();
    let is_https = head.uri.scheme() == Some(&Scheme::HTTPS);
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (authority, if is_https { "443" } else { "80" }),
    };
    let peer = request.via.peer;
    let mut env: Vec<(String, String)> = Vec::with_capacity(24 + head.headers.len());
    let mut set = |name: &str, value: String| {
        // A program's environment cannot hold a zero byte.
        if !value.contains('\0') {
            env.push((name.to_owned(), value));
        }
    };
    set("GATEWAY_INTERFACE", "CGI/1.1".to_owned());
    set("SERVER_SOFTWARE", SOFTWARE.to_owned());
    set("SERVER_PROTOCOL", format!("{:?}", head.version));
    if is_https {
        // As every server has it since Apache's; RFC 3875 knows no word for it.
        set("HTTPS", "on".to_owned());
    }
    set("SERVER_NAME", name.to_owned());
    set("SERVER_PORT", port.to_owned());
    set("REQUEST_METHOD", head.method.as_str().to_owned());
    set("REQUEST_URI", head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned());
    set("SCRIPT_NAME", decoded(script));
    set("PATH_INFO", decoded(below));
    set("QUERY_STRING", request.query().to_owned());
    if let Some(peer) = peer {
        set("REMOTE_ADDR", peer.ip().to_string());
        set("REMOTE_HOST", peer.ip().to_string());
        if peer.port() != 0 {
            set("REMOTE_PORT", peer.port().to_string());
        }
    }
    if !body.is_empty() || head.headers.contains_key(header::CONTENT_LENGTH) {
        set("CONTENT_LENGTH", body.len().to_string());
    }
    if let Some(value) = head.headers.get(header::CONTENT_TYPE) {
        set("CONTENT_TYPE", String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    for name in head.headers.keys().filter(|name| is_passed_on(name.as_str())) {
        let values: Vec<_> = head.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let separator = if *name == header::COOKIE { "; " } else { ", " };
        set(&format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_")), values.join(separator));
    }
    Ok(Input::Command(Command { args: Vec::new(), env, stdio: Stdio::Buffered(body) }))
}

/// `X-A` and `X_A` would be one variable, and who checks the first may be shown the second: so the second is left out, as other
/// servers do.
fn is_passed_on(name: &str) -> bool {
    !WITHHELD.contains(&name) && !name.contains('_')
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn response(reply: Reply, fields_max: u32) -> Result<Response<Body>, Error> {
    let stdout = stdout_of(reply)?;
    if stdout.is_empty() {
        return Err(Error::new(Kind::NoResponse, "the guest ended without an answer"));
    }
    let (mut fields, mut status, mut rest) = (Fields::up_to(fields_max), None, &stdout[..]);
    loop {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(bad_response("no empty line ends the fields"));
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(bad_response(format!("a line that is no field: `{}`", shown(line))));
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"status") {
            status = Some(code(value).ok_or_else(|| bad_response("a status that is no number"))?);
        } else {
            fields.add(name, value)?;
        }
    }
    let redirects = fields.has(&header::LOCATION);
    if status.is_none() && !redirects && !fields.has(&header::CONTENT_TYPE) {
        return Err(bad_response("none of the fields Content-Type, Location and Status (RFC 3875, 6.2)"));
    }
    let status = status.unwrap_or(if redirects { 302 } else { 200 });
    let body = stdout.slice_ref(rest);
    fields.response(status, body)
}

/// `404 Not Found`, or the number alone.
fn code(value: &[u8]) -> Option<u16> {
    let number = value.split(|byte| *byte == b' ').next()?;
    (number.len() == 3).then(|| std::str::from_utf8(number).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use base::Exit;

    use super::super::tests::with_request;
    use super::*;

    fn answer(stdout: &str) -> Result<(u16, String, Vec<String>), Kind> {
        let reply = Reply::Command(Exit { code: 0, stdout: Bytes::copy_from_slice(stdout.as_bytes()) });
        let response = response(reply, 128 << 10).map_err(|error| error.kind)?;
        let fields = response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
        let fields = fields.collect();
        let status = response.status().as_u16();
        let Body::Full(body) = response.into_body() else { return Ok((status, String::new(), fields)) };
        Ok((status, String::from_utf8_lossy(&body).into_owned(), fields))
    }

    #[test]
    fn the_head_is_in_the_environment() {
        let fields = [
            ("content-type", "text/plain"),
            ("x-two", "1"),
            ("x-two", "2"),
            ("x_two", "3"),
            ("proxy", "evil"),
            ("authorization", "secret"),
        ];
        let input = with_request("POST", "/a%20b/c?x=1&y", &fields, |head| request(head, Bytes::from_static(b"body")));
        let Ok(Input::Command(Command { env, stdio: Stdio::Buffered(stdin), .. })) = input else { panic!("a command") };
        assert_eq!(stdin, "body");
        let expected = [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_SOFTWARE", SOFTWARE),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "example.com"),
            ("SERVER_PORT", "8080"),
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a%20b/c?x=1&y"),
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", "/a b/c"),
            ("QUERY_STRING", "x=1&y"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_HOST", "192.0.2.7"),
            ("REMOTE_PORT", "5000"),
            ("CONTENT_LENGTH", "4"),
            ("CONTENT_TYPE", "text/plain"),
            ("HTTP_HOST", "example.com:8080"),
            ("HTTP_X_TWO", "1, 2"),
        ];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_secure_request_is_told_by_its_target() {
        let input = with_request("GET", "https://example.com/a", &[], |head| request(head, Bytes::new()));
        let Ok(Input::Command(Command { env, .. })) = input else { panic!("a command") };
        let value = |wanted: &str| env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let names = ["HTTPS", "SERVER_NAME", "SERVER_PORT", "REQUEST_URI"];
        assert_eq!(names.map(value), [Some("on"), Some("example.com"), Some("443"), Some("/a")]);
    }

    #[test]
    fn fields_end_at_an_empty_line() {
        let fields = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            answer("Content-Type: text/plain\n\nbody\n\nmore"),
            Ok((200, "body\n\nmore".to_owned(), fields(&["content-type: text/plain"])))
        );
        assert_eq!(answer("Status: 404 Not Found\r\nX-A:1\r\n\r\ngone"), Ok((404, "gone".to_owned(), fields(&["x-a: 1"]))));
        assert_eq!(answer("Location: /else\n\n"), Ok((302, String::new(), fields(&["location: /else"]))));
        assert_eq!(answer("Status: 204\n\nignored"), Ok((204, String::new(), Vec::new())));
    }

    #[test]
    fn what_is_no_answer_is_the_guests_fault() {
        assert_eq!(answer(""), Err(Kind::NoResponse));
        for stdout in [
            "hello",
            "hello\n\nbody",
            "X-A: 1\n\nbody",
            "Content-Type: text/plain\n",
            "Status: abc\n\n",
            "Status: 99\n\n",
            "Status: 999\n\n",
            "Content-Type: a\rb\n\n",
            "a b: c\nStatus: 200\n\n",
            ": c\nStatus: 200\n\n",
        ] {
            assert_eq!(answer(stdout), Err(Kind::BadResponse), "{stdout:?}");
        }
    }
}
