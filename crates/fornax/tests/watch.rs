//! `run --watch`: what changes on disk changes in service, and what is broken changes nothing.

use std::fs;
use std::time::Duration;

use testkit::{App, Body, Client, Fornax, guest, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(30);

const HELLO: &str = "Hello from Fornax!\n";

#[track_caller]
fn wait_for_body(client: &mut Client, path: &str, body: &str) {
    wait_until(&format!("{path} answers {body:?}"), SOON, || client.get(path).text() == body);
}

#[test]
fn a_changed_file_adds_a_route() {
    let app = App::new().module("hello", "hello-wasip2", "").module("multi", "multi", "").route("/a", "hello", "");
    let fornax = Fornax::run(FORNAX, app.write(), &["--watch"]);
    let mut client = fornax.client();
    assert_eq!((client.get("/a").status, client.get("/b").status), (200, 404));
    let app = app.route("/b", "multi", "");
    app.write();
    wait_for_body(&mut client, "/b", "http entry\n");
    assert_eq!(client.get("/a").text(), HELLO);
}

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    let app = App::new().module("hello", "hello-wasip2", "").route("/a", "hello", "");
    let good = app.text();
    let fornax = Fornax::run(FORNAX, app.write(), &["--watch"]);
    let mut client = fornax.client();
    let line = good.lines().count() + 1;
    app.file("fornax.toml", format!("{good}[[route]\n").as_bytes());
    let place = format!("fornax.toml at line {line}, column ");
    fornax.wait_for_log(|line| line.starts_with("error: ") && line.contains(&place), SOON);
    fornax.wait_for_log(|line| line.contains("not reloaded; what was in service stays"), SOON);
    assert_eq!(client.get("/a").text(), HELLO);

    app.file("fornax.toml", format!("{good}\n[[route]]\npath = \"/b\"\nmodule = \"helo\"\n").as_bytes());
    fornax.wait_for_log(|line| line.contains("unknown module `helo`") && line.contains("did you mean `hello`?"), SOON);
    assert_eq!((client.get("/a").status, client.get("/b").status), (200, 404));

    app.file("fornax.toml", format!("{good}\n[[route]]\npath = \"/b\"\nmodule = \"hello\"\n").as_bytes());
    wait_for_body(&mut client, "/b", HELLO);
}

#[test]
fn a_replaced_component_answers_from_then_on() {
    let app = App::new();
    let bytes = |name: &str| fs::read(guest(name)).expect("a guest");
    app.file("app.wasm", &bytes("hello-wasip2"));
    let app = app.tables("[[module]]\nname = \"app\"\nsource = \"app.wasm\"");
    let fornax = Fornax::run(FORNAX, app.write(), &["--watch"]);
    let mut client = fornax.client();
    assert_eq!(client.get("/").text(), HELLO);

    app.file("app.wasm", &bytes("multi"));
    wait_for_body(&mut client, "/", "http entry\n");

    // Half a build is no reason to stop serving.
    app.file("app.wasm", &bytes("hello-wasip2")[..1000]);
    fornax.wait_for_log(|line| line.contains("not reloaded"), SOON);
    assert_eq!(client.get("/").text(), "http entry\n");

    // Written in place, as some builds do, and of the other generation.
    fs::write(app.folder().join("app.wasm"), bytes("hello-wasip3")).expect("written");
    wait_for_body(&mut client, "/", HELLO);
}

#[test]
fn a_call_in_flight_ends_on_the_version_it_began_with() {
    let app = App::new();
    let bytes = |name: &str| fs::read(guest(name)).expect("a guest");
    let source = app.file("app.wasm", &bytes("afterlife"));
    let fornax = Fornax::run(FORNAX, source, &["--watch"]);
    let mut slow = fornax.client();
    slow.send(slow.head("GET", "/?mode=midbody&ms=3000", &[], &Body::None).as_bytes()).expect("sent");
    assert_eq!(slow.read_head().expect("a head").status, 200);
    assert_eq!(slow.read_chunk().expect("a chunk"), Some(b"first\n".to_vec()));
    app.file("app.wasm", &bytes("hello-wasip2"));
    wait_for_body(&mut fornax.client(), "/?ms=1", HELLO);
    assert_eq!(slow.read_chunk().expect("a chunk"), Some(b"second\n".to_vec()));
    assert_eq!(slow.read_chunk().expect("the end"), None);
    assert_eq!(slow.get("/").text(), HELLO, "the next request on the same connection");
}

#[test]
fn a_folder_that_is_removed_and_built_again_is_noticed() {
    let app = App::new();
    let bytes = |name: &str| fs::read(guest(name)).expect("a guest");
    let build = app.folder().join("build");
    let put = |name: &str| {
        fs::create_dir(&build).expect("a folder");
        app.file("build/app.wasm", &bytes(name));
    };
    put("hello-wasip2");
    let fornax = Fornax::run(FORNAX, build.join("app.wasm"), &["--watch"]);
    let mut client = fornax.client();
    assert_eq!(client.get("/").text(), HELLO);
    for (name, body) in [("multi", "http entry\n"), ("hello-wasip2", HELLO)] {
        fs::remove_dir_all(&build).expect("removed");
        put(name);
        wait_for_body(&mut client, "/", body);
    }
}

#[test]
fn a_link_that_is_switched_is_noticed() {
    let app = App::new();
    let bytes = |name: &str| fs::read(guest(name)).expect("a guest");
    for (release, name) in [("1", "hello-wasip2"), ("2", "multi")] {
        fs::create_dir_all(app.folder().join("releases").join(release)).expect("a folder");
        app.file(&format!("releases/{release}/app.wasm"), &bytes(name));
    }
    let current = app.folder().join("current");
    let switch = |release: &str| {
        let new = app.folder().join("new");
        std::os::unix::fs::symlink(app.folder().join("releases").join(release), &new).expect("a link");
        fs::rename(&new, &current).expect("switched");
    };
    switch("1");
    let fornax = Fornax::run(FORNAX, current.join("app.wasm"), &["--watch"]);
    let mut client = fornax.client();
    assert_eq!(client.get("/").text(), HELLO);
    switch("2");
    wait_for_body(&mut client, "/", "http entry\n");
}
