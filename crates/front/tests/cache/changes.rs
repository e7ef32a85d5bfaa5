//! Time and changes: what is stored goes with them, and what may be stored is stored in between.

use std::time::{Duration, Instant, SystemTime};

use base::{Limits, Route};
use http::Method;
use testkit::wait_until;

use super::{Guest, SOON, Server, TTL, module, response, route, snapshot};

#[test]
fn no_age_is_too_large_to_be_added_to() {
    // Older than it may get, and so never given again; nor does it end the connection.
    for age in ["18446744073709551615", "99999999999999999999999", "2147483648", "600"] {
        let guest = Guest::new(move |_, n| Ok(response(200, &[("age", age)], &format!("call {n}"))));
        let server = Server::start(&guest);
        let mut client = server.client();
        assert_eq!([client.get("/").text(), client.get("/").text()], ["call 1", "call 2"], "{age}");
    }
    let guest = Guest::with_fields(&[("age", "599")]);
    let server = Server::start(&guest);
    let mut client = server.client();
    assert_eq!(client.get("/").header("age"), Some("599"));
    let began = Instant::now();
    let again = client.get("/");
    assert!(again.text() == "call 1" && again.header("age") == Some("599") || began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn an_old_answer_of_somebody_else_is_as_old_as_it_says() {
    let guest = Guest::new(|request, n| {
        let seconds = request.uri().query().and_then(|query| query.parse().ok()).expect("seconds");
        let date = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(seconds));
        Ok(response(200, &[("date", &date), ("cache-control", "max-age=100")], &format!("call {n}")))
    });
    let server = Server::start(&guest);
    assert_eq!([server.get("/?200", &[]), server.get("/?200", &[])], ["call 1", "call 2"]);
    assert_eq!(server.get("/?50", &[]), "call 3");
    let again = server.client().get("/?50");
    let age: u64 = again.header("age").and_then(|age| age.parse().ok()).expect("an age");
    assert!(again.text() == "call 3" && (50..100).contains(&age), "{age}");
}

#[test]
fn a_change_removes_what_is_stored_of_its_address() {
    let guest = Guest::new(|request, n| {
        let status = request.headers().get("x-status").map_or(200, |status| status.to_str().unwrap().parse().unwrap());
        Ok(response(status, &[("vary", "accept-language")], &format!("call {n}")))
    });
    let server = Server::start(&guest);
    let mut client = server.client();
    let get = |path: &str, language: &str| {
        server.client().request("GET", path, &[("accept-language", language)], testkit::Body::None).text()
    };
    let (de, fr, other) = (get("/a?b", "de"), get("/a?b", "fr"), get("/a", "de"));
    assert_eq!([de.as_str(), fr.as_str(), other.as_str()], ["call 1", "call 2", "call 3"]);
    let mut calls = 3;
    for (method, status, removes) in [
        ("POST", "200", true),
        ("PUT", "204", true),
        ("DELETE", "303", true),
        ("PATCH", "201", true),
        ("PURGE", "200", true),
        ("POST", "404", false),
        ("POST", "500", false),
        ("OPTIONS", "200", false),
        ("TRACE", "200", false),
        ("HEAD", "200", false),
    ] {
        let before = (get("/a?b", "de"), get("/a?b", "fr"));
        client.request(method, "/a?b", &[("x-status", status)], testkit::Body::None);
        let after = (get("/a?b", "de"), get("/a?b", "fr"));
        assert_eq!((before.0 != after.0, before.1 != after.1), (removes, removes), "{method} {status}");
        calls += if removes { 3 } else { 1 };
        assert_eq!(guest.calls(), calls, "{method} {status}");
    }
    assert_eq!(get("/a", "de"), "call 3", "another address");
}

#[test]
fn a_change_by_another_module_removes_what_is_stored_too() {
    let (reads, writes) = (Guest::with_fields(&[]), Guest::with_fields(&[]));
    let server = Server::start(&reads);
    let of = |guest, methods: &[Method], cache_ttl| {
        let module = module(&server.road, &server.tenant, guest, Limits::default());
        Route { methods: methods.to_vec(), cache_ttl, ..route(None, module) }
    };
    let routes = vec![of(&reads, &[Method::GET], Some(TTL)), of(&writes, &[Method::POST], None)];
    server.snapshots().swap(snapshot(routes));
    assert_eq!([server.get("/a", &[]), server.get("/a", &[])], ["call 1", "call 1"]);
    server.client().request("POST", "/a", &[], testkit::Body::None);
    assert_eq!([server.get("/a", &[]), server.get("/a", &[])], ["call 2", "call 2"]);
    assert_eq!(writes.calls(), 1);
}

#[test]
fn what_was_asked_for_before_a_change_is_not_stored_after_it() {
    let guest = Guest::with_fields(&[]);
    let server = Server::start(&guest);
    let mut reader = server.client();
    reader.send(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    wait_until("it is in the guest", SOON, || guest.calls() == 1);
    let host = [("host", "a")];
    assert_eq!(server.client().request("PUT", "/held", &host, testkit::Body::None).text(), "call 2");
    guest.held.add_permits(3);
    assert_eq!(reader.read_response("GET").expect("an answer").text(), "call 1");
    assert_eq!([server.get("/held", &host), server.get("/held", &host)], ["call 3", "call 3"]);
}

#[test]
fn one_who_gets_an_answer_of_his_own_does_not_keep_others_from_theirs() {
    let guest = Guest::new(|request, n| {
        let private = [("cache-control", "private")];
        let fields = if request.headers().contains_key("cookie") { &[][..] } else { &private };
        Ok(response(200, fields, &format!("call {n}")))
    });
    let server = Server::start(&guest);
    let cookie = [("cookie", "a=b")];
    assert_eq!(server.get("/", &[]), "call 1", "not stored, and for a while nobody waits");
    assert_eq!([server.get("/", &cookie), server.get("/", &cookie)], ["call 2", "call 2"], "this one may be");
}
