//! Every example answers, byte for byte, over real TCP from the real program.

use std::time::{Duration, Instant};

use testkit::{App, Body, Client, Fornax, Response, guest, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// Guest, query, type and body of its answer.
const EXAMPLES: &[(&str, &str, &str, &str)] = &[
    ("hello-wstd", "", "text/plain", "Hello from Fornax!\n"),
    ("hello-wasip2", "", "text/plain", "Hello from Fornax!\n"),
    ("hello-wasip3", "", "text/plain", "Hello from Fornax!\n"),
    ("hello-sync3", "", "text/plain", "Hello from Fornax!\n"),
    ("slow", "?ms=1", "text/plain", "slept\n"),
    ("multi", "", "text/plain", "http entry\n"),
    ("afterlife", "?ms=1", "text/plain", "done\n"),
    ("afterlife3", "?ms=1", "text/plain", "done\n"),
    ("afterlife", "?ms=1&mode=midbody", "text/plain", "first\nsecond\n"),
    ("afterlife3", "?ms=1&mode=midbody", "text/plain", "first\nsecond\n"),
];

const LATER: Duration = Duration::from_secs(20);

#[track_caller]
fn assert_answer(response: &Response, content_type: &str, body: &str) {
    assert_eq!((response.status, response.text().as_str()), (200, body));
    assert!(!response.truncated && response.trailers.is_empty());
    assert_eq!(response.header("content-type"), Some(content_type));
    let names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    let framing = if response.header("content-length").is_some() { "content-length" } else { "transfer-encoding" };
    assert_eq!(names, ["content-type", framing, "date"]);
}

/// An app with a module and a route `/NAME/*` for each guest.
fn app_of(guests: &[&str]) -> App {
    guests.iter().fold(App::new(), |app, guest| app.module(guest, guest, "").route(&format!("/{guest}/*"), guest, ""))
}

#[test]
fn every_example_answers_from_one_app() {
    let mut guests: Vec<_> = EXAMPLES.iter().map(|(guest, ..)| *guest).collect();
    guests.sort_unstable();
    guests.dedup();
    let fornax = Fornax::run(FORNAX, app_of(&guests).write(), &[]);
    let mut client = fornax.client();
    for _ in 0..2 {
        for (guest, query, content_type, body) in EXAMPLES {
            assert_answer(&client.get(&format!("/{guest}/path{query}")), content_type, body);
        }
    }
}

#[test]
fn every_example_answers_from_its_file() {
    for (name, query, content_type, body) in EXAMPLES {
        let fornax = Fornax::run(FORNAX, guest(name), &[]);
        let mut client = fornax.client();
        for path in ["/", "/any/path"] {
            assert_answer(&client.get(&format!("{path}{query}")), content_type, body);
        }
        assert_eq!(fornax.log()[0], format!("listening on http://{}", fornax.addr()));
    }
}

#[test]
fn an_answer_known_at_once_has_a_length() {
    let guests = ["hello-wstd", "hello-wasip2", "hello-wasip3", "hello-sync3"];
    let fornax = Fornax::run(FORNAX, app_of(&guests).write(), &[]);
    let mut client = fornax.client();
    for name in guests {
        // Not at once where a busy machine takes the processor away in the middle: then it is a stream.
        wait_until(name, LATER, || client.get(&format!("/{name}/")).header("content-length") == Some("19"));
    }
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let fornax = Fornax::run(FORNAX, app_of(&["hello-wstd", "hello-wasip2", "hello-wasip3", "hello-sync3"]).write(), &[]);
    for name in ["hello-wstd", "hello-wasip2", "hello-wasip3", "hello-sync3"] {
        let path = format!("/{name}/");
        let mut client = fornax.client();
        let head = client.request("HEAD", &path, &[], Body::None);
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/plain")), "{name}");
        assert!(matches!(head.header("content-length"), Some("19") | None), "{name}: {head:?}");
        // On the same connection: a body after a HEAD would be read as the next answer.
        assert_eq!(client.get(&path).text(), "Hello from Fornax!\n", "{name}");
    }
}

#[test]
fn a_connection_serves_many_requests_of_many_modules() {
    let fornax = Fornax::run(FORNAX, app_of(&["hello-wasip2", "hello-wasip3", "multi"]).write(), &[]);
    let mut client = fornax.client();
    for _ in 0..100 {
        assert_eq!(client.get("/hello-wasip2/").text(), "Hello from Fornax!\n");
        assert_eq!(client.get("/hello-wasip3/").text(), "Hello from Fornax!\n");
        assert_eq!(client.get("/nowhere").status, 404);
        assert_eq!(client.get("/multi/").text(), "http entry\n");
    }
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let fornax = Fornax::run(FORNAX, app_of(&["hello-wasip2", "slow", "multi"]).write(), &[]);
    let mut client = fornax.client();
    let requests = ["/slow/?ms=50", "/hello-wasip2/", "/multi/"];
    let bytes: String = requests.iter().map(|path| client.head("GET", path, &[], &Body::None)).collect();
    client.send(bytes.as_bytes()).expect("sent");
    for body in ["slept\n", "Hello from Fornax!\n", "http entry\n"] {
        assert_eq!(client.read_response("GET").expect("an answer").text(), body);
    }
}

#[test]
fn a_connection_closes_when_the_client_says_so() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    for request in ["GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "GET / HTTP/1.0\r\nhost: a\r\n\r\n"] {
        let mut client = fornax.client();
        client.send(request.as_bytes()).expect("sent");
        assert_eq!(client.read_response("GET").expect("an answer").text(), "Hello from Fornax!\n", "{request:?}");
        assert_eq!(client.read_to_end().expect("the end"), b"", "{request:?}");
    }
}

#[test]
fn a_trigger_picks_the_entry() {
    // `multi` is a command as well; HTTP asks for its handler.
    let fornax = Fornax::run(FORNAX, guest("multi"), &[]);
    assert_eq!(fornax.client().get("/").text(), "http entry\n");
    assert!(!fornax.log().iter().any(|line| line.contains("run entry")));
}

#[test]
fn a_guest_works_on_after_a_complete_answer() {
    let fornax = Fornax::run(FORNAX, app_of(&["afterlife", "afterlife3"]).write(), &[]);
    for guest in ["afterlife", "afterlife3"] {
        let mut client = fornax.client();
        let begun = Instant::now();
        assert_answer(&client.get(&format!("/{guest}/?ms=2000&id=kept-{guest}")), "text/plain", "done\n");
        assert!(begun.elapsed() < Duration::from_millis(1500), "the answer waited for the guest");
        // Whether the connection stays or goes is nothing to a guest that has answered.
        drop(client);
        let finished = format!("afterlife: finished kept-{guest}");
        fornax.wait_for_log(|line| line.contains(&finished), LATER);
    }
}

#[test]
fn a_body_comes_as_the_guest_writes_it() {
    let fornax = Fornax::run(FORNAX, app_of(&["afterlife", "afterlife3"]).write(), &[]);
    for guest in ["afterlife", "afterlife3"] {
        let mut client = fornax.client();
        let begun = Instant::now();
        let path = format!("/{guest}/?ms=2000&mode=midbody&id=whole-{guest}");
        client.send(client.head("GET", &path, &[], &Body::None).as_bytes()).expect("sent");
        let head = client.read_head().expect("a head");
        assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
        assert_eq!(client.read_chunk().expect("a chunk"), Some(b"first\n".to_vec()));
        assert!(begun.elapsed() < Duration::from_millis(1500), "the first chunk waited for the second");
        assert_eq!(client.read_chunk().expect("a chunk"), Some(b"second\n".to_vec()));
        assert!(begun.elapsed() >= Duration::from_millis(2000));
        assert_eq!(client.read_chunk().expect("the end"), None);
        let finished = format!("afterlife: finished whole-{guest}");
        fornax.wait_for_log(|line| line.contains(&finished), LATER);
    }
}

#[test]
fn a_client_that_leaves_within_the_body_ends_the_guest() {
    // One place and no queue: a second call tells whether the first one still holds its place.
    let tenant = "[tenant.default]\nin_flight = 1\nqueue = 0";
    let fornax = Fornax::run(FORNAX, app_of(&["afterlife", "afterlife3", "multi"]).tables(tenant).write(), &[]);
    for guest in ["afterlife", "afterlife3"] {
        let mut client = fornax.client();
        let path = format!("/{guest}/?ms=25000&mode=midbody&id=left-{guest}");
        client.send(client.head("GET", &path, &[], &Body::None).as_bytes()).expect("sent");
        assert_eq!(client.read_head().expect("a head").status, 200);
        assert_eq!(client.read_chunk().expect("a chunk"), Some(b"first\n".to_vec()));
        let mut other = Client::connect(fornax.addr());
        assert_eq!(other.get("/multi/").status, 503, "the place is taken");
        drop(client);
        wait_until("the place is free", Duration::from_secs(10), || other.get("/multi/").status == 200);
    }
    assert!(!fornax.log().iter().any(|line| line.contains("afterlife: ")));
}
