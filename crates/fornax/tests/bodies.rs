//! Request and response bodies through both generations of wasi:http: every framing, trailers, sizes, limits, interleaving.

use std::time::Duration;

use testkit::{App, Body, Client, Fornax, guest, wire};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// Route of each way to echo: over 0.2, over 0.3 with the host's own stream handed back, over 0.3 chunk by chunk.
const ECHOES: &[&str] = &["/echo/a?b=c", "/echo3/a?b=c", "/echo3/a?copy"];

fn serve(limits: &str) -> Fornax {
    let app = App::new()
        .module("echo", "echo", limits)
        .route("/echo/*", "echo", "")
        .module("echo3", "echo3", limits)
        .route("/echo3/*", "echo3", "")
        .module("hello", "hello-wasip2", limits)
        .route("/hello", "hello", "");
    Fornax::run(FORNAX, app.write(), &[])
}

/// Bytes in which a lost, doubled or moved piece shows.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn every_framing_is_echoed_on_one_connection() {
    let fornax = serve("");
    let mut client = fornax.client();
    for path in ECHOES {
        for (method, body, expected) in [
            ("GET", Body::None, Vec::new()),
            ("POST", Body::Length(Vec::new()), Vec::new()),
            ("POST", Body::Length(b"hello".to_vec()), b"hello".to_vec()),
            ("PUT", Body::Chunked(vec![]), Vec::new()),
            ("PATCH", Body::Chunked(vec![b"one ".to_vec(), b"two ".to_vec(), b"three".to_vec()]), b"one two three".to_vec()),
            ("POST", Body::Length(bytes(70_000)), bytes(70_000)),
            ("REPORT", Body::Chunked(bytes(70_000).chunks(999).map(<[u8]>::to_vec).collect()), bytes(70_000)),
        ] {
            let response = client.request(method, path, &[("content-type", "application/x-test")], body.clone());
            assert_eq!((response.status, response.truncated), (200, false), "{method} {path}");
            assert!(response.body == expected, "{method} {path}: {} bytes of {}", response.body.len(), expected.len());
            assert_eq!(response.header("content-type"), Some("application/x-test"));
            assert_eq!((response.header("x-method"), response.header("x-path")), (Some(method), Some(*path)));
            assert_eq!(response.trailers, []);
        }
    }
}

#[test]
fn five_megabytes_come_back_unchanged() {
    let fornax = serve("");
    let expected = bytes(5_000_000);
    for path in ECHOES {
        let mut client = fornax.client();
        for body in [Body::Length(expected.clone()), Body::Chunked(expected.chunks(100_000).map(<[u8]>::to_vec).collect())] {
            let response = client.request("POST", path, &[], body);
            assert_eq!((response.status, response.truncated), (200, false), "{path}");
            assert!(response.body == expected, "{path}: {} bytes", response.body.len());
        }
    }
}

#[test]
fn a_length_the_guest_gives_is_kept() {
    let fornax = serve("");
    let mut client = fornax.client();
    for path in ECHOES {
        for length in [0, 5, 70_000] {
            let response = client.request("POST", path, &[("x-length", "1")], Body::Length(bytes(length)));
            assert_eq!(response.header("content-length"), Some(length.to_string().as_str()), "{path}");
            assert!(response.header("transfer-encoding").is_none() && response.body == bytes(length), "{path}");
        }
    }
}

#[test]
fn trailers_pass_both_ways() {
    let fornax = serve("");
    let mut client = fornax.client();
    for path in ECHOES {
        for chunks in [vec![b"body".to_vec()], vec![bytes(70_000), b"end".to_vec()]] {
            let trailers = vec![("x-checksum", "abc"), ("x-count", "2")];
            let expected = chunks.concat();
            let response = client.request("POST", path, &[("te", "trailers")], Body::Trailers(chunks, trailers));
            assert_eq!(response.status, 200, "{path}");
            assert!(response.body == expected, "{path}");
            assert_eq!(response.trailers, [("x-checksum".into(), "abc".into()), ("x-count".into(), "2".into())], "{path}");
            assert_eq!(response.header("x-checksum"), None, "{path}");
        }
    }
}

#[test]
fn a_chunk_comes_back_before_the_next_is_sent() {
    let fornax = serve("");
    for path in ECHOES {
        let mut client = fornax.client();
        client.send(client.head("POST", path, &[], &Body::Chunked(Vec::new())).as_bytes()).expect("sent");
        for round in 0..20 {
            let sent = format!("piece {round}").into_bytes();
            client.send(&wire::chunk(&sent)).expect("sent");
            if round == 0 {
                let head = client.read_head().expect("a head while the body is still being sent");
                assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")), "{path}");
            }
            let mut echoed = Vec::new();
            while echoed.len() < sent.len() {
                echoed.extend(client.read_chunk().expect("a chunk").expect("not yet the end"));
            }
            assert_eq!(echoed, sent, "{path}");
        }
        client.send(b"0\r\n\r\n").expect("sent");
        assert_eq!(client.read_chunk().expect("the end"), None, "{path}");
        assert_eq!(client.get("/hello").status, 200, "{path}: the connection goes on");
    }
}

#[test]
fn a_client_is_told_to_continue_when_the_guest_reads() {
    let fornax = Fornax::run(FORNAX, guest("inspect"), &[]);
    let mut client = fornax.client();
    for _ in 0..2 {
        let body = Body::Length(b"expected".to_vec());
        client.send(client.head("POST", "/write?name=x", &[("expect", "100-continue")], &body).as_bytes()).expect("sent");
        assert_eq!(client.read_head().expect("an interim answer").status, 100);
        client.send(b"expected").expect("sent");
        let response = client.read_response("POST").expect("an answer");
        // Without a directory there is nothing to write to; that it says so shows that it has read the body.
        assert_eq!(response.status, 200);
        assert!(response.text().starts_with("error: "), "{}", response.text());
    }
}

#[test]
fn a_client_that_would_wait_need_not_where_the_guest_answers_first() {
    let fornax = serve("");
    for path in ECHOES {
        let mut client = fornax.client();
        let body = Body::Length(b"expected".to_vec());
        client.send(client.head("POST", path, &[("expect", "100-continue")], &body).as_bytes()).expect("sent");
        let mut head = client.read_head().expect("a head");
        client.send(b"expected").expect("sent");
        if head.status == 100 {
            head = client.read_head().expect("the answer");
        }
        assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")), "{path}");
        let mut echoed = Vec::new();
        while let Some(chunk) = client.read_chunk().expect("a chunk") {
            echoed.extend(chunk);
        }
        assert_eq!(echoed, b"expected", "{path}");
    }
}

fn too_large(path: &str, client: &mut Client, body: Body) {
    let response = client.try_request("POST", path, &[], body).expect("an answer");
    assert_eq!(response.status, 413, "{path}: {}", response.text());
    assert!(response.text().starts_with(r#"{"type":"body-too-large","message":""#), "{path}: {}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
}

#[test]
fn a_body_over_its_limit_is_refused() {
    let fornax = serve(r#"limits = { body = "10KiB" }"#);
    for path in ["/echo/", "/echo3/", "/echo3/?copy", "/hello"] {
        // Declared: refused at once, without waiting for a byte of it.
        let mut client = fornax.client();
        let head = client.head("POST", path, &[], &Body::None);
        let head = head.replace("\r\n\r\n", "\r\ncontent-length: 10241\r\n\r\n");
        client.send(head.as_bytes()).expect("sent");
        client.stream().set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let response = client.read_response("POST").expect("an answer at once");
        assert_eq!(response.status, 413, "{path}");
        assert!(response.text().contains("10240 bytes"), "{path}: {}", response.text());
        assert_eq!(client.read_to_end().expect("nobody waits for the body"), b"", "{path}");

        too_large(path, &mut fornax.client(), Body::Length(bytes(10_241)));
        let exactly = fornax.client().request("POST", path, &[], Body::Length(bytes(10_240)));
        assert_eq!(exactly.status, 200, "{path}");
    }
}

#[test]
fn a_body_of_unknown_length_is_cut_at_its_limit() {
    let fornax = serve(r#"limits = { body = "10KiB" }"#);
    for path in ["/echo/", "/echo3/", "/echo3/?copy"] {
        let exactly = fornax.client().request("POST", path, &[], Body::Chunked(vec![bytes(5120); 2]));
        assert_eq!((exactly.status, exactly.body.len()), (200, 10_240), "{path}");

        // Both echoes answer before they read. An answer that has begun can only be cut; one that has not is a 413.
        let over = fornax.client().request("POST", path, &[], Body::Chunked(vec![bytes(10_241)]));
        match over.status {
            200 => assert!(over.truncated && over.body.len() <= 10_240, "{path}: {} bytes", over.body.len()),
            status => assert_eq!((status, over.truncated), (413, false), "{path}"),
        }
        assert_eq!(fornax.client().get("/hello").status, 200, "{path}");
    }
}

#[test]
fn a_guest_that_reads_first_answers_413_for_a_chunked_body_over_its_limit() {
    let app = App::new().module("inspect", "inspect", r#"limits = { body = "10KiB" }"#);
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    too_large("/write?name=never", &mut fornax.client(), Body::Chunked(vec![bytes(6000), bytes(6000)]));
    assert_eq!(fornax.client().get("/").status, 200);
}

#[test]
fn an_unread_body_does_not_spoil_the_connection() {
    let fornax = serve("");
    // `hello` never looks at its body. The connection goes on where the body has arrived, or says that it ends.
    for (body, goes_on) in [
        (Body::Length(bytes(100)), true),
        (Body::Chunked(vec![bytes(100)]), true),
        (Body::Length(bytes(1_000_000)), false),
        (Body::Length(bytes(9_000_000)), false),
    ] {
        let mut client = fornax.client();
        let response = client.request("POST", "/hello", &[], body);
        assert_eq!((response.status, response.text().as_str()), (200, "Hello from Fornax!\n"));
        assert_eq!(response.header("connection"), (!goes_on).then_some("close"));
        if goes_on {
            assert_eq!(client.get("/hello").text(), "Hello from Fornax!\n");
        }
        assert_eq!(fornax.client().get("/hello").status, 200);
    }
    // Neither does one that is refused.
    let response = fornax.client().request("POST", "/none", &[], Body::Length(bytes(5_000_000)));
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
}

#[test]
fn a_body_may_still_come_when_the_answer_is_complete() {
    let app = App::new().module("afterlife", "afterlife", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    client.send(b"POST /?mode=read&id=late HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n").expect("a head is taken");
    let response = client.read_response("POST").expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (200, "done\n"));
    // Longer than a client may take for a head: what comes is none.
    let until = std::time::Instant::now() + Duration::from_secs(6);
    for _ in 0..12 {
        client.send(b"x").expect("the body is taken");
        let _ = client.stream().set_read_timeout(Some(Duration::from_millis(500)));
        let nothing = std::io::Read::read(&mut client.stream(), &mut [0; 1]);
        assert!(nothing.is_err(), "something behind the answer: {nothing:?}");
    }
    assert!(std::time::Instant::now() >= until);
    fornax.wait_for_log(|line| line.contains("afterlife: read 12 late"), testkit::DEADLINE);
}

#[test]
fn a_body_that_the_guest_breaks_off_is_cut_and_logged() {
    let app = App::new().server("metrics = \"/metrics\"").module("afterlife", "afterlife", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let response = client.get("/?mode=drop");
    match response.status {
        200 => assert!(response.truncated && response.text() == "first\n", "{response:?}"),
        status => assert_eq!(status, 502, "{response:?}"),
    }
    fornax.wait_for_log(
        |line| line.contains("the guest broke off its body") && line.contains("module=\"afterlife\""),
        testkit::DEADLINE,
    );
    let metrics = fornax.client().get("/metrics").text();
    assert!(metrics.contains(r#"fornax_errors_total{kind="bad-response",blame="guest"} 1"#), "{metrics}");
}
