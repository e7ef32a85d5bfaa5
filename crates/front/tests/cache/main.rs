//! The response cache over real connections, with modules that answer as each test says.

mod changes;

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use base::{
    About, Body, BodyError, BoxFuture, Call, Digest, Entry, Error, Gate, GateOptions, Handler, Input, Kind, Limits, Metrics,
    ModuleId, ModuleVersion, Pattern, Reply, Route, RouteTable, Snapshot, Snapshots, Target, Tenant, TenantLimits, Weighted,
};
use bytes::Bytes;
use front::Road;
use front::http::{CacheOptions, Http, HttpOptions};
use http::{Method, Request, Response};
use http_body::Frame;
use testkit::{Client, wait_until};
use tokio::sync::Semaphore;

const SOON: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(600);
const CACHE: CacheOptions = CacheOptions { size_bytes: 64 << 20, entries: 1024, entry_bytes: 1 << 20 };

/// What a module answers: to this request, its `n`th call.
type Answer = dyn Fn(&Request<Body>, u32) -> Result<Response<Body>, Error> + Send + Sync;

/// A module's code. Each call of a path that begins with `/held` takes a permit first, and keeps it; but no PUT does.
struct Guest {
    calls: AtomicU32,
    held: Semaphore,
    answer: Box<Answer>,
}

struct GuestHandler(Arc<Guest>);

impl Handler for GuestHandler {
    fn handle(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let guest = Arc::clone(&self.0);
        Box::pin(async move {
            let n = guest.calls.fetch_add(1, SeqCst) + 1;
            // The place is the call's as long as this runs.
            let _place = call.root;
            let Input::Http(request) = call.input else { panic!("an HTTP request") };
            let is_held = request.uri().path().starts_with("/held") && *request.method() != Method::PUT;
            if is_held {
                guest.held.acquire().await.expect("open").forget();
            }
            (guest.answer)(&request, n).map(Reply::Http)
        })
    }
}

impl Guest {
    fn new(answer: impl Fn(&Request<Body>, u32) -> Result<Response<Body>, Error> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { calls: AtomicU32::new(0), held: Semaphore::new(0), answer: Box::new(answer) })
    }

    /// Answers `call N` with these fields.
    fn with_fields(fields: &'static [(&'static str, &'static str)]) -> Arc<Self> {
        Self::new(move |_, n| Ok(response(200, fields, &format!("call {n}"))))
    }

    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }
}

fn response(status: u16, fields: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Body::from(Bytes::from(body.to_owned()))).expect("a response")
}

struct Server {
    http: Http,
    road: Road,
    tenant: Arc<Tenant>,
}

fn module(road: &Road, tenant: &Arc<Tenant>, guest: &Arc<Guest>, limits: Limits) -> Arc<ModuleVersion> {
    Arc::new(ModuleVersion {
        id: ModuleId::parse("6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d").expect("a UUID"),
        name: "m".into(),
        version: 1,
        digest: Digest::of(b""),
        metrics: road.metrics.module(&tenant.name, "m"),
        evidence: false,
        watched: None,
        tenant: Arc::clone(tenant),
        app: "app".into(),
        limits,
        entries: vec![Entry::Http],
        places: [1, 0],
        handler: Arc::new(GuestHandler(Arc::clone(guest))),
    })
}

fn route(host: Option<&str>, module: Arc<ModuleVersion>) -> Route {
    Route {
        host: host.map(str::to_owned),
        path: Pattern::parse("/*").expect("a pattern"),
        methods: Vec::new(),
        target: Target::Modules(vec![Weighted { module, entry: Entry::Http, weight: 1 }]),
        cache_ttl: Some(TTL),
        about: About::default(),
        counts: None,
    }
}

fn snapshot(routes: Vec<Route>) -> Snapshot {
    Snapshot { routes: RouteTable::build(routes).expect("a table"), ..Snapshot::default() }
}

impl Server {
    fn start(guest: &Arc<Guest>) -> Self {
        Self::with(guest, TenantLimits::default(), Limits::default(), CACHE)
    }

    fn with(guest: &Arc<Guest>, tenant: TenantLimits, limits: Limits, cache: CacheOptions) -> Self {
        let road = Road {
            snapshots: Arc::default(),
            gate: Arc::new(Gate::new(GateOptions { places: [1000, 0] })),
            metrics: Metrics::new(),
        };
        let tenant = Arc::new(Tenant::new("acme", tenant));
        road.snapshots.swap(snapshot(vec![route(None, module(&road, &tenant, guest, limits))]));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let options = HttpOptions { threads: 2, cache, ..HttpOptions::default() };
        let http = Http::start(vec![listener], road.clone(), options).expect("a server");
        Self { http, road, tenant }
    }

    fn client(&self) -> Client {
        Client::connect(self.http.addresses()[0])
    }

    /// The body of a GET on a connection of its own.
    fn get(&self, path: &str, fields: &[(&str, &str)]) -> String {
        self.client().request("GET", path, fields, testkit::Body::None).text()
    }

    fn snapshots(&self) -> &Snapshots {
        &self.road.snapshots
    }
}

#[test]
fn an_answer_is_given_again_without_a_call() {
    let guest = Guest::with_fields(&[("etag", "\"a\""), ("x-a", "1"), ("connection", "x-b"), ("x-b", "2")]);
    let limits = TenantLimits { in_flight: 1, queue: 0, queue_wait: Duration::ZERO, ..TenantLimits::default() };
    let server = Server::with(&guest, limits, Limits::default(), CACHE);
    let mut client = server.client();
    let first = client.get("/a?b=c");
    assert_eq!((first.status, first.text().as_str(), first.header("age")), (200, "call 1", None));
    let again = client.get("/a?b=c");
    assert_eq!((again.status, again.text().as_str(), again.header("age")), (200, "call 1", Some("0")));
    assert_eq!((again.header("x-a"), again.header("x-b"), again.header("connection")), (Some("1"), None, None));
    assert_eq!(again.header("date"), first.header("date"));
    let head = client.request("HEAD", "/a?b=c", &[], testkit::Body::None);
    assert_eq!((head.status, head.header("content-length"), head.header("x-a")), (200, Some("6"), Some("1")));
    let known = client.request("GET", "/a?b=c", &[("if-none-match", "W/\"a\"")], testkit::Body::None);
    assert_eq!((known.status, known.text().as_str(), known.header("etag")), (304, "", Some("\"a\"")));
    assert_eq!((known.header("x-a"), known.header("age")), (None, Some("0")));
    assert_eq!(guest.calls(), 1);

    // The tenant's only place is taken: a hit needs none.
    let mut slow = server.client();
    slow.send(b"POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").expect("sent");
    wait_until("the place is taken", SOON, || server.tenant.in_flight() == 1);
    assert_eq!((client.get("/a?b=c").status, client.get("/other").status), (200, 503));
    guest.held.add_permits(1);
    assert_eq!(slow.read_response("POST").expect("an answer").status, 200);
    let metrics = server.road.metrics.render();
    for line in [
        r#"fornax_cache_hits_total{tenant="acme",module="m"} 4"#,
        r#"fornax_cache_misses_total{tenant="acme",module="m"} 2"#,
        r#"fornax_calls_total{tenant="acme",module="m",outcome="2xx"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[test]
fn every_part_of_the_address_counts() {
    let guest = Guest::with_fields(&[]);
    let server = Server::start(&guest);
    let requests = [
        ("/a", "a.test"),
        ("/a", "b.test"),
        ("/a", "a.test:81"),
        ("/a?", "a.test"),
        ("/a?x", "a.test"),
        ("/a/", "a.test"),
        ("/A", "a.test"),
        ("/%61", "a.test"),
        ("/a?x=1&y=2", "a.test"),
        ("/a?y=2&x=1", "a.test"),
    ];
    let ask = || -> Vec<_> { requests.iter().map(|(path, host)| server.get(path, &[("host", host)])).collect() };
    let first = ask();
    assert_eq!(guest.calls() as usize, requests.len());
    assert_eq!(ask(), first);
    assert_eq!(guest.calls() as usize, requests.len());
    assert_eq!(server.get("/a", &[("host", "A.Test")]), first[0], "a host has no case");
}

#[test]
fn tenants_and_versions_never_meet() {
    let (one, two) = (Guest::with_fields(&[]), Guest::new(|_, n| Ok(response(200, &[], &format!("other {n}")))));
    let server = Server::start(&one);
    assert_eq!(server.get("/", &[]), "call 1");
    // The same id, name, version and address, of another tenant.
    let other = Arc::new(Tenant::new("globex", TenantLimits::default()));
    let next = |tenant, guest| snapshot(vec![route(None, module(&server.road, tenant, guest, Limits::default()))]);
    server.snapshots().swap(next(&other, &two));
    assert_eq!((server.get("/", &[]), server.get("/", &[])), ("other 1".to_owned(), "other 1".to_owned()));
    // The first one again, published anew: with another configuration it may answer otherwise.
    server.snapshots().swap(next(&server.tenant, &two));
    assert_eq!((server.get("/", &[]), server.get("/", &[])), ("other 2".to_owned(), "other 2".to_owned()));
}

#[test]
fn what_may_not_be_stored_is_not() {
    for fields in [
        &[("set-cookie", "id=1")][..],
        &[("cache-control", "private")],
        &[("cache-control", "no-store")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=0")],
        &[("vary", "*")],
        &[("content-range", "bytes 0-5/6")],
    ] {
        let guest = Guest::with_fields(fields);
        let server = Server::start(&guest);
        assert_eq!([server.get("/", &[]), server.get("/", &[])], ["call 1", "call 2"], "{fields:?}");
    }
    for (status, calls) in [(200, 1), (404, 1), (410, 1), (301, 1), (201, 2), (302, 2), (500, 2), (503, 2)] {
        let guest = Guest::new(move |_, _| Ok(response(status, &[], "")));
        let server = Server::start(&guest);
        let (first, again) = (server.client().get("/"), server.client().get("/"));
        assert_eq!((first.status, again.status, guest.calls()), (status, status, calls));
    }
    let guest = Guest::with_fields(&[]);
    let server = Server::start(&guest);
    for (method, fields) in [
        ("POST", &[][..]),
        ("OPTIONS", &[]),
        ("GET", &[("authorization", "Bearer x")]),
        ("GET", &[("cache-control", "no-store")]),
        ("GET", &[("range", "bytes=0-1")]),
    ] {
        server.client().request(method, "/", fields, testkit::Body::None);
        let calls = guest.calls();
        server.client().request(method, "/", fields, testkit::Body::None);
        assert_eq!(guest.calls(), calls + 1, "{method} {fields:?}");
    }
    server.client().request("GET", "/", &[], testkit::Body::Length(b"x".to_vec()));
    let calls = guest.calls();
    assert_eq!(server.get("/", &[]), format!("call {}", calls + 1), "none of them left an answer");
    assert_eq!(server.get("/", &[("cache-control", "no-cache")]), format!("call {}", calls + 2));
    assert_eq!(server.get("/", &[]), format!("call {}", calls + 1));
}

#[test]
fn answers_that_vary_are_kept_apart() {
    let guest = Guest::new(|request, n| {
        let language = request.headers().get("accept-language").map_or("none", |value| value.to_str().expect("text"));
        Ok(response(200, &[("vary", "Accept-Language, X-B")], &format!("{language} {n}")))
    });
    let server = Server::start(&guest);
    let ask = |fields: &[(&str, &str)]| server.get("/", fields);
    assert_eq!(ask(&[("accept-language", "de")]), "de 1");
    assert_eq!(ask(&[("accept-language", "fr")]), "fr 2");
    assert_eq!(ask(&[]), "none 3");
    assert_eq!(ask(&[("accept-language", "")]), " 4", "an empty field is not none");
    assert_eq!(ask(&[("accept-language", "de"), ("x-b", "1")]), "de 5");
    for (fields, expected) in [
        (&[("accept-language", "de")][..], "de 1"),
        (&[("accept-language", "fr"), ("x-other", "1")], "fr 2"),
        (&[], "none 3"),
        (&[("x-b", "1"), ("accept-language", "de")], "de 5"),
    ] {
        assert_eq!(ask(fields), expected);
    }
    // Two fields that read alike when they are put together.
    let (one, two) = (ask(&[("accept-language", "a, b")]), ask(&[("accept-language", "a"), ("x-b", ", b")]));
    assert_ne!(one, two);
    assert_eq!(guest.calls(), 7);
}

#[test]
fn a_field_that_the_guest_does_not_see_makes_no_variant() {
    let guest = Guest::new(|request, n| {
        let language = request.headers().get("accept-language").map_or("none", |value| value.to_str().expect("text"));
        Ok(response(200, &[("vary", "Accept-Language")], &format!("{language} {n}")))
    });
    let server = Server::start(&guest);
    // A field named in `Connection` is for this connection only, and does not reach the guest.
    assert_eq!(server.get("/", &[("connection", "Accept-Language"), ("accept-language", "de")]), "none 1");
    assert_eq!(server.get("/", &[("accept-language", "de")]), "de 2");
    assert_eq!(server.get("/", &[]), "none 1");
    assert_eq!(server.get("/", &[("connection", "Accept-Language"), ("accept-language", "fr")]), "none 1");
    assert_eq!(guest.calls(), 2);
}

#[test]
fn a_stored_answer_ends() {
    let guest = Guest::with_fields(&[("cache-control", "max-age=1")]);
    let server = Server::start(&guest);
    let began = Instant::now();
    assert_eq!([server.get("/", &[]), server.get("/", &[])], ["call 1", "call 1"]);
    wait_until("another call", SOON, || server.get("/", &[]) == "call 2");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

/// Asks on connections of their own, all at once; `then` runs meanwhile.
fn crowd(server: &Server, size: usize, path: &str, then: impl FnOnce()) -> Vec<(u16, String)> {
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..size {
            scope.spawn(|| {
                let response = server.client().get(path);
                answers.lock().expect("no panic").push((response.status, response.text()));
            });
        }
        then();
    });
    answers.into_inner().expect("no panic")
}

#[test]
fn a_crowd_causes_one_call() {
    let guest = Guest::with_fields(&[]);
    let server = Server::start(&guest);
    let all_connected = || wait_until("all are connected", SOON, || server.road.metrics.connections.get() == 50);
    let answers = crowd(&server, 50, "/held", || {
        all_connected();
        guest.held.add_permits(1);
    });
    assert_eq!(answers, vec![(200, "call 1".to_owned()); 50]);
    assert_eq!(guest.calls(), 1);
}

#[test]
fn a_crowd_does_not_queue_for_what_cannot_be_stored() {
    let guest = Guest::with_fields(&[("cache-control", "private")]);
    let server = Server::start(&guest);
    // The first one tells that nobody need wait; after it all are in the guest at once.
    let answers = crowd(&server, 30, "/held", || {
        wait_until("one asks", SOON, || guest.calls() == 1);
        guest.held.add_permits(1);
        wait_until("all ask", SOON, || guest.calls() == 30);
        guest.held.add_permits(29);
    });
    assert!(answers.iter().all(|(status, _)| *status == 200));

    let guest = Guest::new(|_, _| Err(Error::new(Kind::Trap, "the guest trapped")));
    let server = Server::start(&guest);
    let answers = crowd(&server, 30, "/held", || {
        wait_until("one asks", SOON, || guest.calls() == 1);
        guest.held.add_permits(30);
    });
    assert!(answers.iter().all(|(status, _)| *status == 502), "{answers:?}");
}

#[test]
fn who_waits_takes_over_from_a_client_that_leaves() {
    let guest = Guest::with_fields(&[]);
    let server = Server::start(&guest);
    let mut leader = server.client();
    leader.send(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    wait_until("the leader is in the guest", SOON, || guest.calls() == 1);
    let mut follower = server.client();
    follower.send(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    drop(leader);
    wait_until("the follower is in the guest", SOON, || guest.calls() == 2);
    guest.held.add_permits(1);
    assert_eq!(follower.read_response("GET").expect("an answer").text(), "call 2");
    assert_eq!(follower.request("GET", "/held", &[("host", "a")], testkit::Body::None).text(), "call 2");
}

#[test]
fn who_waits_does_so_for_its_own_time() {
    let guest = Guest::with_fields(&[]);
    let limits = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    let server = Server::with(&guest, TenantLimits::default(), limits, CACHE);
    let mut leader = server.client();
    leader.send(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    wait_until("the leader is in the guest", SOON, || guest.calls() == 1);
    let began = Instant::now();
    let response = server.client().request("GET", "/held", &[("host", "a")], testkit::Body::None);
    assert_eq!((response.status, response.text().contains("\"deadline\"")), (504, true));
    assert!(began.elapsed() >= Duration::from_millis(300) && guest.calls() == 1);
}

/// A body of these frames, and then nothing, an end, or an error.
struct Frames(Vec<Result<Frame<Bytes>, BodyError>>, bool);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Nothing is there at once.
        if !std::mem::replace(&mut self.1, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.1 = false;
        match self.0.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(self.0.remove(0))),
        }
    }
}

fn data(bytes: usize) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))
}

#[test]
fn only_complete_bodies_are_stored() {
    let guest = Guest::new(|request, _| {
        let frames = match request.uri().path() {
            "/whole" => vec![data(100_000), data(100_000)],
            "/large" => vec![data(200_000), data(200_000), data(200_000)],
            "/broken" => vec![data(10), Err(BodyError::GuestEnded)],
            _ => {
                let trailers = [(http::HeaderName::from_static("x-t"), http::HeaderValue::from_static("1"))];
                vec![data(10), Ok(Frame::trailers(trailers.into_iter().collect()))]
            }
        };
        Ok(Response::builder().header("trailer", "x-t").body(Body::stream(Frames(frames, false))).expect("a response"))
    });
    let cache = CacheOptions { entry_bytes: 500_000, ..CACHE };
    let server = Server::with(&guest, TenantLimits::default(), Limits::default(), cache);
    for (path, bytes, calls) in [("/whole", 200_000, 1), ("/large", 600_000, 2), ("/trailers", 10, 2)] {
        let before = guest.calls();
        for _ in 0..2 {
            let response = server.client().request("GET", path, &[("te", "trailers")], testkit::Body::None);
            assert_eq!((response.body.len(), response.truncated), (bytes, false), "{path}");
            assert_eq!(response.header("content-length").is_some(), path == "/whole", "{path}");
            assert_eq!(response.trailers.is_empty(), path != "/trailers", "{path}");
        }
        assert_eq!(guest.calls() - before, calls, "{path}");
    }
    let broken = server.client().get("/broken");
    assert_eq!((broken.status, broken.text().contains("\"bad-response\"")), (502, true), "no head was out yet");
}

/// One frame, and then silence.
struct Silent(Option<Bytes>);

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

#[test]
fn a_stream_without_end_is_passed_on() {
    let guest = Guest::new(|_, _| Ok(Response::new(Body::stream(Silent(Some(Bytes::from_static(b"tick")))))));
    let server = Server::start(&guest);
    for _ in 0..2 {
        let mut client = server.client();
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
        assert_eq!(client.read_head().expect("a head").status, 200);
        assert_eq!(client.read_chunk().expect("a chunk").as_deref(), Some(&b"tick"[..]));
    }
    assert_eq!(guest.calls(), 2);
}

#[test]
fn the_least_wanted_answers_make_room() {
    let guest = Guest::with_fields(&[]);
    let cache = CacheOptions { entries: 10, ..CACHE };
    let server = Server::with(&guest, TenantLimits::default(), Limits::default(), cache);
    let mut client = server.client();
    for n in 0..100 {
        client.get(&format!("/{n}"));
        client.get("/0");
    }
    assert_eq!(guest.calls(), 100);
    assert_eq!((client.get("/0").text(), client.get("/99").text()), ("call 1".to_owned(), "call 100".to_owned()));
    assert_eq!(client.get("/50").text(), "call 101");
}

#[test]
fn a_host_that_panics_fails_that_call_only() {
    let guest = Guest::new(|request, _| match request.uri().path() {
        "/panic" => panic!("as a bug of the host would"),
        _ => Ok(response(200, &[], "fine")),
    });
    let server = Server::start(&guest);
    let mut client = server.client();
    for method in ["GET", "POST"] {
        let failed = client.request(method, "/panic", &[], testkit::Body::None);
        assert_eq!((failed.status, failed.header("connection")), (500, None), "{}", failed.text());
        assert!(failed.text().contains(r#""type":"internal""#), "{}", failed.text());
        assert_eq!(client.get("/").text(), "fine", "on the same connection");
        assert_eq!(server.tenant.in_flight(), 0);
    }
}
