//! Clients that are slow on purpose: each is given its time and no more, and no number of them delays a good request.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{App, Client, Fornax, Neighbour, note};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// From accept.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// From its first byte.
const HEAD: Duration = Duration::from_secs(5);

/// Within a request body.
const BODY_IDLE: Duration = Duration::from_secs(10);

/// How early or late a busy machine may be.
const EARLY_MAX: Duration = Duration::from_millis(100);
const LATE_MAX: Duration = Duration::from_millis(1500);

/// Between two bytes of somebody who dribbles.
const DRIBBLE_EVERY: Duration = Duration::from_millis(250);

/// Half of them silent, half of them with half a head.
const CROWD: usize = 300;

const NEIGHBOUR_WITHIN: Duration = Duration::from_millis(250);

#[test]
fn slow_clients_are_given_their_time_and_no_more() {
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .module("echo", "echo", "")
        .route("/echo", "echo", "")
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let address = server.addr();
    let crowd: Vec<_> = (0..CROWD).map(|index| idler(address, index)).collect();
    let neighbour = Neighbour::start(address, "/hello");
    thread::scope(|scope| {
        let attempts = [
            scope.spawn(|| silence(address)),
            scope.spawn(|| head_in_dribbles(address)),
            scope.spawn(|| head_that_stops(address)),
            scope.spawn(|| second_head_that_stops(address)),
            scope.spawn(|| body_that_stops(address)),
            scope.spawn(|| body_in_dribbles(address)),
        ];
        for attempt in attempts {
            attempt.join().expect("the attempt ends as it should");
        }
    });
    neighbour.was_answered_within(NEIGHBOUR_WITHIN);
    for (index, mut client) in crowd.into_iter().enumerate() {
        let rest = client.read_to_end().expect("every one of the crowd is left");
        assert_eq!(rest.is_empty(), index % 2 == 0, "{}", String::from_utf8_lossy(&rest));
    }
    let metrics = server.client().get("/metrics").text();
    assert!(metrics.lines().any(|line| line == "fornax_connections 1"), "connections are left over:\n{metrics}");
}

fn idler(address: SocketAddr, index: usize) -> Client {
    let mut client = Client::connect(address);
    if index % 2 == 1 {
        client.send(b"GET /hello HTTP/1.1\r\nhost: te").expect("half a head is taken");
    }
    client
}

#[track_caller]
fn assert_near(what: &str, took: Duration, expected: Duration) {
    note(&format!("{what}: {took:?}"));
    assert!((expected - EARLY_MAX..=expected + LATE_MAX).contains(&took), "{what}: after {took:?}, not {expected:?}");
}

/// Reads to the end of the connection, which must say that the client was too slow.
#[track_caller]
fn assert_too_slow(client: &mut Client) {
    let answer = client.read_response("GET").expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(client.read_to_end().expect("a closed connection"), b"");
}

fn silence(address: SocketAddr) {
    let mut client = Client::connect(address);
    let connected = Instant::now();
    assert_eq!(client.read_to_end().expect("a closed connection"), b"");
    assert_near("a silent connection", connected.elapsed(), FIRST_BYTE);
}

fn head_in_dribbles(address: SocketAddr) {
    let mut client = Client::connect(address);
    let mut writer = client.stream().try_clone().expect("a second handle");
    let sent = Instant::now();
    client.send(b"GET /hello HTTP/1.1\r\nhost: test\r\nx-dribble: ").expect("half a head is taken");
    thread::scope(|scope| {
        scope.spawn(move || {
            // Until nobody takes them any more.
            while writer.write_all(b"a").is_ok() {
                thread::sleep(DRIBBLE_EVERY);
            }
        });
        assert_too_slow(&mut client);
        assert_near("a head in dribbles", sent.elapsed(), HEAD);
        // The one who dribbles need not wait for a reset.
        let _ = client.stream().shutdown(Shutdown::Both);
    });
}

fn head_that_stops(address: SocketAddr) {
    let mut client = Client::connect(address);
    let sent = Instant::now();
    client.send(b"GET /hello HTTP/1.1\r\nhost: te").expect("half a head is taken");
    assert_too_slow(&mut client);
    assert_near("half a head", sent.elapsed(), HEAD);
}

/// The time of a head begins with its own first byte, not with the connection.
fn second_head_that_stops(address: SocketAddr) {
    let mut client = Client::connect(address);
    assert_eq!(client.get("/hello").status, 200);
    thread::sleep(Duration::from_secs(2));
    let sent = Instant::now();
    client.send(b"GET /hello HTTP/1.1\r\nhost: te").expect("half a head is taken");
    assert_too_slow(&mut client);
    assert_near("half a second head", sent.elapsed(), HEAD);
}

fn body_that_stops(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nten bytes.").expect("a beginning is taken");
    let sent = Instant::now();
    assert_eq!(client.read_head().expect("the head of the echo").status, 200);
    let mut chunks = Vec::new();
    let end = loop {
        match client.read_chunk() {
            Ok(Some(chunk)) => chunks.extend(chunk),
            end => break end,
        }
    };
    assert_near("a body that stops", sent.elapsed(), BODY_IDLE);
    assert!(end.is_err(), "the echo of a body without an end has none");
    assert_eq!(chunks, b"ten bytes.");
    assert_eq!(client.read_to_end().expect("a closed connection"), b"");
}

/// Slow is not silent: as long as something comes, the connection goes on.
fn body_in_dribbles(address: SocketAddr) {
    const PIECES: u32 = 6;
    let mut client = Client::connect(address);
    client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\n").expect("a head is taken");
    let began = Instant::now();
    for piece in 0..PIECES {
        client.send(b"x").expect("a byte is taken");
        if piece == 0 {
            assert_eq!(client.read_head().expect("the head of the echo").status, 200);
        }
        assert_eq!(client.read_chunk().expect("a chunk").as_deref(), Some(&b"x"[..]));
        thread::sleep(Duration::from_secs(2));
    }
    assert!(began.elapsed() > BODY_IDLE, "longer than silence may be");
    assert_eq!(client.read_chunk().expect("the end"), None);
    assert_eq!(client.get("/hello").status, 200, "the connection goes on");
}
