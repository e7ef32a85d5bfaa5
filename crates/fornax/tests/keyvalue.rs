//! The counters, over every shape of `wasi:keyvalue` and both backends that need nothing installed.

use std::collections::BTreeSet;
use std::thread;

use testkit::{App, Body, Client, Fornax, Response, guest};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// Guest, and whether it can compare and swap, and send batches.
const SHAPES: [(&str, bool); 3] = [("counter", false), ("counter-draft2", true), ("counter-draft2-async", true)];

const BACKENDS: [&str; 2] = ["memory", "embedded"];

/// One module; it opens `default` and `second`, which are the same backend.
fn app(guest: &str, backend: &str) -> App {
    let bindings = format!("bindings = {{ keyvalue = {{ default = \"{backend}\", second = \"{backend}\" }} }}");
    App::new().module("counter", guest, &bindings)
}

/// Runs `test` for each shape over each backend.
fn for_each(test: impl Fn(&Fornax, &mut Client, bool, &str)) {
    for backend in BACKENDS {
        for (guest, is_draft2) in SHAPES {
            let fornax = Fornax::run(FORNAX, app(guest, backend).write(), &[]);
            test(&fornax, &mut fornax.client(), is_draft2, &format!("{guest} over {backend}"));
        }
    }
}

fn send(client: &mut Client, method: &str, path: &str, body: &[u8]) -> Response {
    let body = if body.is_empty() { Body::None } else { Body::Length(body.to_vec()) };
    client.request(method, path, &[], body)
}

#[track_caller]
fn assert_text(client: &mut Client, method: &str, path: &str, body: &[u8], expected: &str, at: &str) {
    let response = send(client, method, path, body);
    assert_eq!((response.status, response.text().as_str()), (200, expected), "{at}: {method} {path}");
}

#[test]
fn values_are_what_was_set() {
    for_each(|_, client, _, at| {
        assert_text(client, "GET", "/exists?key=k", b"", "false\n", at);
        assert_eq!(send(client, "GET", "/raw?key=k", b"").status, 404, "{at}");
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        assert_text(client, "PUT", "/?key=k", &bytes, "ok\n", at);
        assert!(send(client, "GET", "/raw?key=k", b"").body == bytes, "{at}");
        assert_text(client, "GET", "/exists?key=k", b"", "true\n", at);
        assert_text(client, "PUT", "/?key=k", b"", "ok\n", at);
        assert_eq!(send(client, "GET", "/raw?key=k", b"").status, 200, "{at}: an empty value is one");
        assert_text(client, "DELETE", "/?key=k", b"", "ok\n", at);
        assert_text(client, "DELETE", "/?key=k", b"", "ok\n", at);
        assert_text(client, "GET", "/exists?key=k", b"", "false\n", at);
        assert_text(client, "PUT", "/?key=%C3%BC%20%2F%0A", b"odd", "ok\n", at);
        assert_text(client, "GET", "/?key=%C3%BC%20%2F%0A", b"", "odd\n", at);
    });
}

#[test]
fn buckets_are_apart_and_only_bound_ones_open() {
    for_each(|_, client, _, at| {
        assert_text(client, "POST", "/?key=k&by=7", b"", "7\n", at);
        assert_text(client, "GET", "/?key=k&bucket=second", b"", "0\n", at);
        assert_text(client, "POST", "/?key=k&bucket=second", b"", "1\n", at);
        assert_text(client, "GET", "/?key=k", b"", "7\n", at);
        assert_text(client, "GET", "/keys?bucket=second", b"", "k\n", at);
        let unknown = send(client, "GET", "/?key=k&bucket=third", b"");
        assert_eq!((unknown.status, unknown.text().as_str()), (404, "no-such-store\n"), "{at}");
    });
}

#[test]
fn increments_are_atomic() {
    for_each(|fornax, client, is_draft2, at| {
        assert_text(client, "GET", "/?key=n", b"", "0\n", at);
        let sums = thread::scope(|scope| {
            let add = || {
                let mut client = fornax.client();
                let sum = |_| send(&mut client, "POST", "/?key=n", b"").text().trim().parse().expect("a sum");
                (0..25).map(sum).collect::<Vec<u32>>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(add)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<BTreeSet<_>>()
        });
        assert_eq!(sums, (1..=100).collect(), "{at}: each sum was answered once");
        assert_text(client, "GET", "/?key=n", b"", "100\n", at);
        assert_text(client, "POST", "/?key=n&by=900", b"", "1000\n", at);
        if is_draft2 {
            assert_text(client, "POST", "/?key=n&by=-1001", b"", "-1\n", at);
        }
        assert_text(client, "PUT", "/?key=text", b"no number", "ok\n", at);
        let refused = send(client, "POST", "/?key=text", b"");
        assert_eq!(refused.status, 500, "{at}");
        assert!(refused.text().starts_with("other: "), "{at}: {}", refused.text());
        assert_text(client, "GET", "/?key=text", b"", "no number\n", at);
    });
}

#[test]
fn compare_and_swap_loses_nothing_under_contention() {
    for_each(|fornax, client, is_draft2, at| {
        if !is_draft2 {
            assert_eq!(send(client, "POST", "/cas?key=n", b"").status, 404, "{at}");
            return;
        }
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = fornax.client();
                    for _ in 0..15 {
                        let response = send(&mut client, "POST", "/cas?key=n", b"");
                        assert_eq!(response.status, 200, "{at}: {}", response.text());
                    }
                });
            }
        });
        assert_text(client, "GET", "/?key=n", b"", "60\n", at);
    });
}

#[test]
fn batches_keep_their_order() {
    for_each(|_, client, is_draft2, at| {
        if !is_draft2 {
            return;
        }
        assert_text(client, "POST", "/batch", b"b=2\na=1\nmissing\nc=x=y\n", "b=2\na=1\nnone\nc=x=y\n", at);
        assert_text(client, "POST", "/batch", b"c\nmissing\na\na=3\n", "c=x=y\nnone\na=3\na=3\n", at);
        assert_text(client, "GET", "/keys", b"", "a\nb\nc\n", at);
        assert_text(client, "DELETE", "/batch", b"a\nmissing\nc\n", "ok\n", at);
        assert_text(client, "GET", "/keys", b"", "b\n", at);
    });
}

#[test]
fn a_listing_has_every_key_over_many_pages() {
    // A page has at most 1,000 keys. `counter` cannot set them at once, so another shape does, in the same bucket.
    for backend in BACKENDS {
        let bindings = format!("bindings = {{ keyvalue = {{ default = \"{backend}\" }} }}");
        let app = SHAPES.iter().fold(App::new(), |app, (guest, _)| {
            app.module(guest, guest, &bindings).route("/*", guest, &format!("host = \"{guest}.example\""))
        });
        let fornax = Fornax::run(FORNAX, app.write(), &[]);
        let mut client = fornax.client();
        let lines: String = (0..2500).map(|index| format!("key-{index:05}={index}\n")).collect();
        let host = [("host", "counter-draft2.example")];
        assert_eq!(client.request("POST", "/batch", &host, Body::Length(lines.into())).status, 200, "{backend}");
        let expected: String = (0..2500).map(|index| format!("key-{index:05}\n")).collect();
        for (guest, _) in SHAPES {
            let host = format!("{guest}.example");
            let listing = client.request("GET", "/keys", &[("host", &host)], Body::None);
            assert_eq!(listing.status, 200, "{guest} over {backend}");
            assert!(listing.text() == expected, "{guest} over {backend}: {} keys", listing.text().lines().count());
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_restart_and_a_kill() {
    let data = App::new();
    let data = data.folder().join("data");
    let data = data.to_str().expect("UTF-8");
    let mut sum = 0;
    for (guest, _) in SHAPES {
        let app = app(guest, "embedded");
        // Ended in order.
        let mut fornax = Fornax::run(FORNAX, app.write(), &["--data", data]);
        sum += 1;
        assert_text(&mut fornax.client(), "POST", "/?key=n", b"", &format!("{sum}\n"), guest);
        fornax.terminate();
        assert_eq!(fornax.wait().code(), Some(0), "{guest}");
        // Killed right after its answer.
        let fornax = Fornax::run(FORNAX, app.write(), &["--data", data]);
        sum += 1;
        assert_text(&mut fornax.client(), "POST", "/?key=n", b"", &format!("{sum}\n"), guest);
        drop(fornax);
    }
    let fornax = Fornax::run(FORNAX, app("counter", "embedded").write(), &["--data", data]);
    assert_text(&mut fornax.client(), "GET", "/?key=n", b"", "6\n", "at the end");
}

#[test]
fn a_named_backend_is_a_file_of_its_own() {
    let app = App::new().server("data = \"data\"");
    let bindings = "bindings = { keyvalue = { default = \"sessions\" } }";
    let backend = "[backend.sessions]\ninterface = \"keyvalue\"\ntype = \"redb\"\npath = \"sessions.redb\"";
    let app = app.module("counter", "counter", bindings).tables(backend);
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    assert_text(&mut fornax.client(), "POST", "/?key=n&by=3", b"", "3\n", "first");
    drop(fornax);
    assert!(app.folder().join("data/sessions.redb").is_file());
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    assert_text(&mut fornax.client(), "GET", "/?key=n", b"", "3\n", "again");
}

#[test]
fn a_file_alone_has_the_embedded_store_and_forgets_it() {
    for (name, _) in SHAPES {
        for _ in 0..2 {
            let fornax = Fornax::run(FORNAX, guest(name), &[]);
            assert_text(&mut fornax.client(), "POST", "/?key=n", b"", "1\n", name);
        }
    }
}
