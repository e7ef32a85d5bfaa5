//! `cache` on a route: a guest's answer is given again until its time is over, and by nobody else's.

use std::fs;
use std::time::Duration;

use testkit::{App, Body, Fornax, guest, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(30);

const COUNTER: &str = "bindings = { keyvalue = { default = \"memory\" } }";

#[test]
fn a_stored_answer_runs_no_guest() {
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .module("counter", "counter", COUNTER)
        .route("/", "counter", "host = \"stored\"\ncache = { ttl = \"10m\" }")
        .route("/", "counter", "host = \"brief\"\ncache = { ttl = \"300ms\" }")
        .route("/", "counter", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let mut ask = |method: &str, host: &str, key: &str| {
        let response = client.request(method, &format!("/?key={key}"), &[("host", host)], Body::None);
        (response.text().trim().to_owned(), response.header("age").is_some())
    };
    let answer = |text: &str, is_stored| (text.to_owned(), is_stored);
    for (method, host, key, text, is_stored) in [
        ("POST", "stored", "a", "1", false),
        ("POST", "stored", "a", "2", false),
        ("GET", "stored", "a", "2", false),
        ("GET", "brief", "a", "2", false),
        ("POST", "fresh", "a", "3", false),
        ("GET", "stored", "a", "2", true),
        ("GET", "fresh", "a", "3", false),
        ("GET", "stored", "b", "0", false),
    ] {
        assert_eq!(ask(method, host, key), answer(text, is_stored), "{method} {host} {key}");
    }
    wait_until("the brief one ends", SOON, || ask("GET", "brief", "a").0 == "3");
    let metrics = client.get("/metrics").text();
    assert!(metrics.contains(r#"fornax_cache_hits_total{tenant="default",module="counter"}"#), "{metrics}");
}

#[test]
fn a_reload_leaves_old_answers_behind() {
    let app = App::new();
    let bytes = |name: &str| fs::read(guest(name)).expect("a guest");
    app.file("app.wasm", &bytes("hello-wasip2"));
    let tables = |greeting: &str| {
        format!(
            "[[module]]\nname = \"app\"\nsource = \"app.wasm\"\nenv = {{ GREETING = \"{greeting}\" }}\n\
             [[route]]\npath = \"/*\"\nmodule = \"app\"\ncache = {{ ttl = \"10m\" }}\n"
        )
    };
    let file = app.file("fornax.toml", tables("one").as_bytes());
    let fornax = Fornax::run(FORNAX, file, &["--watch"]);
    let mut client = fornax.client();
    assert_eq!(client.get("/").text(), "Hello from Fornax!\n");
    assert!(client.get("/").header("age").is_some());
    // Another artifact.
    app.file("app.wasm", &bytes("inspect"));
    wait_until("the new one answers", SOON, || client.get("/").text().contains("\"GREETING\": \"one\""));
    assert!(client.get("/").header("age").is_some());
    // The same artifact and version, and another configuration.
    app.file("fornax.toml", tables("two").as_bytes());
    wait_until("the new one answers", SOON, || client.get("/").text().contains("\"GREETING\": \"two\""));
}
