//! Requests byte by byte: what is not clearly one request is refused and its connection closed, and what is clear is answered.
//! After each the server goes on.

use std::time::{Duration, Instant};

use testkit::{App, Client, Fornax};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

const HELLO: &str = "Hello from Fornax!\n";

fn serve() -> Fornax {
    let app = App::new()
        .module("hello", "hello-wasip2", "")
        .route("/*", "hello", "")
        .module("echo", "echo", "")
        .route("/echo", "echo", "")
        .module("cgi", "cgi-echo", "codec = \"cgi\"")
        .route("/cgi", "cgi", "")
        .module("inspect", "inspect", "")
        .route("/inspect", "inspect", "");
    Fornax::run(FORNAX, app.write(), &[])
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Open,
    Closed,
}

use Then::{Closed, Open};

/// Sends bytes, and behind them a request that only an open connection may answer.
#[track_caller]
fn check(fornax: &Fornax, bytes: &[u8], status: u16, then: Then) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let mut client = fornax.client();
    // What is refused early need not be taken whole.
    let _ = client.send(bytes);
    let answer = client.read_response("GET").unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    assert_eq!(answer.status, status, "{shown:?}: {}", answer.text());
    if status >= 400 {
        assert_eq!(answer.header("connection") == Some("close"), then == Closed, "{shown:?}: {answer:?}");
    }
    let sent = client.send(b"GET /inspect HTTP/1.1\r\nhost: a\r\n\r\n");
    match then {
        Open => {
            sent.unwrap_or_else(|error| panic!("{shown:?}: {error}"));
            assert_eq!(client.read_response("GET").map(|next| next.status).ok(), Some(200), "{shown:?}");
        }
        Closed => assert_eq!(String::from_utf8_lossy(&client.read_to_end().expect("the end")), "", "{shown:?}"),
    }
    assert_eq!(fornax.client().get("/").text(), HELLO, "after {shown:?}");
}

/// `GET /` with these lines behind the request line.
fn get(lines: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\n", lines, b"\r\n"].concat()
}

/// The same with a good `Host` before them.
fn get_with(lines: &[u8]) -> Vec<u8> {
    get(&[b"host: a\r\n", lines].concat())
}

/// A `POST` whose guest reads its body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /cgi HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}").into_bytes()
}

#[test]
fn a_request_has_one_good_host() {
    let fornax = serve();
    for host in
        ["a", "A.Example", "a.", "a:", "a:80", "a:65535", "a_b", "127.0.0.1", "[::1]", "[::1]:80", "[::ffff:127.0.0.1]", " a\t"]
    {
        check(&fornax, &get(format!("host:{host}\r\n").as_bytes()), 200, Open);
    }
    for host in [
        "",
        " ",
        "a b",
        "a\tb",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "http://a",
        "user@a",
        "user:pw@a",
        "a@",
        ":80",
        "a:65536",
        "a:99999",
        "a:-1",
        "a:+1",
        "a:0x50",
        "a: 80",
        "a :80",
        "a:b",
        "a:80:80",
        "::1",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1]:x",
        "[::1]:80:80",
        "[]",
        "[::g]",
        "[1.2.3.4]",
        "[v1.a]",
        "[fe80::1%25lo]",
        "[fe80::1%lo]",
        "a,b",
        "a, a",
        "a;b",
        "*",
        ".",
        "..",
        "a..b",
        ".a",
        "a%41",
        "%00",
        "<a>",
        "\"a\"",
        "{a}",
        "a|b",
        "a^b",
        "a`b",
        "\u{e4}",
    ] {
        check(&fornax, &get(format!("host: {host}\r\n").as_bytes()), 400, Closed);
    }
    for lines in
        ["", "host: a\r\nhost: a\r\n", "host: a\r\nx: y\r\nHOST: b\r\n", "host:\r\n a\r\n", "host : a\r\n", " host: a\r\n"]
    {
        check(&fornax, &get(lines.as_bytes()), 400, Closed);
    }
    check(&fornax, b"GET / HTTP/1.0\r\n\r\n", 400, Closed);
}

#[test]
fn a_target_is_a_path_of_this_server() {
    let fornax = serve();
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes();
    for target in ["/", "/%00", "/%zz", "/..", "//a/", "http://a/", "HTTP://A/", "http://a:80/", "http://a", "http://a?b"] {
        check(&fornax, &request(target), 200, Open);
    }
    for target in [
        "",
        "a",
        "*",
        "a:80",
        "?a",
        "http://b/",
        "http://a:81/",
        "http://a:99999/",
        "http://user@a/",
        "http://[::1]/",
        "http:///",
        "http://",
        "https://a/",
        "ftp://a/",
        "/a#b",
        "http://a/#b",
        "/a b",
        "/a\tb",
        "/a\0b",
        "/a\x01b",
        "/a\x7fb",
        "/a\rb",
        "/<a>",
    ] {
        check(&fornax, &request(target), 400, Closed);
    }
    for start in ["CONNECT a:80", "CONNECT a", "CONNECT /", "CONNECT http://a/", "OPTIONS *", "GET *"] {
        check(&fornax, format!("{start} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes(), 400, Closed);
    }
    check(&fornax, &request(&format!("/{}", "a".repeat(8 << 10))), 414, Open);
    check(&fornax, &request(&format!("/{}", "a".repeat(70 << 10))), 414, Closed);
}

#[test]
fn a_request_line_has_three_parts() {
    let fornax = serve();
    let rest = "\r\nhost: a\r\n\r\n";
    for line in ["GET / HTTP/1.1", "get / HTTP/1.1", "BREW / HTTP/1.1", "OPTIONS / HTTP/1.1", "TRACE / HTTP/1.1"] {
        check(&fornax, format!("{line}{rest}").as_bytes(), 200, Open);
    }
    check(&fornax, format!("\r\n\r\nGET / HTTP/1.1{rest}").as_bytes(), 200, Open);
    check(&fornax, format!("GET / HTTP/1.0{rest}").as_bytes(), 200, Closed);
    check(&fornax, b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n", 200, Open);
    for line in [
        "GET /",
        "GET / ",
        "GET",
        "GET HTTP/1.1",
        "/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/0.9",
        "GET / HTTP/1.2",
        "GET / HTTP/1.10",
        "GET / HTTP/2.0",
        "GET / HTTP/2",
        "GET / HTTP/3",
        "GET / HTTP/1",
        "GET / HTTP",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP/01.1",
        "G@T / HTTP/1.1",
        "G\x01T / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "\"GET\" / HTTP/1.1",
        "G\u{e4}T / HTTP/1.1",
        "GET /\r HTTP/1.1",
        "GET\r / HTTP/1.1",
    ] {
        check(&fornax, format!("{line}{rest}").as_bytes(), 400, Closed);
    }
    for letters in [65, 10_000, 70_000] {
        check(&fornax, format!("{} / HTTP/1.1{rest}", "X".repeat(letters)).as_bytes(), 400, Closed);
    }
}

#[test]
fn a_line_ends_in_cr_and_lf_and_a_field_is_a_name_and_a_value() {
    let fornax = serve();
    for line in ["x:y", "x: \ty\t ", "x:", "x:y: z", "!#$%&'*+-.^_`|~1aA: y", "x: \u{e4}", "x: a\tb"] {
        check(&fornax, &get_with(format!("{line}\r\n").as_bytes()), 200, Open);
    }
    for byte in (0..=0x1f).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        check(&fornax, &get_with(&[b"x: a", &[byte][..], b"b\r\n"].concat()), 400, Closed);
    }
    for byte in b"\0\x01\t\x0b\x0c \"(),/;<=>?@[\\]{}\x7f\x80\xff".iter() {
        check(&fornax, &get_with(&[b"x", &[*byte][..], b"y: z\r\n"].concat()), 400, Closed);
    }
    for lines in [
        // Folded, and what looks like it.
        "x: y\r\n z\r\n",
        "x: y\r\n\tz\r\n",
        "x:\r\n y\r\n",
        " \r\n",
        "x : y\r\n",
        "x\t: y\r\n",
        ": y\r\n",
        "xy\r\n",
        // CR and LF on their own.
        "x: y\rz\r\n",
        "x: y\r\r\n",
        "x\ry: z\r\n",
        "x: y\n",
        "x: y\nz: a\r\n",
        "\n",
        "x: y\r\n\n",
    ] {
        check(&fornax, &get_with(lines.as_bytes()), 400, Closed);
    }
    for request in [
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\rhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        // To who takes LF for the end of a line this is another request.
        "GET / HTTP/1.1\r\nhost: a\n\nGET /inspect HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\n\nGET /inspect HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        check(&fornax, request.as_bytes(), 400, Closed);
    }
    check(&fornax, &get_with("x: y\r\n".repeat(100).as_bytes()), 431, Closed);
    check(&fornax, &get_with(format!("x: {}\r\n", "y".repeat(66 << 10)).as_bytes()), 431, Open);
    check(&fornax, &get_with(format!("x: {}\r\n", "y".repeat(200 << 10)).as_bytes()), 431, Closed);
    check(&fornax, &get_with("x-a: y\r\n".repeat(30_000).as_bytes()), 431, Closed);
}

#[test]
fn a_body_has_one_length() {
    let fornax = serve();
    for lines in
        ["content-length: 4\r\n", "content-length:4 \r\n", "content-length: 04\r\n", "content-length: 4\r\ncontent-length: 4\r\n"]
    {
        check(&fornax, &post(lines, "body"), 200, Open);
    }
    for length in [
        "",
        "-4",
        "+4",
        "4, 4",
        "4,5",
        "4 4",
        "4.0",
        "4;",
        "0x4",
        "4x",
        "1e1",
        "\"4\"",
        "\u{664}",
        "4\0",
        "4\x0b",
        "99999999999999999999",
        "18446744073709551616",
        "18446744073709551620",
    ] {
        check(&fornax, &post(&format!("content-length: {length}\r\n"), "body"), 400, Closed);
    }
    for length in ["10485761", "9223372036854775808", "18446744073709551613"] {
        check(&fornax, &post(&format!("content-length: {length}\r\n"), "body"), 413, Closed);
    }
    for lines in [
        "content-length: 4\r\ncontent-length: 5\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: identity\r\ncontent-length: 4\r\n",
        "content-length : 4\r\n",
        "x: y\r\n content-length: 4\r\n",
    ] {
        check(&fornax, &post(lines, "body"), 400, Closed);
    }
}

#[test]
fn a_body_comes_in_chunks_and_in_no_other_coding() {
    let fornax = serve();
    let chunks = "4\r\nbody\r\n0\r\n\r\n";
    for coding in ["chunked", "CHUNKED", "\tchunked "] {
        check(&fornax, &post(&format!("transfer-encoding:{coding}\r\n"), chunks), 200, Open);
    }
    check(&fornax, &get_with(format!("transfer-encoding: chunked\r\n\r\n{chunks}").as_bytes())[..], 200, Open);
    for coding in [
        "identity",
        "gzip",
        "chunked, gzip",
        "gzip, chunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;a=b",
        "",
        ",chunked",
        "chunked,",
        "\x0bchunked",
        "\r\n chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "gzip\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: gzip",
        "identity\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: identity",
    ] {
        check(&fornax, &post(&format!("transfer-encoding: {coding}\r\n"), chunks), 400, Closed);
    }
    check(
        &fornax,
        format!("POST /cgi HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}").as_bytes(),
        400,
        Closed,
    );
}

#[test]
fn a_chunk_is_as_long_as_it_says() {
    let fornax = serve();
    let send = |body: &str| post("transfer-encoding: chunked\r\n", body);
    for body in [
        "4\r\nbody\r\n0\r\n\r\n",
        "0000000000000004\r\nbody\r\n000\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "4;a=b;c=\"d;e\"\r\nbody\r\n0;f\r\n\r\n",
        "4\r\nbody\r\n0\r\nx-t: 1\r\n\r\n",
    ] {
        check(&fornax, &send(body), 200, Open);
    }
    for body in [
        "fffffffffffffffff\r\n",
        "11111111111111111\r\n",
        "-4\r\nbody\r\n0\r\n\r\n",
        "+4\r\nbody\r\n0\r\n\r\n",
        "0x4\r\nbody\r\n0\r\n\r\n",
        " 4\r\nbody\r\n0\r\n\r\n",
        "g\r\nbody\r\n0\r\n\r\n",
        "\r\nbody\r\n0\r\n\r\n",
        "4 4\r\nbody\r\n0\r\n\r\n",
        ";a\r\nbody\r\n0\r\n\r\n",
        // Line ends.
        "4\nbody\r\n0\r\n\r\n",
        "4\rbody\r\n0\r\n\r\n",
        "4\r\nbody0\r\n\r\n",
        "4\r\nbody\n0\r\n\r\n",
        "4\r\nbodyx\r\n0\r\n\r\n",
        "4\r\nbody\r\n0\n\n",
        "4;a\nb\r\nbody\r\n0\r\n\r\n",
        "4;a\rb\r\nbody\r\n0\r\n\r\n",
        // Trailers.
        "0\r\nb@d: 1\r\n\r\n",
        "0\r\nx : 1\r\n\r\n",
        "0\r\nx: 1\r\n 2\r\n\r\n",
        "0\r\nx: a\rb\r\n\r\n",
        "0\r\nx: \0\r\n\r\n",
        "0\r\nxy\r\n\r\n",
        "0\r\n: y\r\n\r\n",
    ] {
        check(&fornax, &send(body), 400, Closed);
    }
    // Extensions and trailers are bounded.
    check(&fornax, &send(&format!("4;{}\r\nbody\r\n0\r\n\r\n", "x".repeat(20 << 10))), 400, Closed);
    check(&fornax, &send(&format!("{}0\r\n\r\n", "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nb\r\n".repeat(1000))), 400, Closed);
    check(&fornax, &send(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(2000))), 400, Closed);
    check(&fornax, &send(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(100 << 10))), 400, Closed);
    // What comes behind an end that some take for one, and some do not, is never answered.
    for end in ["0\r\n\n", "0\r\nx: y\n\r\n", "0\r\nx: y\n\n"] {
        for times in 0..3 {
            let mut client = fornax.client();
            let next = "GET /inspect HTTP/1.1\r\nhost: a\r\n\r\n".repeat(times);
            client.send(&[send(end), next.into_bytes()].concat()).expect("sent");
            let statuses: Vec<u16> =
                std::iter::from_fn(|| client.read_response("GET").ok()).map(|answer| answer.status).collect();
            assert_eq!(statuses, [400], "{end:?} and {times} requests");
        }
        // Behind a head that has been looked at already, nothing more is read, and nobody waits for more.
        let (mut client, began) = (fornax.client(), Instant::now());
        let whole = send(end);
        let (head, rest) = whole.split_at(whole.len() - end.len());
        for part in [head, b"4\r\nbody\r\n", rest] {
            client.send(part).expect("sent");
        }
        client.send(b"GET /inspect HTTP/1.1\r\nhost: a\r\n\r\n").ok();
        let statuses: Vec<u16> = std::iter::from_fn(|| client.read_response("POST").ok()).map(|answer| answer.status).collect();
        assert!(
            statuses.len() <= 1 && began.elapsed() < Duration::from_secs(10),
            "{end:?}: {statuses:?} after {:?}",
            began.elapsed()
        );
        assert_eq!(fornax.client().get("/").text(), HELLO);
    }
}

#[test]
fn answers_come_in_order_and_none_behind_a_refusal() {
    let fornax = serve();
    let good = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for (stream, expected) in [
        (good.repeat(3), &[200, 200, 200][..]),
        (format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody{good}"), &[200, 200]),
        // A body that nobody reads, in both framings.
        (format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody{good}"), &[200, 200]),
        (format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n{good}"), &[200, 200]),
        (format!("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n{good}"), &[200, 200]),
        (format!("GET /none HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{good}", good.len()), &[200]),
        (format!("{good}GET / HTTP/1.1\r\n\r\n{good}"), &[200, 400]),
        (format!("{good}GET / HTTP/1.1\nhost: a\r\n\r\n{good}"), &[200, 400]),
        (format!("{good}garbage\r\n\r\n{good}"), &[200, 400]),
        (format!("{good}POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n{good}"), &[200, 400]),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n{good}"), &[200]),
    ] {
        let mut client = fornax.client();
        client.send(stream.as_bytes()).expect("sent");
        client.stream().shutdown(std::net::Shutdown::Write).expect("half of the connection");
        let method = |index| if index == 0 && stream.starts_with("HEAD") { "HEAD" } else { "GET" };
        let answers = (0..).map_while(|index| client.read_response(method(index)).ok());
        let statuses: Vec<u16> = answers.map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{stream:?}");
        assert_eq!(fornax.client().get("/").text(), HELLO);
    }
}

#[test]
fn fields_of_one_connection_go_no_further() {
    let fornax = serve();
    let fields = [
        ("Connection", "X-Foo, close, host, x-bar"),
        ("X-Foo", "1"),
        ("X-Bar", "2"),
        ("Keep-Alive", "3"),
        ("Proxy-Connection", "4"),
        ("Proxy-Authorization", "5"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "6"),
        ("X-Kept", "7"),
    ];
    let answer = fornax.client().request("GET", "/inspect", &fields, testkit::Body::None);
    assert_eq!((answer.status, answer.header("connection"), answer.header("upgrade")), (200, Some("close"), None));
    let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(told["headers"], serde_json::json!([["sec-websocket-key", "6"], ["x-kept", "7"]]));
    // What a guest says about the connection is not said either.
    let query = ["Connection:X-Own", "X-Own:1", "Keep-Alive:2", "Upgrade:h2c", "Proxy-Connection:3", "X-Left:4"].join("&header=");
    let answer = fornax.client().get(&format!("/cgi?header={query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = |name| answer.header(name);
    assert_eq!(["connection", "keep-alive", "upgrade", "proxy-connection", "x-own"].map(said), [None; 5], "{answer:?}");
    assert_eq!(said("x-left"), Some("4"));
    let upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n";
    check(&fornax, &get_with(upgrade), 200, Open);
}

/// What the client is told before it sends its body, if anything, and the answer.
fn expecting(fornax: &Fornax, path: &str, version: &str, expectation: &str, length: usize) -> (Option<u16>, u16, Client) {
    let mut client = fornax.client();
    let head = format!("POST {path} HTTP/{version}\r\nhost: a\r\nexpect: {expectation}\r\ncontent-length: {length}\r\n\r\n");
    client.send(head.as_bytes()).expect("sent");
    let first = client.read_head().expect("an answer").status;
    if first != 100 {
        return (None, first, client);
    }
    client.send(&vec![b'x'; length]).expect("sent");
    let answer = client.read_response("POST").expect("an answer");
    (Some(first), answer.status, client)
}

#[test]
fn a_body_is_asked_for_when_somebody_reads_it() {
    let fornax = serve();
    for expectation in ["100-continue", "100-Continue"] {
        let (asked, status, _) = expecting(&fornax, "/cgi", "1.1", expectation, 4);
        assert_eq!((asked, status), (Some(100), 200));
    }
    // Nobody reads it: it is not asked for, and not waited for.
    for (path, length, status) in [("/", 4, 200), ("/cgi", 99_999_999, 413)] {
        let (asked, answered, mut client) = expecting(&fornax, path, "1.1", "100-continue", length);
        assert_eq!((asked, answered), (None, status), "{path}");
        let rest = String::from_utf8_lossy(&client.read_to_end().expect("the end")).into_owned();
        assert!(!rest.contains("HTTP/1.1"), "{rest}");
    }
    for expectation in ["200-ok", "100-continue, 200-ok", "100-continue;a", ""] {
        let (asked, status, _) = expecting(&fornax, "/cgi", "1.1", expectation, 4);
        assert_eq!((asked, status), (None, 417), "{expectation:?}");
    }
    // HTTP/1.0 knows no such thing.
    let mut client = fornax.client();
    client.send(b"POST /cgi HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody").expect("sent");
    assert_eq!(client.read_head().expect("an answer").status, 200);
    assert_eq!(fornax.client().get("/").text(), HELLO);
}

#[test]
fn trailers_say_nothing_that_belongs_in_front() {
    let fornax = serve();
    let mut client = fornax.client();
    let names =
        ["x-t", "content-length", "host", "authorization", "cookie", "x-forwarded-for", "transfer-encoding", "connection"];
    let trailers: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let announced = names.join(", ");
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: {announced}\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(format!("{head}4\r\nbody\r\n0\r\n{trailers}\r\n").as_bytes()).expect("sent");
    let answer = client.read_response("POST").expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
    assert_eq!(answer.trailers, [("x-t".to_owned(), "1".to_owned())]);
    assert_eq!(client.get("/").text(), HELLO, "the connection goes on");
}
