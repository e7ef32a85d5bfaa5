//! The HTTP edge: what is not HTTP, or not within its limits, is refused, and the server goes on.

use std::time::{Duration, Instant};

use testkit::{App, Client, Fornax, Response};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

fn serve() -> Fornax {
    let app = App::new()
        .module("hello", "hello-wasip2", "")
        .route("/*", "hello", "")
        .module("echo", "echo", "")
        .route("/echo", "echo", "")
        .module("trap", "hostile-trap", "")
        .route("/trap", "trap", "");
    Fornax::run(FORNAX, app.write(), &[])
}

/// Sends bytes on a connection of their own.
fn raw(fornax: &Fornax, bytes: &[u8]) -> (Response, Client) {
    let mut client = fornax.client();
    // What is refused early need not be taken whole.
    let _ = client.send(bytes);
    let response = client
        .read_response("GET")
        .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&bytes[..60.min(bytes.len())])));
    (response, client)
}

#[track_caller]
fn assert_serves(fornax: &Fornax) {
    assert_eq!(fornax.client().get("/").text(), "Hello from Fornax!\n");
}

/// An error body is ours, or there is none; either way it tells nothing about this machine.
#[track_caller]
fn assert_discreet(response: &Response) {
    let text = response.text();
    assert!(text.is_empty() || text.starts_with(r#"{"type":""#), "{text}");
    for word in ["backtrace", "/work", "/tmp", "/home", "/usr", ".wasm", ".rs", "127.0.0.1", "panicked"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

#[test]
fn requests_that_are_not_well_formed_are_400() {
    let fornax = serve();
    for bytes in [
        // Host: exactly one, and good.
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: http://a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: \xff\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n",
        b"GET https://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: :80\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 00000000000000000000000000000000000000000000000000004\r\n\r\nbody",
        // Framing: one, and clear.
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: five\r\n\r\nhello",
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nhello",
        // Heads that are none.
        b"garbage\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nbad header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: nul\0\r\n\r\n",
        b"G\x01T / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let shown = String::from_utf8_lossy(bytes);
        let (response, mut client) = raw(&fornax, bytes);
        assert_eq!(response.status, 400, "{shown:?}: {}", response.text());
        assert_discreet(&response);
        // Nobody knows where the next request would begin.
        assert_eq!(client.read_to_end().expect("the end"), b"", "{shown:?}");
        assert_serves(&fornax);
    }
}

#[test]
fn a_chunked_body_that_is_none_never_becomes_a_good_answer() {
    let fornax = serve();
    for body in ["zz\r\n", "5\r\nhel\r\n0\r\n\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "5;\nhello\r\n0\r\n\r\n"] {
        let mut client = fornax.client();
        let head = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}").as_bytes()).expect("sent");
        // The echo has sent its head before it reads: then the answer breaks off.
        if let Ok(response) = client.read_response("POST") {
            assert!(response.status == 400 || response.truncated, "{body:?}: {response:?}");
        }
        assert_serves(&fornax);
    }
}

#[test]
fn targets_over_8_kib_are_414() {
    let fornax = serve();
    for bytes in [(8 << 10) + 1, 20_000, 66_000] {
        let (response, _) = raw(&fornax, format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(bytes - 1)).as_bytes());
        assert_eq!(response.status, 414, "{bytes}");
        assert_discreet(&response);
        assert_serves(&fornax);
    }
    let mut client = fornax.client();
    assert_eq!(client.get(&format!("/{}", "x".repeat((8 << 10) - 1))).status, 200);
    assert_eq!(client.get(&format!("/?{}", "x".repeat((8 << 10) - 2))).status, 200, "the query counts too");
    assert_eq!(client.get(&format!("/?{}", "x".repeat((8 << 10) - 1))).status, 414);
}

#[test]
fn headers_over_64_kib_or_100_are_431() {
    let fornax = serve();
    let fields = |count: usize, bytes: usize| -> String {
        (0..count).map(|index| format!("x-{index}: {}\r\n", "v".repeat(bytes))).collect()
    };
    let request = |fields: String| format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    for (name, fields) in [
        ("100 and Host", fields(100, 1)),
        ("500", fields(500, 1)),
        ("one of 66 KiB", fields(1, 66 << 10)),
        ("10 of 7 KiB", fields(10, 7 << 10)),
        ("1 MiB", fields(16, 64 << 10)),
    ] {
        let (response, _) = raw(&fornax, request(fields).as_bytes());
        assert_eq!(response.status, 431, "{name}");
        assert_discreet(&response);
        assert_serves(&fornax);
    }
    for (name, fields) in
        [("99 and Host", fields(99, 1)), ("one of 60 KiB", fields(1, 60 << 10)), ("9 of 6 KiB", fields(9, 6 << 10))]
    {
        let (response, _) = raw(&fornax, request(fields).as_bytes());
        assert_eq!(response.status, 200, "{name}: {}", response.text());
    }
}

#[test]
fn a_head_that_does_not_end_is_408() {
    let fornax = serve();
    let mut client = fornax.client();
    let begun = Instant::now();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-half: ").expect("sent");
    let response = client.read_response("GET").expect("an answer");
    let took = begun.elapsed();
    assert_eq!(response.status, 408);
    assert!(took >= Duration::from_millis(4900) && took < Duration::from_secs(8), "{took:?}");
    assert_discreet(&response);
    assert_eq!(client.read_to_end().expect("the end"), b"");
    assert_serves(&fornax);
}

#[test]
fn other_protocols_and_versions_get_no_answer_of_a_guest() {
    let fornax = serve();
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
    ] {
        let mut client = fornax.client();
        client.send(bytes).expect("sent");
        if let Ok(response) = client.read_response("GET") {
            assert!(response.status >= 400, "{:?}: {response:?}", String::from_utf8_lossy(bytes));
            assert_discreet(&response);
        }
        assert_serves(&fornax);
    }
}

#[test]
fn a_request_smuggled_behind_a_refused_one_is_never_answered() {
    let fornax = serve();
    for first in [
        "GET / HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "\r\nPOST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = fornax.client();
        client.send(format!("{first}GET /trap HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).expect("sent");
        let all = String::from_utf8_lossy(&client.read_to_end().expect("the end")).into_owned();
        assert!(all.starts_with("HTTP/1.1 400 ") && all.matches("HTTP/1.1 ").count() == 1, "{first:?}: {all}");
    }
}

#[test]
fn an_error_tells_the_client_an_id_and_the_log_the_rest() {
    let fornax = serve();
    let response = fornax.client().get("/trap");
    assert_eq!(response.status, 502);
    assert_discreet(&response);
    let error: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(error["type"], "trap");
    let keys: Vec<_> = error.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["message", "request", "type"]);
    let id = error["request"].as_str().expect("an id");
    fornax.wait_for_log(|line| line.contains(id) && line.contains("trap"), Duration::from_secs(20));
    assert_serves(&fornax);
}

#[test]
fn no_length_hides_the_next_request_from_the_check() {
    let fornax = serve();
    let zeros = "0".repeat(50);
    let both = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let chunked = format!("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{zeros}5\r\nhello\r\n0\r\n\r\n");
    let mut client = fornax.client();
    client.send(format!("{chunked}{both}").as_bytes()).expect("bytes are taken");
    // hyper may read such a size or not; what follows is never answered as if nothing were unclear.
    let first = client.read_response("POST").expect("an answer");
    if first.status == 200 {
        assert_eq!(client.read_response("POST").map(|second| second.status).unwrap_or(400), 400);
    }
    assert_eq!(client.read_to_end().unwrap_or_default(), b"");
    assert_serves(&fornax);
}

#[test]
fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let fornax = serve();
    for request in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nping"]
    {
        let mut client = fornax.client();
        client.send(request).expect("a request is taken");
        client.stream().shutdown(std::net::Shutdown::Write).expect("half of the connection");
        let response = client.read_response("GET").expect("an answer");
        assert_eq!((response.status, response.truncated), (200, false));
        assert_eq!(client.read_to_end().expect("then the end"), b"");
    }
}

#[test]
fn metrics_say_what_they_are_written_in_and_own_pages_which_methods_they_take() {
    let app = App::new().server("metrics = \"/metrics\"\nhealth = \"/healthz\"").module("hello", "hello-wasip2", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let metrics = fornax.client().get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(metrics.text().ends_with("# EOF\n"));
    let refused = fornax.client().request("POST", "/healthz", &[], testkit::Body::None);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    // As everywhere: a request that is not clearly one is not followed by another.
    for path in ["/metrics", "/healthz", "/healthz/ready"] {
        for hosts in ["", "host: a\r\nhost: a\r\n", "host: a/b\r\n"] {
            let (response, mut client) = raw(&fornax, format!("GET {path} HTTP/1.1\r\n{hosts}\r\n").as_bytes());
            assert_eq!((response.status, response.header("connection")), (400, Some("close")), "{path} {hosts:?}");
            assert_eq!(client.read_to_end().expect("the end"), b"", "{path} {hosts:?}");
        }
    }
}
