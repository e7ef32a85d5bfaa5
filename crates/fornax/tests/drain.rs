//! Ends in order: what is in flight is answered, nobody new is let in, and the exit code says that all is well.

use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{App, Body, Client, DEADLINE, Fornax, Response, note, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

const IN_FLIGHT: usize = 50;

/// What happens at once on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(500);

/// As configured where it is short.
const GRACE: Duration = Duration::from_millis(300);

/// A tenant with as many places as calls that are to be in flight, and a module to ask whether they are taken.
fn crowded() -> App {
    App::new()
        .tables(&format!("[tenant.busy]\nin_flight = {IN_FLIGHT}\nqueue = 0"))
        .module("slow", "slow", "tenant = \"busy\"")
        .route("/slow", "slow", "tenant = \"busy\"")
        .module("hello", "hello-wasip2", "tenant = \"busy\"")
        .route("/hello", "hello", "tenant = \"busy\"")
}

/// The answer that is not a refusal: whoever asks whether all places are taken takes one for a moment.
fn insist(mut client: Client, path: &str) -> Response {
    loop {
        let response = client.get(path);
        if response.status != 503 {
            return response;
        }
    }
}

fn wait_until_full(client: &mut Client) {
    wait_until("every place is taken", DEADLINE, || client.get("/hello").status == 503);
}

/// Returns when connections are refused.
fn wait_until_refused(address: SocketAddr) {
    wait_until("new connections are refused", AT_ONCE, || {
        Client::try_connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
}

fn fifty_calls_in_flight(signal: impl Fn(&Fornax)) {
    let app = crowded();
    let mut server = Fornax::run(PROGRAM, app.write(), &[]);
    let (mut idle, mut never_used) = (server.client(), server.client());
    let clients: Vec<_> = (0..IN_FLIGHT).map(|_| server.client()).collect();
    let answers: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = clients.into_iter().map(|client| scope.spawn(|| insist(client, "/slow?ms=1000"))).collect();
        wait_until_full(&mut idle);
        signal(&server);
        let signalled = Instant::now();
        wait_until_refused(server.addr());
        for client in [&mut idle, &mut never_used] {
            assert_eq!(client.read_to_end().expect("a closed connection"), b"");
        }
        let (closed, unanswered) = (signalled.elapsed(), calls.iter().filter(|call| !call.is_finished()).count());
        note(&format!("connections refused and idle ones closed after {closed:?}, {unanswered} calls in flight then"));
        assert!(closed < AT_ONCE, "idle connections were closed after {closed:?}");
        assert!(unanswered > 0, "nothing was in flight any more");
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    });
    for answer in answers {
        assert_eq!((answer.status, answer.text().as_str(), answer.truncated), (200, "slept\n", false));
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(ended(&mut server, AT_ONCE).code(), Some(0));
}

/// How it ended, which must be soon.
fn ended(server: &mut Fornax, within: Duration) -> ExitStatus {
    let began = Instant::now();
    let status = server.wait();
    assert!(began.elapsed() <= within, "it ended after {:?}", began.elapsed());
    status
}

#[test]
fn sigterm_lets_fifty_calls_end_and_nobody_in() {
    fifty_calls_in_flight(Fornax::terminate);
}

#[test]
fn sigint_does_the_same() {
    fifty_calls_in_flight(Fornax::interrupt);
}

fn long_calls(server: &str) -> App {
    App::new().server(server).module("afterlife", "afterlife", "")
}

/// A call that has begun to answer, and ends after `ms`.
fn long_call(server: &Fornax, ms: u32) -> Client {
    let mut client = server.client();
    client
        .send(format!("GET /?mode=midbody&ms={ms}&id=a HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())
        .expect("a request is taken");
    assert_eq!(client.read_head().expect("a head").status, 200);
    assert_eq!(client.read_chunk().expect("a chunk").as_deref(), Some(&b"first\n"[..]));
    client
}

/// Reads what is left of a long call.
fn assert_ends_whole(mut client: Client) {
    assert_eq!(client.read_chunk().expect("a chunk").as_deref(), Some(&b"second\n"[..]));
    assert_eq!(client.read_chunk().expect("the end of the body"), None);
    assert_eq!(client.read_to_end().expect("a closed connection"), b"");
}

#[test]
fn a_body_on_its_way_arrives_whole() {
    let app = long_calls("");
    let mut server = Fornax::run(PROGRAM, app.write(), &[]);
    let caller = long_call(&server, 800);
    server.terminate();
    wait_until_refused(server.addr());
    assert_ends_whole(caller);
    assert_eq!(ended(&mut server, AT_ONCE).code(), Some(0));
}

#[test]
fn a_request_body_on_its_way_is_waited_for() {
    let app = App::new().module("echo", "echo", "");
    let mut server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    client.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\none").expect("a request is taken");
    assert_eq!(client.read_head().expect("a head").status, 200);
    assert_eq!(client.read_chunk().expect("a chunk").as_deref(), Some(&b"one"[..]));
    server.terminate();
    wait_until_refused(server.addr());
    client.send(b"two").expect("the rest is taken");
    assert_eq!(client.read_chunk().expect("a chunk").as_deref(), Some(&b"two"[..]));
    assert_eq!(client.read_chunk().expect("the end of the body"), None);
    assert_eq!(ended(&mut server, AT_ONCE).code(), Some(0));
}

#[test]
fn a_guest_that_works_on_is_waited_for() {
    for guest in ["afterlife", "afterlife3"] {
        let app = App::new().module("afterlife", guest, "");
        let mut server = Fornax::run(PROGRAM, app.write(), &[]);
        assert_eq!(server.client().get("/?ms=1000&id=a").text(), "done\n");
        server.terminate();
        assert!(!server.log().join("\n").contains("afterlife: finished"), "{guest} had ended already");
        let signalled = Instant::now();
        assert_eq!(server.wait().code(), Some(0), "{guest}");
        note(&format!("{guest}: ended after {:?}", signalled.elapsed()));
        server.wait_for_log(|line| line.contains("afterlife: finished a"), AT_ONCE);
    }
}

#[test]
fn a_second_signal_ends_now() {
    for (second, code) in [(Fornax::terminate as fn(&Fornax), 143), (Fornax::interrupt, 130)] {
        let app = long_calls("");
        let mut server = Fornax::run(PROGRAM, app.write(), &[]);
        let mut caller = long_call(&server, 20_000);
        server.terminate();
        wait_until_refused(server.addr());
        second(&server);
        assert_eq!(ended(&mut server, AT_ONCE).code(), Some(code));
        assert_eq!(caller.read_to_end().expect("a closed connection"), b"", "no end of a body that has none");
    }
}

#[test]
fn patience_ends_with_the_grace() {
    let app = long_calls("grace = \"300ms\"");
    let mut server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut caller = long_call(&server, 5000);
    server.terminate();
    let signalled = Instant::now();
    assert_eq!(server.wait().code(), Some(0));
    let took = signalled.elapsed();
    note(&format!("a grace of 300 ms ended after {took:?}"));
    assert!((GRACE..GRACE + AT_ONCE).contains(&took), "ended after {took:?}");
    server.wait_for_log(|line| line.contains("end of the grace period") && line.contains("in_flight=1"), AT_ONCE);
    assert_eq!(caller.read_to_end().expect("a closed connection"), b"", "no end of a body that has none");
}

#[test]
fn readiness_is_refused_while_draining() {
    let app = long_calls("health = \"/healthz\"");
    let mut server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    assert_eq!(client.get("/healthz/ready").text(), "ready\n");
    assert_eq!(client.get("/healthz").text(), "ok\n");
    let mut asking = server.client();
    asking.send(b"GET /healthz/ready HTTP/1.1\r\nhost: test\r\n").expect("half a head is taken");
    let caller = long_call(&server, 500);
    server.terminate();
    wait_until_refused(server.addr());
    // A head that was begun may be finished, and is then answered; or the connection is closed, which says as much.
    match asking.send(b"\r\n").and_then(|()| asking.read_response("GET")) {
        Ok(answer) => assert_eq!((answer.status, answer.text().as_str()), (503, "draining\n")),
        Err(error) => note(&format!("who asked for readiness with half a head: {error}")),
    }
    assert_ends_whole(caller);
    assert_eq!(ended(&mut server, AT_ONCE).code(), Some(0));
}

#[test]
fn nothing_in_flight_ends_at_once() {
    let app = crowded();
    let mut server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut idle = server.client();
    assert_eq!(idle.request("GET", "/hello", &[], Body::None).status, 200);
    server.terminate();
    assert_eq!(ended(&mut server, AT_ONCE).code(), Some(0));
    assert_eq!(idle.read_to_end().expect("a closed connection"), b"");
}
