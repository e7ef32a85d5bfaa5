//! What requests and answers look like: as in HTTP/1, and many at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue};
use testkit::{App, Body, Fornax, guest, note};

use crate::FORNAX;
use crate::client::{Client, Sent, read, wait_until, write};

const HELLO: &str = "Hello from Fornax!\n";

const STREAMS: usize = 50;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).expect("small")).collect()
}

fn echoes() -> (Fornax, Vec<&'static str>) {
    let app = App::new()
        .module("echo", "echo", "")
        .route("/echo", "echo", "")
        .module("echo3", "echo3", "")
        .route("/echo3", "echo3", "");
    (Fornax::run(FORNAX, app.write(), &[]), vec!["/echo", "/echo3", "/echo3?copy"])
}

#[tokio::test]
async fn a_hello_is_that_of_http1_byte_for_byte() {
    for name in ["hello-wasip2", "hello-wasip3", "hello-sync3", "hello-wstd"] {
        let fornax = Fornax::run(FORNAX, guest(name), &[]);
        let (mut client, mut http1) = (Client::connect(fornax.addr()).await, fornax.client());
        // Its first answer is not always there at once, and then it has no length.
        assert_eq!(http1.get("/").status, 200);
        for method in ["GET", "HEAD", "GET"] {
            let answer = client.ask(client.request(method, "/")).await;
            let expected = http1.request(method, "/", &[], Body::None);
            assert_eq!((answer.status, &answer.body), (expected.status, &expected.body), "{method} of {name}");
            let mut fields: Vec<_> = expected.headers.into_iter().filter(|(name, _)| name != "date").collect();
            fields.sort();
            assert_eq!(answer.fields(), fields, "{method} of {name}");
            assert_eq!((answer.text().as_str(), answer.trailers), (if method == "GET" { HELLO } else { "" }, None));
        }
    }
}

#[tokio::test]
async fn pages_and_errors_are_those_of_http1() {
    let app = App::new().server("health = \"/healthz\"").module("hello", "hello-wasip2", "").route(
        "/a",
        "hello",
        "methods = [\"GET\"]",
    );
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let (mut client, mut http1) = (Client::connect(fornax.addr()).await, fornax.client());
    for (method, path) in [("GET", "/healthz"), ("HEAD", "/healthz"), ("POST", "/healthz"), ("HEAD", "/none"), ("PUT", "/a")] {
        let answer = client.ask(client.request(method, path)).await;
        let expected = http1.request(method, path, &[], Body::None);
        assert_eq!((answer.status, answer.body.len()), (expected.status, expected.body.len()), "{method} {path}");
        // That there is no body is said by the end of the stream.
        let is_said = |name: &str, value: &str| name != "date" && (name, value) != ("content-length", "0");
        let mut fields: Vec<_> = expected.headers.into_iter().filter(|(name, value)| is_said(name, value)).collect();
        fields.sort();
        assert_eq!(answer.fields(), fields, "{method} {path}");
    }
}

#[tokio::test]
async fn a_guest_sees_what_it_sees_of_http1() {
    let fornax = Fornax::run(FORNAX, guest("inspect"), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    let request = client.request("GET", "/a?b=c").header("x-a", "1").header("cookie", "a=1").header("cookie", "b=2");
    let answer = client.ask(request.header("te", "trailers")).await;
    let fields = [("x-a", "1"), ("cookie", "a=1; b=2"), ("te", "trailers")];
    let expected = fornax.client().request("GET", "/a?b=c", &fields, Body::None);
    assert_eq!(answer.text(), expected.text());
    assert!(answer.text().contains(&format!("\"authority\": \"{}\"", fornax.addr())), "{}", answer.text());
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let (fornax, paths) = echoes();
    let mut client = Client::connect(fornax.addr()).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc"));
    for path in paths {
        for size in [0, 1, 70_000, 3_000_000] {
            let whole = Bytes::from(bytes(size));
            let pieces: Vec<_> = whole.chunks(50_000).map(Bytes::copy_from_slice).collect();
            for trailers in [None, Some(trailers.clone())] {
                let answer = client.post(path, &pieces, trailers.clone()).await;
                assert_eq!((answer.status, answer.body.len()), (200, size), "{path}");
                assert!(answer.body == whole, "{path}: {size} bytes");
                assert_eq!(answer.trailers, trailers, "{path}: {size} bytes");
            }
        }
    }
}

#[tokio::test]
async fn a_piece_comes_back_before_the_next_is_sent() {
    let (fornax, paths) = echoes();
    let mut client = Client::connect(fornax.addr()).await;
    for path in paths {
        let mut sent = client.send(client.request("POST", path), false).await;
        write(&mut sent.body, Bytes::from_static(b"piece 0")).await;
        let (status, mut answer, mut body) = sent.head().await;
        assert_eq!(status, 200, "{path}");
        for round in 0..20 {
            assert_eq!(read(&mut answer).await, Some(Bytes::from(format!("piece {round}"))), "{path}");
            write(&mut body, Bytes::from(format!("piece {}", round + 1))).await;
        }
        body.send_data(Bytes::new(), true).expect("open");
        assert_eq!(read(&mut answer).await.as_deref(), Some(&b"piece 20"[..]));
        assert_eq!(read(&mut answer).await, None, "{path}");
    }
}

#[tokio::test]
async fn fifty_streams_are_answered_at_once_and_those_of_a_full_tenant_refused() {
    let app = App::new()
        .tables("[tenant.full]\nin_flight = 1\nqueue = 0")
        .module("slow", "slow", "tenant = \"free\"")
        .route("/slow", "slow", "tenant = \"free\"")
        .module("held", "slow", "tenant = \"full\"")
        .route("/held", "held", "tenant = \"full\"");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    let began = Instant::now();
    let mut sent = Vec::new();
    for _ in 0..STREAMS {
        for path in ["/slow?ms=500", "/held?ms=500"] {
            let request = client.request("GET", path);
            sent.push((path, client.send(request, true).await));
        }
    }
    let mut full = Vec::new();
    for (path, sent) in sent {
        let answer = sent.whole().await.expect("an answer");
        match path {
            "/held?ms=500" => full.push(answer.status),
            _ => assert_eq!((answer.status, answer.text().as_str()), (200, "slept\n")),
        }
    }
    note(&format!("{STREAMS} sleeps of 500 ms over one connection took {:?}", began.elapsed()));
    full.sort_unstable();
    assert_eq!(full, [vec![200], vec![503; STREAMS - 1]].concat());
}

#[tokio::test]
async fn who_resets_a_stream_ends_its_guest() {
    let app = App::new()
        .tables("[tenant.one]\nin_flight = 1\nqueue = 0")
        .module("slow", "slow", "tenant = \"one\"")
        .route("/slow", "slow", "tenant = \"one\"")
        .module("afterlife", "afterlife", "tenant = \"one\"")
        .route("/afterlife", "afterlife", "tenant = \"one\"");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    // Before its head, and between two pieces of its body.
    for path in ["/slow?ms=25000", "/afterlife?mode=midbody&ms=25000"] {
        let Sent { answer, mut body } = client.send(client.request("GET", path), true).await;
        let answer = if path.starts_with("/afterlife") {
            let mut answer = answer.await.expect("a head").into_body();
            assert_eq!(read(&mut answer).await.as_deref(), Some(&b"first\n"[..]));
            Err(answer)
        } else {
            Ok(answer)
        };
        wait_until("the place is taken", async || client.get("/slow?ms=0").await.status == 503).await;
        body.send_reset(Reason::CANCEL);
        drop(answer);
        let began = Instant::now();
        wait_until("the place is free", async || client.get("/slow?ms=0").await.status == 200).await;
        note(&format!("{path}: free {:?} after the reset", began.elapsed()));
        assert!(began.elapsed().as_secs() < 20, "the guest ended by itself");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_costs_only_its_stream() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    for _ in 0..20 {
        let Sent { answer, mut body } = client.send(client.request("POST", "/"), false).await;
        // As much as the window of a stream allows; more than one of these fills that of the connection.
        body.reserve_capacity(256 << 10);
        body.send_data(Bytes::from(vec![0; 200 << 10]), false).expect("open");
        let answer = Sent { answer, body }.whole().await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, HELLO));
    }
    assert_eq!(client.get("/").await.text(), HELLO);
}

#[tokio::test]
async fn a_host_is_needed_and_must_be_the_one_that_is_meant() {
    let app = App::new().module("hello", "hello-wasip2", "").route("/", "hello", "host = \"example.com\"");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    let request = |uri: &str| http::Request::builder().uri(uri);
    for (request, status) in [
        (request("http://example.com/"), 200),
        (request("http://EXAMPLE.com:80/"), 200),
        (request("http://example.com/").header("host", "example.com"), 200),
        (request("http://example.org/"), 404),
        (request("http://example.com/").header("host", "example.org"), 400),
        (request("http://example.com/").header("host", "example.com").header("host", "example.com"), 400),
        (request("https://example.com/"), 400),
        (request("http://user@example.com/"), 400),
        (request("example.com:80").method("CONNECT"), 400),
    ] {
        let shown = format!("{request:?}");
        let answer = client.ask(request).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert!(!answer.headers.contains_key("connection"), "{shown}");
    }
}

#[tokio::test]
async fn the_access_log_says_http2() {
    let app = App::new().server("access_log = true").module("hello", "hello-wasip2", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    assert_eq!(client.ask(client.request("GET", "/a?b").header("user-agent", "test")).await.status, 200);
    fornax.wait_for_log(|line| line.ends_with("\"GET /a?b HTTP/2.0\" 200 19 \"-\" \"test\""), testkit::DEADLINE);
}

/// `:scheme` of a proxy that ends TLS and speaks HTTP/2 in the clear to us.
#[tokio::test]
async fn a_scheme_is_a_trusted_proxys_to_name() {
    let app = |lines| App::new().server(lines).module("inspect", "inspect", "");
    let trusted = Fornax::run(FORNAX, app("trusted_proxies = [\"127.0.0.1\"]").write(), &[]);
    let mut client = Client::connect(trusted.addr()).await;
    for (uri, proto, scheme) in [
        ("https://example.com/", None, "https"),
        ("http://example.com/", None, "http"),
        ("http://example.com/", Some("https"), "https"),
        ("https://example.com/", Some("http"), "http"),
    ] {
        let request = http::Request::get(uri).header("x-forwarded-for", "203.0.113.7");
        let answer =
            client.ask(proto.into_iter().fold(request, |request, proto| request.header("x-forwarded-proto", proto))).await;
        assert_eq!(answer.status, 200, "{uri} {proto:?}: {}", answer.text());
        let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((&told["scheme"], &told["authority"]), (&scheme.into(), &"example.com".into()), "{uri} {proto:?}");
    }
    let other = Fornax::run(FORNAX, app("").write(), &[]);
    let request = http::Request::get("https://example.com/").header("x-forwarded-proto", "https");
    assert_eq!(Client::connect(other.addr()).await.ask(request).await.status, 400);
}

#[tokio::test]
async fn a_client_has_the_time_and_the_room_it_was_given() {
    let app = App::new().tables("[server.clients]\nkeep_alive = \"500ms\"\nfields = \"8KiB\"\ntarget = \"1KiB\"");
    let fornax = Fornax::run(FORNAX, app.module("hello", "hello-wasip2", "").write(), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    for (request, status) in [
        (client.request("GET", "/"), 200),
        (client.request("GET", &format!("/{}", "x".repeat(1024))), 414),
        (client.request("GET", "/").header("x", "v".repeat(8 << 10)), 431),
    ] {
        assert_eq!(client.ask(request).await.status, status);
    }
    let began = Instant::now();
    wait_until("the server says goodbye", async || client.has_ended()).await;
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    // Sooner than what is there where nothing is said.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
