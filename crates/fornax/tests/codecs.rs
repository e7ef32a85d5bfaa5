//! What codecs make of requests and of answers, right and wrong, with programs by hand.

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{App, Body, Client, Fornax, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(30);

/// A program that writes what it reads: with the codec `cgi`, a request's body is the answer with its head.
const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
      (i32.store (i32.const 0) (i32.const 64))
      (loop $again
        (i32.store (i32.const 4) (i32.const 60000))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (i32.load (i32.const 8))
          (then
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br $again))))))"#;

const SMALL: &str = "limits = { buffer = \"1KiB\", cpu = \"10s\" }";

/// `cat` behind each codec that commands have, and a plugin: `/wasio/*`, `/cgi/*`, `/ignis/*`, `/text/*`.
fn app(lines: &str) -> App {
    let mut app = App::new().server("metrics = \"/metrics\"");
    app.file("cat.wasm", &wat::parse_str(CAT).expect("a module"));
    for codec in ["wasio", "cgi", "ignis"] {
        let module = format!("[[module]]\nname = {codec:?}\nsource = \"cat.wasm\"\ncodec = {codec:?}\n{lines}");
        app = app.tables(&module).route(&format!("/{codec}/*"), codec, "");
    }
    app.module("text", "plugin-uppercase", lines).route("/text/*", "text", "")
}

/// A component's stream may queue what it is given; what is in the queue when the program ends must not be lost.
#[test]
fn what_a_component_writes_and_does_not_flush_is_its_output() {
    let app = App::new()
        .module("cgi", "cli-unflushed", "codec = \"cgi\"")
        .route("/cgi", "cgi", "")
        .module("flood", "cli-unflushed", "codec = \"cgi\"\nargs = [\"flood\"]\nlimits = { cpu = \"30s\" }")
        .route("/flood", "flood", "")
        .tables("[[route]]\npath = \"/chain\"\nchain = [\"cgi\", { module = \"cgi\", output = \"whole\" }]");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let text = "x".repeat(200_000);
    for _ in 0..20 {
        let response = post(&mut client, "/cgi", format!("content-type: text/plain\nx-a: b\n\n{text}").as_bytes());
        assert_eq!((response.status, response.header("x-a")), (200, Some("b")), "{}", response.text());
        assert_eq!(response.body.len(), text.len());
    }
    assert_eq!(post(&mut client, "/chain", b"hello").text(), "hello");
    let response = post(&mut client, "/flood", b"");
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.text().contains(r#""type":"output-limit""#), "{}", response.text());
}

fn post(client: &mut Client, path: &str, body: &[u8]) -> testkit::Response {
    client.request("POST", path, &[], Body::Length(body.to_vec()))
}

#[test]
fn wasio_says_all_of_a_request() {
    let app = app("").route("/users/{id}", "wasio", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let mut said = |method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]| -> Value {
        let response = client.request(method, target, fields, Body::Length(body.to_vec()));
        assert_eq!(response.header("content-type"), Some("application/json"), "{}", response.text());
        assert!(!response.text().contains('\n'), "{}", response.text());
        serde_json::from_slice(&response.body).expect("JSON")
    };
    let all = said("PUT", "/users/a%20b?x=1&x=2&y=%C3%A4+%22&empty", &[("x-a", "1"), ("x-a", "2")], "ä\"\n".as_bytes());
    for (name, value) in [
        ("params", json!({ "x": "1", "y": "ä \"", "empty": "" })),
        ("query", json!({ "x": ["1", "2"], "y": ["ä \""], "empty": [""] })),
        ("method", json!("PUT")),
        ("path", json!("/users/a%20b")),
        ("body", json!("ä\"\n")),
        ("body_encoding", Value::Null),
        ("route", json!({ "id": "a b" })),
    ] {
        assert_eq!(all[name], value, "{name} in {all}");
    }
    assert_eq!(all["headers"]["x-a"], json!("1, 2"), "{all}");
    assert!(all["seed"].as_i64().is_some_and(|seed| seed >= 0), "{all}");
    let bytes = said("POST", "/wasio/", &[], b"\xff\x00");
    assert_eq!((&bytes["body"], &bytes["body_encoding"]), (&json!("/wA="), &json!("base64")), "{bytes}");
    assert_ne!(bytes["seed"], all["seed"]);
}

#[test]
fn answers_of_cgi_are_read_by_the_letter() {
    let app = app("");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let typed = |rest: &str| format!("Content-Type: text/plain\n{rest}");
    for (answer, status, body) in [
        (typed("\nbody"), 200, "body"),
        (typed("\n"), 200, ""),
        (typed("\n").replace('\n', "\r\n") + "a\nb\r\n", 200, "a\nb\r\n"),
        (typed("Status: 404 Not Found\n\nnone"), 404, "none"),
        (typed("Status: 204\n\nnot sent"), 204, ""),
        (typed("Status: 304\n\nnot sent"), 304, ""),
        ("Status: 599\n\nodd".to_owned(), 599, "odd"),
        (typed("Content-Length: 1\nTransfer-Encoding: chunked\nConnection: close\n\nwhole"), 200, "whole"),
        ("content-type:text/plain\n\nbody".to_owned(), 200, "body"),
    ] {
        let response = post(&mut client, "/cgi/", answer.as_bytes());
        assert_eq!((response.status, response.text().as_str()), (status, body), "{answer:?}");
        assert_ne!(response.header("connection"), Some("close"), "{answer:?}");
    }
    let cookies = post(&mut client, "/cgi/", typed("Set-Cookie: a=1\nSet-Cookie: b=2\n\n").as_bytes());
    let values: Vec<_> =
        cookies.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["a=1", "b=2"]);
    for answer in [
        &b"Status: 99\n\n"[..],
        b"Status: 600\n\n",
        b"Status: 1e2\n\n",
        b"Status: -200\n\n",
        b"Status: 101\nUpgrade: websocket\n\n",
        b"Content-Type: a\x00b\n\n",
        b"Content-Type: a\rX-Injected: b\n\n",
        b": none\n\n",
        b"Content-Type : a\n\n",
        b" Content-Type: a\n\n",
        b"Content-Type: a\n b\n\n",
        b"\xff: a\nStatus: 200\n\n",
        b"\n\nbody",
        b"body",
        b"HTTP/1.1 200 OK\nContent-Type: text/plain\n\nbody",
    ] {
        let response = post(&mut client, "/cgi/", answer);
        let shown = String::from_utf8_lossy(answer);
        assert_eq!(response.status, 502, "{shown:?}: {}", response.text());
        assert!(response.text().contains(r#""type":"bad-response""#), "{shown:?}: {}", response.text());
        assert_eq!(response.header("x-injected"), None, "{shown:?}");
    }
}

#[test]
fn what_is_held_in_memory_has_a_limit() {
    let app = app(SMALL);
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for codec in ["wasio", "cgi", "ignis", "text"] {
        let path = format!("/{codec}/");
        for body in [Body::Length(vec![b'x'; 1025]), Body::Chunked(vec![vec![b'x'; 600]; 2])] {
            let response = fornax.client().request("POST", &path, &[], body);
            assert_eq!(response.status, 413, "{codec}: {}", response.text());
            assert!(response.text().contains(r#""type":"body-too-large""#), "{codec}: {}", response.text());
        }
    }
    // What goes in fits, and what comes out does not: JSON and the words in front of a result take more.
    for (path, length) in [("/wasio/", 1024), ("/text/", 1020)] {
        let response = post(&mut client, path, &vec![b'x'; length]);
        assert_eq!(response.status, 502, "{path}: {}", response.text());
        assert!(response.text().contains(r#""type":"output-limit""#), "{path}: {}", response.text());
    }
    let fits = post(&mut client, "/text/", &[b'x'; 1000]);
    assert_eq!((fits.status, fits.body.len()), (200, "Result = ".len() + 1000));
    // Exactly as much as may be.
    let mut answer = b"Status: 200\n\n".to_vec();
    answer.resize(1024, b'x');
    assert_eq!(post(&mut client, "/cgi/", &answer).body.len(), 1024 - "Status: 200\n\n".len());
}

#[test]
fn plugins_take_any_bytes() {
    let app = app("");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let bad = post(&mut client, "/text/", b"\xff\xfe");
    assert_eq!((bad.status, bad.header("fornax-return-code"), bad.text().as_str()), (200, Some("-1"), ""));
    let empty = client.get("/text/");
    assert_eq!((empty.status, empty.text().as_str()), (200, "Result = "));
    // The body goes before the parameter.
    assert_eq!(post(&mut client, "/text/?input=parameter", b"body").text(), "Result = BODY");
    let large = vec![b'x'; 3 << 20];
    assert_eq!(post(&mut client, "/text/", &large).body.len(), "Result = ".len() + large.len());
}

#[test]
fn a_head_request_has_no_body_and_connections_go_on() {
    let app = app("").module("silent", "hostile-run-silent", "codec = \"ignis\"").route("/silent", "silent", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for path in ["/wasio/", "/text/?input=x", "/silent"] {
        for _ in 0..2 {
            let response = client.request("HEAD", path, &[], Body::None);
            assert_eq!((response.status, response.body.len()), (200, 0), "{path}");
        }
        assert_eq!(client.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_body_that_does_not_come_is_waited_for_as_long_as_a_call_may_take() {
    let app = app("limits = { wall = \"300ms\" }");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    for codec in ["wasio", "cgi", "ignis", "text"] {
        let mut client = fornax.client();
        let head = format!("POST /{codec}/ HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
        client.send(head.as_bytes()).expect("sent");
        let response = client.read_response("POST").expect("an answer");
        assert_eq!((response.status, response.header("connection")), (408, Some("close")), "{codec}: {}", response.text());
    }
}

#[test]
fn a_client_that_leaves_ends_its_program() {
    let limits = "tenant = \"one\"\nlimits = { wall = \"10m\", cpu = \"30s\" }";
    let mut app = App::new().server("metrics = \"/metrics\"").tables("[tenant.one]\nin_flight = 1\nqueue = 0");
    for name in ["run-sleeper", "run-loop", "process-loop"] {
        let codec = if name.starts_with("run") { "codec = \"wasio\"\n" } else { "" };
        app = app.module(name, &format!("hostile-{name}"), &format!("{codec}{limits}")).route(
            &format!("/{name}"),
            name,
            "tenant = \"one\"",
        );
    }
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let mut in_flight = |number: u32| client.get("/metrics").text().contains(&format!("fornax_in_flight {number}\n"));
    for name in ["run-sleeper", "run-loop", "process-loop"] {
        let mut leaver = fornax.client();
        leaver.send(format!("GET /{name} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).expect("sent");
        wait_until(&format!("{name} runs"), SOON, || in_flight(1));
        drop(leaver);
        wait_until(&format!("{name} has ended"), SOON, || in_flight(0));
    }
}

#[test]
fn fields_a_connection_needs_are_nobody_elses() {
    let app = app("").module("shown", "ignis-json", "codec = \"ignis\"").route("/shown", "shown", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let hops = [
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic c2VjcmV0"),
        ("upgrade", "websocket"),
    ];
    for more in [&[][..], &[("connection", "keep-alive")], &[("connection", "x-named"), ("te", "trailers")]] {
        let fields = [&hops[..], &[("x-other", "1")], more].concat();
        let response = client.request("POST", "/wasio/", &fields, Body::Chunked(vec![b"one".to_vec(), b"two".to_vec()]));
        let said: Value = serde_json::from_slice(&response.body).expect("JSON");
        let mut names: Vec<_> = said["headers"].as_object().expect("fields").keys().map(String::as_str).collect();
        names.retain(|name| *name != "host");
        assert_eq!(names, ["x-other"], "{more:?}");
        assert_eq!(said["body"], json!("onetwo"));
        if testkit::built("ignis-json").is_none() {
            continue;
        }
        let ask = |client: &mut Client, body| -> Value {
            serde_json::from_slice(&client.request("POST", "/shown", &fields, body).body).expect("JSON")
        };
        let chunked = ask(&mut client, Body::Chunked(vec![b"one".to_vec()]));
        assert_eq!(
            (&chunked["transfer_encoding"], &chunked["content_length"]),
            (&json!(["chunked"]), &json!(-1)),
            "{more:?}: {chunked}"
        );
        let whole = ask(&mut client, Body::Length(b"one".to_vec()));
        assert_eq!((&whole["transfer_encoding"], &whole["content_length"]), (&Value::Null, &json!(3)), "{more:?}: {whole}");
    }
}

#[test]
fn heads_have_a_limit_and_the_connection_goes_on() {
    let app = app("");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let many: String = (0..25_000).map(|n| format!("x-{n}:\n")).collect();
    let large = format!("x-large: {}\n", "x".repeat(128 << 10));
    let listed = format!("Connection: {}\n", "a,".repeat(1 << 20));
    for fields in [many, large, listed] {
        let response = post(&mut client, "/cgi/", format!("Status: 200\n{fields}\nbody").as_bytes());
        assert_eq!((response.status, response.header("connection")), (502, None), "{}", response.text());
        let error: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!((&error["type"], error["request"].as_str().map(str::len)), (&json!("bad-response"), Some(16)), "{error}");
        assert_eq!(post(&mut client, "/cgi/", b"Status: 200\n\nbody").text(), "body");
    }
    let fits: String = (0..500).map(|n| format!("x-{n}: 1\n")).collect();
    assert_eq!(post(&mut client, "/cgi/", format!("Status: 200\n{fits}\nbody").as_bytes()).text(), "body");
}

#[test]
fn what_is_read_from_a_socket_is_all_there_and_its_end_is_said() {
    let sent: Vec<u8> = (0..5000_u32).flat_map(|n| format!("{n} ").into_bytes()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a bound socket");
    let served = sent.clone();
    let server = thread::spawn(move || {
        for _ in 0..2 {
            listener.accept().expect("a connection").0.write_all(&served).expect("sent");
        }
    });
    let given = format!("codec = \"ignis\"\noutbound = [\"tcp://{address}\"]\nlimits = {{ cpu = \"10s\" }}");
    let app = App::new().module("socket", "ignis-host-socket", &given).route("/socket", "socket", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    // A buffer that is smaller than what the guest asks for: what does not fit stays in the socket.
    let response = client.get(&format!("/socket?address={address}&room=1000"));
    assert_eq!((response.status, response.body == sent), (200, true), "{} bytes of {}", response.body.len(), sent.len());
    let steps = client.get(&format!("/socket?address={address}&steps")).text();
    assert!(steps.ends_with("{\"error\":\"EOF\"}\n{}\n"), "{steps}");
    server.join().expect("it served");
}
