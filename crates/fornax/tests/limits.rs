//! What a module, a chain or a client may use is what the configuration says: each limit is lowered until something is over it.

use std::time::{Duration, Instant};

use testkit::{App, Body, Client, Fornax, note};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// What clients may take here.
const PATIENCE: Duration = Duration::from_millis(700);

/// How late a busy machine may be; sooner than any default.
const LATE_MAX: Duration = Duration::from_secs(3);

/// A component that wants 4 KiB of random bytes, and writes nothing.
const RANDOM: &str = r#"(component
    (import "wasi:random/random@0.2.0" (instance $random (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
    (core module $memory
        (memory (export "memory") 2)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
    (core instance $memory (instantiate $memory))
    (core func $get (canon lower (func $random "get-random-bytes")
        (memory $memory "memory") (realloc (func $memory "realloc"))))
    (core module $main
        (import "random" "get" (func $get (param i64 i32)))
        (func (export "run") (result i32) (call $get (i64.const 4096) (i32.const 16)) (i32.const 0)))
    (core instance $main (instantiate $main (with "random" (instance (export "get" (func $get))))))
    (func $run (result (result)) (canon lift (core func $main "run")))
    (instance $cli (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $cli)))"#;

struct Case {
    guest: &'static str,
    given: &'static str,
    /// Lowered.
    limit: &'static str,
    status: u16,
    begins: &'static str,
}

const fn case(guest: &'static str, given: &'static str, limit: &'static str, status: u16, begins: &'static str) -> Case {
    Case { guest, given, limit, status, begins }
}

const TRAP: &str = r#"{"type":"trap""#;

/// Without the limit each is answered 200.
const CASES: [Case; 9] = [
    case("hostile-run-descriptors", "codec = \"wasio\"\nDIRS", "descriptors = 20", 200, "16 open, then 33\n"),
    case("hostile-cli", "codec = \"wasio\"\nargs = [\"descriptors\"]\nDIRS", "descriptors = 9", 200, "9 open\n"),
    case("hostile-cli3", "codec = \"wasio\"\nargs = [\"descriptors\"]\nDIRS", "descriptors = 9", 200, "9 open\n"),
    case("hello-wasip2", "", "handles = 1", 502, TRAP),
    case("hello-wasip2", "", "resources = 1", 502, TRAP),
    case("echo", "", "host_call = \"4KiB\"", 502, TRAP),
    case("inspect", "", "fields = \"20B\"", 502, TRAP),
    case("cgi-echo", "codec = \"cgi\"", "fields = \"20B\"", 502, r#"{"type":"bad-response""#),
    case("random", "codec = \"wasio\"", "random = \"1KiB\"", 502, TRAP),
];

#[test]
fn a_module_has_the_limits_it_was_given() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let dirs = format!("dirs = [{{ host = {:?}, guest = \"/data\" }}]", data.path());
    let mut app = App::new();
    app.file("random.wasm", &wat::parse_str(RANDOM).expect("a component"));
    for (number, Case { guest, given, limit, .. }) in CASES.iter().enumerate() {
        for (name, limits) in [(format!("free-{number}"), ""), (format!("held-{number}"), *limit)] {
            let lines = format!("{}\nlimits = {{ {limits} }}", given.replace("DIRS", &dirs));
            app = match *guest {
                "random" => app.tables(&format!("[[module]]\nname = {name:?}\nsource = \"random.wasm\"\n{lines}")),
                guest => app.module(&name, guest, &lines),
            };
            app = app.route(&format!("/{name}"), &name, "");
        }
    }
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    for (number, Case { guest, limit, status, begins, .. }) in CASES.iter().enumerate() {
        let mut ask = |how: &str| client.request("POST", &format!("/{how}-{number}"), &[], Body::Length(vec![b'x'; 16 << 10]));
        let (free, held) = (ask("free"), ask("held"));
        assert_eq!(free.status, 200, "{guest} without {limit}: {}", free.text());
        assert!(!free.text().starts_with(begins), "{guest} without {limit}: {}", free.text());
        assert_eq!(held.status, *status, "{guest} with {limit}: {}", held.text());
        assert!(held.text().starts_with(begins), "{guest} with {limit}: {}", held.text());
    }
}

#[test]
fn a_chain_causes_as_many_calls_as_it_may() {
    let mut app = App::new().module("step", "plugin-rot13", "");
    for (path, calls) in [("/two", 3), ("/none", 2)] {
        let route = format!("[[route]]\npath = {path:?}\nchain = [\"step\", \"step\"]\nlimits = {{ calls = {calls} }}");
        app = app.tables(&route);
    }
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    // The call itself is one.
    let (two, none) = (client.get("/two?input=abc"), client.get("/none?input=abc"));
    assert_eq!((two.status, two.text().trim()), (200, "Result = abc"));
    assert_eq!(none.status, 508, "{}", none.text());
    assert!(none.text().contains(r#""type":"depth""#), "{}", none.text());
}

/// A server whose clients may take so little.
fn impatient() -> Fornax {
    let ms = PATIENCE.as_millis();
    let times =
        ["first_byte", "head", "body_idle", "write_stall", "keep_alive"].map(|key| format!("{key} = \"{ms}ms\"")).join("\n");
    let app = App::new()
        .tables(&format!("[server.clients]\n{times}\ntarget = \"1KiB\"\nfields = \"8KiB\"\nfield_count = 16"))
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "")
        .module("echo", "echo", "")
        .route("/echo", "echo", "");
    Fornax::run(PROGRAM, app.write(), &[])
}

/// Whether what began then ended when patience did.
#[track_caller]
fn ended_in_time(what: &str, began: Instant) {
    let took = began.elapsed();
    note(&format!("{what}: {took:?}"));
    assert!((PATIENCE - Duration::from_millis(50)..PATIENCE + LATE_MAX).contains(&took), "{what}: after {took:?}");
}

#[test]
fn a_client_has_the_time_it_was_given() {
    let server = impatient();
    let connect = || (Client::connect(server.addr()), Instant::now());

    let (mut client, began) = connect();
    assert_eq!(client.read_to_end().expect("a closed connection"), b"");
    ended_in_time("the first byte", began);

    let (mut client, began) = connect();
    client.send(b"GET /hello HTTP/1.1\r\nhost: te").expect("half a head is taken");
    assert_eq!(client.read_response("GET").expect("an answer").status, 408);
    ended_in_time("the head", began);

    let (mut client, _) = connect();
    assert_eq!(client.get("/hello").status, 200);
    let began = Instant::now();
    assert_eq!(client.read_to_end().expect("a closed connection"), b"");
    ended_in_time("between two requests", began);

    let (mut client, _) = connect();
    client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nten bytes.").expect("a beginning is taken");
    let began = Instant::now();
    assert_eq!(client.read_head().expect("the head of the echo").status, 200);
    while let Ok(Some(_)) = client.read_chunk() {}
    ended_in_time("within a body", began);
}

#[test]
fn a_client_that_takes_nothing_is_left() {
    let server = impatient();
    let mut client = Client::connect(server.addr());
    // More than sockets hold.
    let length = 8 << 20;
    client
        .send(format!("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n").as_bytes())
        .expect("a head is taken");
    let began = Instant::now();
    let piece = vec![b'x'; 64 << 10];
    // The echo waits for its reader, so the rest is not taken either, until the connection ends.
    let sent = (0..length / piece.len()).take_while(|_| client.send(&piece).is_ok()).count();
    note(&format!("{sent} pieces were taken"));
    assert!(sent < length / piece.len(), "all was taken");
    ended_in_time("an answer that is not taken", began);
}

#[test]
fn a_request_is_as_large_as_it_may_be() {
    let server = impatient();
    let ask = |path: &str, fields: &[(&str, &str)]| server.client().request("GET", path, fields, Body::None).status;
    let (short, long) = (format!("/hello?{}", "x".repeat(1000)), format!("/hello?{}", "x".repeat(1024)));
    assert_eq!((ask(&short, &[]), ask(&long, &[])), (200, 414));
    let (small, large) = ("x".repeat(7 << 10), "x".repeat(8 << 10));
    assert_eq!((ask("/hello", &[("x", &small)]), ask("/hello", &[("x", &large)])), (200, 431));
    assert_eq!((ask("/hello", &[("x", "y"); 12]), ask("/hello", &[("x", "y"); 17])), (200, 431));
}
