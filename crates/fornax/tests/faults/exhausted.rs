//! A disk that is full and descriptors that have run out while calls are served: typed errors, everything else goes on, and all is well
//! again once there is room.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use testkit::{App, Body, Client, Fornax, Response, wait_until};

use super::{PROGRAM, is_typed};

const SOON: Duration = Duration::from_secs(30);

/// More than is free in any page the store has.
const LARGE: usize = 1 << 20;

/// What the kernel lets a running server have from now on; none for as much as before.
fn limit(server: &Fornax, resource: Resource, current: Option<u64>) {
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    let old = prlimit(pid, resource, Rlimit { current, maximum: maximum(server, resource) });
    old.expect("our own child's limit");
}

/// Stays: who lowers it cannot raise it again.
fn maximum(server: &Fornax, resource: Resource) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("the process is there");
    let name = if resource == Resource::Nofile { "Max open files" } else { "Max file size" };
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a line for the limit");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok())
}

fn app() -> App {
    App::new()
        .module("plugin", "plugin-rot13", "")
        .module("counter", "counter", "bindings = { keyvalue = { default = \"embedded\", second = \"embedded\" } }")
        .route("/plugin", "plugin", "")
        .route("/*", "counter", "")
}

fn put(client: &mut Client, key: &str, value: &[u8]) -> Response {
    client.request("PUT", &format!("/?key={key}"), &[], Body::Length(value.to_vec()))
}

fn rot13(client: &mut Client) -> Response {
    client.request("POST", "/plugin", &[], Body::Length(b"hello".to_vec()))
}

#[test]
fn a_full_disk_fails_what_writes_and_nothing_else_and_is_forgotten_once_there_is_room() {
    let app = app();
    let data = app.folder().join("data");
    let mut server = Fornax::run(PROGRAM, app.write(), &["--watch", "--data", data.to_str().expect("UTF-8")]);
    let mut client = server.client();
    assert_eq!(put(&mut client, "kept", b"before").text(), "ok\n");
    // No file may be written any further, as on a disk that is full.
    limit(&server, Resource::Fsize, Some(0));
    for _ in 0..3 {
        let refused = put(&mut client, "large", &vec![7; LARGE]);
        assert!(is_typed(&refused), "{} {}", refused.status, refused.text());
        assert_eq!(rot13(&mut client).text(), "Result = uryyb");
    }
    // A module that cannot be kept is not published.
    let app = app.module("late", "plugin-uppercase", "").route("/late", "late", "");
    app.write();
    server.wait_for_log(|line| line.contains("not reloaded; what was in service stays"), SOON);
    server.wait_for_log(|line| line.starts_with("  because: ") && line.contains("File too large"), SOON);
    assert_eq!(rot13(&mut client).text(), "Result = uryyb");
    limit(&server, Resource::Fsize, None);
    wait_until("the store takes values again", SOON, || put(&mut client, "large", &vec![7; LARGE]).text() == "ok\n");
    assert_eq!(client.get("/?key=kept").text(), "before\n");
    app.write();
    server.wait_for_log(|line| line.contains("reloaded") && !line.contains("not reloaded"), SOON);
    let late = client.request("POST", "/late", &[], Body::Length(b"hello".to_vec()));
    assert_eq!(late.text(), "Result = HELLO");
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn without_descriptors_connections_wait_calls_end_typed_and_both_go_on_once_there_are_some() {
    let app = app();
    let data = app.folder().join("data");
    let server = Fornax::run(PROGRAM, app.write(), &["--data", data.to_str().expect("UTF-8")]);
    let mut client = server.client();
    assert_eq!(rot13(&mut client).text(), "Result = uryyb");
    limit(&server, Resource::Nofile, Some(server.descriptors() as u64 + 4));
    let mut others: Vec<_> = (0..32).map(|_| Client::connect(server.addr())).collect();
    server.wait_for_log(|line| line.contains("cannot accept a connection"), SOON);
    // The store opens its file now, or cannot; a plugin needs none.
    let stored = put(&mut client, "k", b"v");
    assert!(stored.text() == "ok\n" || is_typed(&stored), "{} {}", stored.status, stored.text());
    assert_eq!(rot13(&mut client).text(), "Result = uryyb");
    limit(&server, Resource::Nofile, maximum(&server, Resource::Nofile));
    for other in &mut others {
        assert_eq!(rot13(other).text(), "Result = uryyb");
    }
    wait_until("the store takes values", SOON, || put(&mut client, "k", b"v").text() == "ok\n");
    let said = server.log().iter().filter(|line| line.contains("cannot accept a connection")).count();
    assert!(said < 50, "it says so {said} times");
}
