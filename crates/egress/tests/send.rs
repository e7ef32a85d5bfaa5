//! Requests to servers on loopback.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Body, BodyError, BoxFuture};
use bytes::Bytes;
use egress::{AllowList, Egress, EgressOptions, Error, Options, Policy, Resolver};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const SHORT: Option<Duration> = Some(Duration::from_millis(80));

/// A body that is written by the test.
struct Written(mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>);

type Writer = mpsc::UnboundedSender<Result<Frame<Bytes>, &'static str>>;

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(|frame| frame.map_err(|why| BodyError::Broken(why.into()))))
    }
}

fn written() -> (Writer, Written) {
    let (writer, reader) = mpsc::unbounded_channel();
    (writer, Written(reader))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A server that counts its connections and tells when one ends.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    ended: mpsc::UnboundedReceiver<()>,
}

impl Server {
    async fn start<F>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> BoxFuture<Response<Body>> + Clone + Send + 'static,
    {
        Self::accepting(move |stream| {
            let handler = handler.clone();
            Box::pin(async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            })
        })
        .await
    }

    async fn accepting(serve: impl Fn(TcpStream) -> BoxFuture<()> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let (tell, ended) = mpsc::unbounded_channel();
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (serving, tell) = (serve(stream), tell.clone());
                tokio::spawn(async move {
                    serving.await;
                    let _ = tell.send(());
                });
            }
        });
        Self { address, accepted, ended }
    }

    async fn hello() -> Self {
        Self::start(|_| Box::pin(async { Response::new(Bytes::from_static(b"hello").into()) })).await
    }

    /// Takes connections and what is sent, and never says a word.
    async fn silent() -> Self {
        Self::accepting(|mut stream| {
            Box::pin(async move {
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            })
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Names with the answers to give, in turn; the last stays.
#[derive(Default)]
struct Names(Mutex<HashMap<String, Vec<&'static str>>>);

impl Resolver for Names {
    fn resolve(&self, name: &str) -> BoxFuture<io::Result<Vec<IpAddr>>> {
        let mut names = self.0.lock().expect("no panic");
        let Some(answers) = names.get_mut(name) else {
            return Box::pin(async { Err(io::Error::other("no such name")) });
        };
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
        if answer == "never" {
            return Box::pin(std::future::pending());
        }
        let addresses = answer.split_whitespace().map(|text| text.parse().expect("an address")).collect();
        Box::pin(async move { Ok(addresses) })
    }
}

fn egress_knowing(names: &[(&str, &[&'static str])]) -> Egress {
    let names = names.iter().map(|(name, answers)| ((*name).to_owned(), answers.to_vec())).collect();
    egress(EgressOptions { resolver: Arc::new(Names(Mutex::new(names))), ..EgressOptions::default() })
}

fn egress(options: EgressOptions) -> Egress {
    Egress::new(options).expect("good options")
}

fn policy(tenant: &str, entries: &[&str]) -> Policy {
    let entries: Vec<_> = entries.iter().map(|&entry| entry.to_owned()).collect();
    Policy { tenant: tenant.into(), allow: Arc::new(AllowList::parse(&entries).expect("good entries")) }
}

fn loopback() -> Policy {
    policy("t", &["http://127.0.0.1:*"])
}

async fn get(egress: &Egress, policy: &Policy, url: &str, options: Options) -> Result<Response<Body>, Error> {
    let request = Request::get(url).body(Empty::<Bytes>::new()).expect("a request");
    egress.send(policy, request, options).await
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn a_connection_is_kept_for_its_tenant_only() {
    let server = Server::hello().await;
    let egress = egress(EgressOptions::default());
    for _ in 0..3 {
        let response = get(&egress, &loopback(), &server.url(), Options::default()).await.expect("an answer");
        assert_eq!(text(response).await, "hello");
    }
    assert_eq!(server.accepted(), 1);
    let other = policy("other", &["http://127.0.0.1:*"]);
    text(get(&egress, &other, &server.url(), Options::default()).await.expect("an answer")).await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_kept_connection_is_checked_again() {
    let server = Server::hello().await;
    let egress = egress_knowing(&[("name", &["127.0.0.1"])]);
    let url = format!("http://name:{}/", server.address.port());
    let wide = policy("t", &["http://name:*", "http://127.0.0.0/8:*"]);
    text(get(&egress, &wide, &url, Options::default()).await.expect("an answer")).await;
    let narrow = policy("t", &["http://name:*"]);
    let error = get(&egress, &narrow, &url, Options::default()).await.expect_err("not under this list");
    assert!(matches!(error, Error::AddressProhibited(_)), "{error:?}");
    text(get(&egress, &wide, &url, Options::default()).await.expect("an answer")).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn nothing_is_kept_when_nothing_shall_be() {
    let server = Server::hello().await;
    let egress = egress(EgressOptions { idle_per_host_max: 0, ..EgressOptions::default() });
    for _ in 0..2 {
        text(get(&egress, &loopback(), &server.url(), Options::default()).await.expect("an answer")).await;
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let mut server = Server::hello().await;
    let egress = egress(EgressOptions { idle_timeout: Duration::from_millis(40), ..EgressOptions::default() });
    text(get(&egress, &loopback(), &server.url(), Options::default()).await.expect("an answer")).await;
    server.ended.recv().await.expect("the connection ended without another request");
}

#[tokio::test]
async fn a_connection_the_server_closed_is_replaced() {
    let server = Server::accepting(|mut stream| {
        Box::pin(async move {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        })
    })
    .await;
    let egress = egress(EgressOptions::default());
    for n in 1..=20 {
        let response = get(&egress, &loopback(), &server.url(), Options::default()).await.expect("an answer");
        assert_eq!(text(response).await, "ok");
        assert_eq!(server.accepted(), n);
    }
}

#[tokio::test]
async fn names_are_checked_by_what_they_lead_to() {
    let server = Server::hello().await;
    let port = server.address.port();
    let egress = egress_knowing(&[
        ("loop", &["127.0.0.1"]),
        ("mapped", &["::ffff:127.0.0.1"]),
        ("2130706433", &["127.0.0.1"]),
        ("metadata", &["169.254.169.254"]),
        ("mixed", &["10.0.0.1 127.0.0.1"]),
        ("empty", &[""]),
    ]);
    for (host, entries, expected) in [
        ("loop", &["http://*:*"][..], "prohibited"),
        ("mapped", &["http://*:*"], "prohibited"),
        ("2130706433", &["http://*:*"], "prohibited"),
        ("metadata", &["http://*:*", "http://0.0.0.0/0:*"], "prohibited"),
        ("loop", &["http://127.0.0.1:*"], "denied"),
        ("127.0.0.1", &["http://*:*"], "denied"),
        ("loop", &["http://loop:*", "http://127.0.0.1:*"], "hello"),
        ("mixed", &["http://mixed:*", "http://127.0.0.1:*"], "hello"),
        ("localhost", &["http://localhost:*"], "hello"),
        ("localhost", &["http://*:*"], "prohibited"),
        ("empty", &["http://*:*"], "dns"),
        ("unknown", &["http://*:*"], "dns"),
    ] {
        let answer = get(&egress, &policy("t", entries), &format!("http://{host}:{port}/"), Options::default()).await;
        let answer = match answer {
            Ok(response) => text(response).await,
            Err(Error::AddressProhibited(_)) => "prohibited".to_owned(),
            Err(Error::Denied(_)) => "denied".to_owned(),
            Err(Error::Dns(_)) => "dns".to_owned(),
            Err(error) => panic!("{host} {entries:?}: {error:?}"),
        };
        assert_eq!(answer, expected, "{host} {entries:?}");
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_does_not_get_in() {
    let server = Server::hello().await;
    // The first lookup leads to where the operator allows, and every later one to where not. Nobody listens on the first.
    let egress = egress_knowing(&[("rebind", &["127.0.0.2", "127.0.0.1"])]);
    let url = format!("http://rebind:{}/", server.address.port());
    let policy = policy("t", &["http://rebind:*", "http://127.0.0.2:*"]);
    // If the checked address and the one connected to came from two lookups, this would reach the server.
    let options = Options { connect_timeout: SHORT, ..Options::default() };
    let error = get(&egress, &policy, &url, options).await.expect_err("nobody there");
    assert!(!matches!(error, Error::AddressProhibited(_)), "{error:?}");
    let error = get(&egress, &policy, &url, options).await.expect_err("not allowed");
    assert!(matches!(error, Error::AddressProhibited(_)), "{error:?}");
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn our_own_listeners_are_out_of_reach() {
    for listener in ["127.0.0.1", "0.0.0.0", "::"] {
        let server = Server::hello().await;
        let egress = egress(EgressOptions::default());
        egress.forbid(SocketAddr::new(listener.parse().expect("an address"), server.address.port()));
        for (entries, host) in [(&["http://127.0.0.1:*"], "127.0.0.1"), (&["http://localhost:*"], "localhost")] {
            let url = format!("http://{host}:{}/", server.address.port());
            let error = get(&egress, &policy("t", entries), &url, Options::default()).await.expect_err("our own");
            // For `localhost` there is ::1 as well, where a listener on 127.0.0.1 is not.
            let refused = host == "localhost" && matches!(error, Error::ConnectionRefused(_) | Error::Unreachable(_));
            assert!(refused || matches!(error, Error::AddressProhibited(_)), "{listener} {host}: {error:?}");
        }
        assert_eq!(server.accepted(), 0);
    }
}

#[tokio::test]
async fn a_listener_on_every_address_is_out_of_reach_on_each() {
    // The address this machine would use to go out; connecting a UDP socket only asks the routing table.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port");
    let Some(own) = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr()).ok().filter(|own| !own.ip().is_loopback())
    else {
        eprintln!("SKIPPED: this machine has no address but loopback");
        return;
    };
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let bound = listener.local_addr().expect("its address");
    let egress = egress(EgressOptions { forbidden: vec![bound], ..EgressOptions::default() });
    let url = format!("http://{}:{}/", own.ip(), bound.port());
    let error = get(&egress, &policy("t", &["http://0.0.0.0/0:*"]), &url, Options::default()).await.expect_err("our own");
    assert!(matches!(error, Error::AddressProhibited(_)), "{error:?}");
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let server = Server::start(|request| {
        Box::pin(async { Response::new(Body::stream(request.into_body().map_err(|error| BodyError::Broken(error.into())))) })
    })
    .await;
    let egress = egress(EgressOptions::default());
    let (writer, body) = written();
    let request = Request::post(server.url()).header("trailer", "x-sum").header("te", "trailers").body(body).expect("a request");
    writer.send(data("one")).expect("a reader");
    let mut answer = egress.send(&loopback(), request, Options::default()).await.expect("an answer").into_body();
    for (got, next) in [("one", "two"), ("two", "three")] {
        let frame = answer.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), got);
        writer.send(data(next)).expect("a reader");
    }
    assert_eq!(answer.frame().await.expect("a frame").expect("no error").into_data().expect("data"), "three");
    let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), "3".parse().expect("a value"))]);
    writer.send(Ok(Frame::trailers(trailers))).expect("a reader");
    drop(writer);
    // hyper's server passes only the trailers it announced, so the echo ends here.
    assert!(answer.frame().await.is_none());
    // Both ended: the connection serves again.
    text(get(&egress, &loopback(), &server.url(), Options::default()).await.expect("an answer")).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn trailers_travel_both_ways() {
    let server = Server::start(|request| {
        Box::pin(async {
            let trailers = request.into_body().collect().await.expect("a body").trailers().cloned().expect("trailers");
            let (writer, body) = written();
            writer.send(data("body")).expect("a reader");
            writer.send(Ok(Frame::trailers(trailers))).expect("a reader");
            Response::builder().header("trailer", "x-sum").body(Body::stream(body)).expect("a response")
        })
    })
    .await;
    let (writer, body) = written();
    writer.send(data("one")).expect("a reader");
    let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), "3".parse().expect("a value"))]);
    writer.send(Ok(Frame::trailers(trailers))).expect("a reader");
    drop(writer);
    let request = Request::post(server.url()).header("trailer", "x-sum").header("te", "trailers").body(body).expect("a request");
    let answer = egress(EgressOptions::default()).send(&loopback(), request, Options::default()).await.expect("an answer");
    let answer = answer.into_body().collect().await.expect("a body");
    assert_eq!(answer.trailers().expect("trailers")["x-sum"], "3");
    assert_eq!(answer.to_bytes(), "body");
}

#[tokio::test]
async fn headers_of_one_connection_do_not_travel() {
    let server = Server::start(|request| {
        Box::pin(async move {
            let mut seen: Vec<_> = request.headers().iter().map(|(n, v)| format!("{n}={}", v.to_str().expect("text"))).collect();
            seen.sort();
            let answer = format!("{} {} {:?} {}", request.method(), request.uri(), request.version(), seen.join(" "));
            Response::builder()
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .header("keep-alive", "timeout=1")
                .header("x-end", "1")
                .body(Bytes::from(answer).into())
                .expect("a response")
        })
    })
    .await;
    let request = Request::put(format!("{}a?b", server.url()))
        .version(http::Version::HTTP_2)
        .header("host", "elsewhere")
        .header("connection", "close")
        .header("transfer-encoding", "chunked")
        .body(Full::new(Bytes::from_static(b"abc")))
        .expect("a request");
    let answer = egress(EgressOptions::default()).send(&loopback(), request, Options::default()).await.expect("an answer");
    let headers = answer.headers();
    assert!(headers.contains_key("x-end") && !headers.contains_key("x-hop") && !headers.contains_key("keep-alive"));
    assert_eq!(text(answer).await, format!("PUT /a?b HTTP/1.1 content-length=3 host={}", server.address));
}

#[tokio::test]
async fn a_redirect_is_the_answer() {
    let server = Server::start(|_| {
        let answer = Response::builder().status(302).header("location", "http://169.254.169.254/");
        Box::pin(async { answer.body(Body::Empty).expect("a response") })
    })
    .await;
    let answer = get(&egress(EgressOptions::default()), &loopback(), &server.url(), Options::default()).await.expect("an answer");
    assert_eq!(answer.status(), 302);
}

#[tokio::test]
async fn connecting_has_its_timeout() {
    let server = Server::silent().await;
    let options = Options { connect_timeout: SHORT, ..Options::default() };
    // TLS that is never answered, and a name that is never found.
    let egress = egress_knowing(&[("never", &["never"])]);
    let tls = policy("t", &["https://127.0.0.1:*"]);
    let error = get(&egress, &tls, &format!("https://{}/", server.address), options).await.expect_err("silence");
    assert!(matches!(error, Error::ConnectionTimeout), "{error:?}");
    let error = get(&egress, &policy("t", &["http://never"]), "http://never/", options).await.expect_err("silence");
    assert!(matches!(error, Error::ConnectionTimeout), "{error:?}");
}

#[tokio::test]
async fn the_first_byte_has_its_timeout() {
    let mut server = Server::silent().await;
    let options = Options { first_byte_timeout: SHORT, ..Options::default() };
    let error = get(&egress(EgressOptions::default()), &loopback(), &server.url(), options).await.expect_err("silence");
    assert!(matches!(error, Error::FirstByteTimeout), "{error:?}");
    server.ended.recv().await.expect("the connection was closed");
}

#[tokio::test]
async fn a_server_that_does_not_read_has_the_same_timeout() {
    // Keeps the stream open and reads nothing.
    let server = Server::accepting(|stream| {
        Box::pin(async move {
            let _open = stream;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let options = Options { first_byte_timeout: SHORT, ..Options::default() };
    let body = Full::new(Bytes::from(vec![0; 64 << 20]));
    let request = Request::post(server.url()).body(body).expect("a request");
    let error = egress(EgressOptions::default()).send(&loopback(), request, options).await.expect_err("nobody reads");
    assert!(matches!(error, Error::FirstByteTimeout), "{error:?}");
}

#[tokio::test]
async fn a_silent_response_body_has_its_timeout() {
    let mut server = Server::start(|_| {
        let (writer, body) = written();
        writer.send(data("one")).expect("a reader");
        Box::pin(async move {
            tokio::spawn(async move { writer.closed().await });
            Response::new(Body::stream(body))
        })
    })
    .await;
    let options = Options { between_bytes_timeout: SHORT, ..Options::default() };
    let answer = get(&egress(EgressOptions::default()), &loopback(), &server.url(), options).await.expect("a head");
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.expect("a frame").expect("no error").into_data().expect("data"), "one");
    let error = body.frame().await.expect("an error").expect_err("silence");
    assert!(matches!(error, BodyError::Timeout), "{error:?}");
    assert!(body.frame().await.is_none());
    server.ended.recv().await.expect("the connection was closed");
}

#[tokio::test]
async fn who_is_dropped_closes_the_connection() {
    let mut server = Server::start(|_| {
        let (writer, body) = written();
        writer.send(data("one")).expect("a reader");
        tokio::spawn(async move { writer.closed().await });
        Box::pin(async { Response::new(Body::stream(body)) })
    })
    .await;
    let egress = egress(EgressOptions::default());
    drop(get(&egress, &loopback(), &server.url(), Options::default()).await.expect("a head"));
    server.ended.recv().await.expect("the response was dropped");

    let mut server = Server::silent().await;
    let url = server.url();
    let task = tokio::spawn(async move { get(&egress, &loopback(), &url, Options::default()).await });
    while server.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    server.ended.recv().await.expect("the future was dropped");
}

#[tokio::test]
async fn an_answer_before_the_request_has_ended_costs_the_connection() {
    let server = Server::hello().await;
    let egress = egress(EgressOptions::default());
    let (writer, body) = written();
    let request = Request::post(server.url()).body(body).expect("a request");
    let answer = egress.send(&loopback(), request, Options::default()).await.expect("an answer");
    assert_eq!(text(answer).await, "hello");
    writer.closed().await;
    text(get(&egress, &loopback(), &server.url(), Options::default()).await.expect("an answer")).await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn failures_have_names() {
    let egress = egress(EgressOptions::default());
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    let error = get(&egress, &loopback(), &format!("http://{free}/"), Options::default()).await.expect_err("nobody listens");
    assert!(matches!(error, Error::ConnectionRefused(_)), "{error:?}");
    assert!(error.source().is_some() && !error.to_string().contains("os error"), "{error}");

    for (answer, terminated) in [("", true), ("HTTP/1.1 20", true), ("HELLO\r\n\r\n", false)] {
        let server = Server::accepting(move |mut stream| {
            Box::pin(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            })
        })
        .await;
        let error = get(&egress, &loopback(), &server.url(), Options::default()).await.expect_err("not HTTP");
        let expected =
            if terminated { matches!(error, Error::ConnectionTerminated(_)) } else { matches!(error, Error::Protocol(_)) };
        assert!(expected, "{answer:?}: {error:?}");
    }

    let silent = Server::silent().await;
    let (writer, body) = written();
    writer.send(data("one")).and_then(|()| writer.send(Err("the guest trapped"))).expect("a reader");
    let request = Request::post(silent.url()).body(body).expect("a request");
    let error = egress.send(&loopback(), request, Options::default()).await.expect_err("half a body");
    assert!(matches!(error, Error::RequestBody(_)), "{error:?}");

    let (writer, body) = written();
    writer.send(data("one")).expect("a reader");
    drop(writer);
    let request = Request::post(silent.url()).header("content-length", "5").body(body).expect("a request");
    let error = egress.send(&loopback(), request, Options::default()).await.expect_err("too short");
    assert!(matches!(error, Error::RequestBody(_)), "{error:?}");
}

#[tokio::test]
async fn a_body_cut_short_is_broken() {
    let server = Server::accepting(|mut stream| {
        Box::pin(async move {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
        })
    })
    .await;
    let answer = get(&egress(EgressOptions::default()), &loopback(), &server.url(), Options::default()).await.expect("a head");
    let error = answer.into_body().collect().await.expect_err("half a body");
    assert!(matches!(error, BodyError::Broken(_)), "{error:?}");
}
