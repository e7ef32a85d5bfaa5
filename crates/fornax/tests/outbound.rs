//! Outgoing HTTP of guests of both generations: permission, streaming, timeouts, failures by their names.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use testkit::{App, Body, Client, Fornax, Response, Upstream, guest, wait_until, wire};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// Route of each guest that calls out.
const PROXIES: [&str; 2] = ["/proxy", "/proxy3"];

fn app(lines: &str) -> App {
    App::new()
        .module("proxy", "proxy", lines)
        .route("/proxy", "proxy", "")
        .module("proxy3", "proxy3", lines)
        .route("/proxy3", "proxy3", "")
}

fn serve(outbound: &[&str]) -> Fornax {
    Fornax::run(FORNAX, app(&format!("outbound = {outbound:?}")).write(), &[])
}

/// `&` and `#` of the URL are escaped, so that they stay in it.
fn path(proxy: &str, url: &str, options: &str) -> String {
    format!("{proxy}?url={}{options}", url.replace('&', "%26").replace('#', "%23"))
}

#[track_caller]
fn assert_fails(response: &Response, code: &str) {
    assert_eq!((response.status, response.text().as_str()), (502, format!("{code}\n").as_str()));
}

#[test]
fn nothing_is_allowed_where_nothing_is_said() {
    let upstream = Upstream::start();
    let fornax = serve(&[]);
    for proxy in PROXIES {
        assert_fails(&fornax.client().get(&path(proxy, &upstream.url("/ok"), "")), "HTTP-request-denied");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn an_entry_allows_its_scheme_host_and_port_and_no_other() {
    let (upstream, other) = (Upstream::start(), Upstream::start());
    let port = upstream.addr().port();
    let fornax = serve(&[&format!("http://127.0.0.1:{port}")]);
    for proxy in PROXIES {
        let mut client = fornax.client();
        let answer = client.get(&path(proxy, &upstream.url("/ok"), ""));
        assert_eq!((answer.status, answer.header("content-type"), answer.text().as_str()), (200, Some("text/plain"), "ok\n"));
        let denied = [
            other.url("/ok"),
            format!("https://127.0.0.1:{port}/ok"),
            format!("http://localhost:{port}/ok"),
            format!("http://127.0.0.2:{port}/ok"),
            format!("http://[::1]:{port}/ok"),
            "http://169.254.169.254/latest/meta-data/".to_owned(),
        ];
        for url in denied {
            let response = client.get(&path(proxy, &url, ""));
            assert_eq!((response.status, response.text().as_str()), (502, "HTTP-request-denied\n"), "{proxy} {url}");
        }
    }
    assert_eq!((upstream.requests().len(), other.connections()), (2, 0));
}

#[test]
fn a_name_and_a_block_are_entries_too() {
    let upstream = Upstream::start();
    let port = upstream.addr().port();
    let name = serve(&[&format!("http://localhost:{port}")]);
    let block = serve(&["*://127.0.0.0/8:*"]);
    for proxy in PROXIES {
        assert_eq!(name.client().get(&path(proxy, &format!("http://localhost:{port}/ok"), "")).text(), "ok\n");
        assert_fails(&name.client().get(&path(proxy, &upstream.url("/ok"), "")), "HTTP-request-denied");
        assert_eq!(block.client().get(&path(proxy, &upstream.url("/ok"), "")).text(), "ok\n");
    }
}

#[test]
fn the_command_line_allows_hosts_too() {
    let upstream = Upstream::start();
    for name in ["proxy", "proxy3"] {
        let fornax = Fornax::run(FORNAX, guest(name), &["--allow-host", &upstream.url("")]);
        assert_eq!(fornax.client().get(&path("/", &upstream.url("/ok"), "")).text(), "ok\n", "{name}");
    }
}

#[test]
fn a_request_arrives_as_the_guest_sent_it() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (index, proxy) in PROXIES.into_iter().enumerate() {
        let url = upstream.url("/echo?a=1&b=%2520");
        let headers = [("x-test", "a value"), ("x-not-passed", "1"), ("traceparent", trace)];
        let answer = fornax.client().request("POST", &path(proxy, &url, ""), &headers, Body::Length(b"to echo".to_vec()));
        assert_eq!((answer.status, answer.text().as_str()), (200, "to echo"), "{proxy}");
        let seen = &upstream.requests()[index];
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/echo?a=1&b=%20"), "{proxy}");
        assert_eq!(seen.body, b"to echo");
        let field = |name: &str| wire::field(&seen.headers, name);
        assert_eq!(field("host"), Some(upstream.addr().to_string().as_str()), "{proxy}");
        assert_eq!((field("x-test"), field("x-not-passed"), field("traceparent")), (Some("a value"), None, Some(trace)));
    }
}

/// `wstd` takes an answer only when it has sent the whole body, so this is for the other one.
#[test]
fn bodies_stream_both_ways_at_once() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    let mut client = fornax.client();
    let head = client.head("POST", &path("/proxy3", &upstream.url("/echo"), ""), &[], &Body::Chunked(Vec::new()));
    client.send(head.as_bytes()).expect("sent");
    for round in 0..5 {
        let sent = format!("piece {round}").into_bytes();
        client.send(&wire::chunk(&sent)).expect("sent");
        if round == 0 {
            let head = client.read_head().expect("a head while the body is still being sent");
            assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
        }
        let mut echoed = Vec::new();
        while echoed.len() < sent.len() {
            echoed.extend(client.read_chunk().expect("a chunk").expect("not yet the end"));
        }
        assert_eq!(echoed, sent);
    }
    client.send(b"0\r\n\r\n").expect("sent");
    assert_eq!(client.read_chunk().expect("the end"), None);
}

#[test]
fn a_piece_arrives_before_the_next_is_sent() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    for (index, proxy) in PROXIES.into_iter().enumerate() {
        let mut client = fornax.client();
        let head = client.head("POST", &path(proxy, &upstream.url("/sink"), ""), &[], &Body::Chunked(Vec::new()));
        client.send(head.as_bytes()).expect("sent");
        let mut expected = Vec::new();
        for round in 0..5 {
            let sent = format!("piece {round}").into_bytes();
            client.send(&wire::chunk(&sent)).expect("sent");
            expected.extend(sent);
            wait_until("the piece arrives", Duration::from_secs(8), || {
                upstream.requests().get(index).is_some_and(|request| request.body == expected)
            });
        }
        client.send(b"0\r\n\r\n").expect("sent");
        assert_eq!(client.read_response("POST").expect("an answer").text(), "35 bytes\n", "{proxy}");
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    let expected: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
    for proxy in PROXIES {
        for body in [Body::Length(expected.clone()), Body::Chunked(expected.chunks(50_000).map(<[u8]>::to_vec).collect())] {
            let answer = fornax.client().request("POST", &path(proxy, &upstream.url("/echo"), ""), &[], body);
            assert_eq!((answer.status, answer.truncated), (200, false), "{proxy}");
            assert!(answer.body == expected, "{proxy}: {} bytes", answer.body.len());
        }
    }
}

#[test]
fn a_silent_upstream_ends_by_the_timeout_the_guest_set() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    for proxy in PROXIES {
        let begun = Instant::now();
        let answer = fornax.client().get(&path(proxy, &upstream.url("/hang"), "&first_byte_ms=200"));
        assert_fails(&answer, "HTTP-response-timeout");
        assert!(begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() < Duration::from_secs(5), "{proxy}");
        let answer = fornax.client().get(&path(proxy, &upstream.url("/slow?ms=300"), "&first_byte_ms=20000"));
        assert_eq!(answer.text(), "slow\n", "{proxy}");
    }
}

#[test]
fn silence_within_a_body_ends_by_the_timeout_the_guest_set() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    for proxy in PROXIES {
        let begun = Instant::now();
        let url = upstream.url("/stream?chunks=3&ms=10000");
        let answer = fornax.client().get(&path(proxy, &url, "&between_ms=300"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{proxy}: {:?}", begun.elapsed());
        // The head is out: the client is told by a body that breaks off.
        assert_eq!((answer.status, answer.text().as_str(), answer.truncated), (200, "chunk 0\n", true), "{proxy}");
        let answer = fornax.client().get(&path(proxy, &upstream.url("/stream?chunks=3&ms=100"), "&between_ms=20000"));
        assert_eq!((answer.text().as_str(), answer.truncated), ("chunk 0\nchunk 1\nchunk 2\n", false), "{proxy}");
    }
}

/// A listener whose queue is full: who connects next waits.
fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    rustix::net::listen(&listener, 0).expect("a shorter queue");
    let address = listener.local_addr().expect("a bound socket");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
    }
    (listener, waiting)
}

#[test]
fn a_connection_that_does_not_come_ends_by_the_timeout_the_guest_set() {
    let (listener, _waiting) = full_listener();
    let url = format!("http://{}/", listener.local_addr().expect("a bound socket"));
    let fornax = serve(&[&url]);
    for proxy in PROXIES {
        let begun = Instant::now();
        assert_fails(&fornax.client().get(&path(proxy, &url, "&connect_ms=200")), "connection-timeout");
        assert!(begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() < Duration::from_secs(5), "{proxy}");
    }
}

#[test]
fn an_upstream_that_is_down_is_named_so() {
    let gone: SocketAddr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let fornax = serve(&["http://127.0.0.1:*"]);
    for proxy in PROXIES {
        assert_fails(&fornax.client().get(&path(proxy, &format!("http://{gone}/"), "")), "connection-refused");
    }
}

#[test]
fn our_own_listener_cannot_be_reached() {
    let fornax = serve(&["*://127.0.0.0/8:*", "http://localhost:*"]);
    let port = fornax.addr().port();
    for proxy in PROXIES {
        let at = |host: &str| path(proxy, &format!("http://{host}:{port}/nowhere"), "");
        assert_fails(&fornax.client().get(&at("127.0.0.1")), "destination-IP-prohibited");
        // The name stands for two addresses; at the other one nobody listens.
        let answer = fornax.client().get(&at("localhost"));
        assert_eq!(answer.status, 502);
        let codes = ["destination-IP-prohibited\n", "connection-refused\n", "destination-unavailable\n"];
        assert!(codes.contains(&answer.text().as_str()), "{}", answer.text());
    }
}

#[test]
fn a_wildcard_grants_no_address_of_this_machine_however_it_is_spelled() {
    let upstream = Upstream::start();
    let fornax = serve(&["*://*:*"]);
    let port = upstream.addr().port();
    for proxy in PROXIES {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0177.0.0.1",
            "0x7f.1",
            "0x7f000001",
            "0",
            "localhost",
            "LOCALHOST.",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
            "[fe80::1%25lo]",
            "127%2e0%2e0%2e1",
            "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
            "a@127.0.0.1",
        ] {
            let url = format!("http://{}:{port}/ok", host.replace('%', "%25"));
            let answer = fornax.client().get(&path(proxy, &url, "&connect_ms=2000"));
            assert_eq!(answer.status, 502, "{proxy} {host}: {}", answer.text());
            let code = answer.text();
            // The last is what the guest says when it cannot even write the request.
            let codes = ["destination-IP-prohibited", "HTTP-request-denied", "HTTP-request-URI-invalid", "invalid authority"];
            assert!(codes.contains(&code.trim_end()), "{proxy} {host}: {code}");
        }
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn redirects_are_the_guests_to_follow() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    for proxy in PROXIES {
        let answer = fornax.client().get(&path(proxy, &upstream.url("/redirect?to=/ok"), ""));
        assert_eq!((answer.status, answer.text().as_str()), (302, "elsewhere\n"), "{proxy}");
    }
    assert!(upstream.requests().iter().all(|request| request.target == "/redirect?to=/ok"));
}

#[test]
fn a_status_is_passed_on_as_it_is() {
    let upstream = Upstream::start();
    let fornax = serve(&[&upstream.url("")]);
    for proxy in PROXIES {
        for code in [201, 404, 418, 500, 503] {
            let answer = fornax.client().get(&path(proxy, &upstream.url(&format!("/status?code={code}")), ""));
            assert_eq!((answer.status, answer.text()), (code, format!("status {code}\n")), "{proxy}");
        }
    }
}

#[test]
fn a_call_sends_no_more_requests_than_it_may() {
    let upstream = Upstream::start();
    let lines = format!("outbound = [{:?}]\nlimits = {{ outbound_requests = 0 }}", upstream.url(""));
    let fornax = Fornax::run(FORNAX, app(&lines).write(), &[]);
    for proxy in PROXIES {
        assert_fails(&fornax.client().get(&path(proxy, &upstream.url("/ok"), "")), "connection-limit-reached");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn connections_are_kept_and_never_shared_between_tenants() {
    let upstream = Upstream::start();
    let outbound = format!("outbound = [{:?}]", upstream.url(""));
    let module = |tenant: &str| format!("tenant = \"{tenant}\"\n{outbound}");
    let route = |tenant: &str| format!("tenant = \"{tenant}\"\nhost = \"{tenant}.example\"");
    let app = App::new()
        .module("proxy", "proxy", &module("a"))
        .route("/*", "proxy", &route("a"))
        .module("proxy", "proxy", &module("b"))
        .route("/*", "proxy", &route("b"));
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let ask = |client: &mut Client, host: &str| {
        let path = path("/", &upstream.url("/ok"), "");
        assert_eq!(client.request("GET", &path, &[("host", host)], Body::None).text(), "ok\n");
    };
    for _ in 0..5 {
        ask(&mut client, "a.example");
    }
    assert_eq!(upstream.connections(), 1);
    for _ in 0..5 {
        ask(&mut client, "b.example");
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_client_that_leaves_ends_the_request_it_caused() {
    let upstream = Upstream::start();
    let lines = format!("outbound = [{:?}]", upstream.url(""));
    let fornax = Fornax::run(FORNAX, app(&lines).tables("[tenant.default]\nin_flight = 1\nqueue = 0").write(), &[]);
    for proxy in PROXIES {
        let before = upstream.requests().len();
        let mut client = fornax.client();
        let head = client.head("GET", &path(proxy, &upstream.url("/hang"), ""), &[], &Body::None);
        client.send(head.as_bytes()).expect("sent");
        wait_until("the request arrives", Duration::from_secs(20), || upstream.requests().len() > before);
        drop(client);
        let mut other = fornax.client();
        let ok = path(proxy, &upstream.url("/ok"), "");
        wait_until("its place is free", Duration::from_secs(10), || other.get(&ok).status == 200);
    }
}

#[test]
fn so_many_answers_are_held_at_once_and_no_more() {
    let upstream = Upstream::start();
    let lines = format!("outbound = [{:?}]\nlimits = {{ outbound_concurrent = 2 }}", upstream.url(""));
    let fornax = Fornax::run(FORNAX, app(&lines).write(), &[]);
    for proxy in PROXIES {
        let answer = fornax.client().get(&path(proxy, &upstream.url("/ok"), "&hold=3"));
        assert_eq!(answer.text(), "200\n200\nconnection-limit-reached\n200\n", "{proxy}");
    }
    assert_eq!(upstream.requests().len(), 2 * 3, "what was refused was not sent");
}
