//! A WASIO `config.json`, as it is, with instruments of every kind.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{App, Body, Client, Fornax, guest, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"{
  "port": "8080",
  "cache_ttl": 600,
  "cache_size": 100,
  "index_page": true,
  "monitoring": true,
  "routes": {
    "/cached": { "wasm_file": "instruments/hello.wasm", "cache": true, "ttl": 600,
      "description": "Greets <you>", "category": "Basic", "example": "?name=Ada" },
    "/short": { "wasm_file": "instruments/hello.wasm", "cache": true, "ttl": 1 },
    "/global": { "wasm_file": "./instruments/hello.wasm", "cache": true },
    "/fresh": { "wasm_file": "instruments/hello.wasm", "cache": false },
    "/fibonacci": { "wasm_file": "instruments/../instruments/fibonacci.wasm", "description": "Numbers" },
    "/process_file": { "wasm_file": "instruments/process-file.wasm",
      "filesystem": { "mount": "/data", "path": "./data" } },
    "/wiki": { "wasm_file": "instruments/wiki.wasm", "filesystem": { "mount": "/wiki", "path": "pages" } },
    "/broken": { "wasm_file": "instruments/trap.wasm" }
  }
}"#;

/// A folder with all that the configuration names.
fn app(config: &str) -> App {
    let app = App::new();
    for folder in ["instruments", "data", "pages"] {
        fs::create_dir(app.folder().join(folder)).expect("a folder");
    }
    for (file, name) in [
        ("hello", "wasio-hello-world"),
        ("fibonacci", "wasio-fibonacci"),
        ("process-file", "wasio-process-file"),
        ("wiki", "wasio-wiki"),
        ("trap", "hostile-run-trap"),
    ] {
        app.file(&format!("instruments/{file}.wasm"), &fs::read(guest(name)).expect("a guest"));
    }
    app.file("data/input.txt", b"one\ntwo\nthree\n");
    app.file("config.json", config.as_bytes());
    app
}

fn serve(app: &App, args: &[&str]) -> Fornax {
    Fornax::run(FORNAX, app.folder().join("config.json"), args)
}

fn text(client: &mut Client, target: &str) -> String {
    let response = client.get(target);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response.text()
}

#[test]
fn every_route_answers_and_every_mount_is_there() {
    let app = app(CONFIG);
    let fornax = serve(&app, &[]);
    let mut client = fornax.client();
    assert!(text(&mut client, "/fresh?name=Ada").starts_with("Hello, Ada! (seed: "));
    assert!(text(&mut client, "/fibonacci?n=10").contains("55"));
    let shown = text(&mut client, "/process_file");
    assert!(shown.contains("two") && shown.contains('3'), "{shown}");
    let form = &[("content-type", "application/x-www-form-urlencoded")];
    let saved = client.request("POST", "/wiki?edit=home", form, Body::Length(b"content=Welcome".to_vec()));
    assert_eq!(saved.status, 200, "{}", saved.text());
    assert!(text(&mut client, "/wiki?page=home").contains("Welcome"));
    assert_eq!(fs::read_to_string(app.folder().join("pages/home.txt")).expect("a page"), "Welcome");
    let broken = client.get("/broken");
    assert!(broken.status == 502 && broken.text().contains(r#""type":"trap""#), "{}", broken.text());
    assert_eq!(client.get("/none").status, 404);
    // A path means itself, not what is below it.
    assert_eq!(client.get("/fresh/below").status, 404);
}

#[test]
fn what_is_cached_keeps_its_seed() {
    let app = app(CONFIG);
    let fornax = serve(&app, &[]);
    let mut client = fornax.client();
    for path in ["/cached", "/global"] {
        let first = text(&mut client, path);
        for _ in 0..3 {
            assert_eq!(text(&mut client, path), first);
        }
        assert_ne!(text(&mut client, &format!("{path}?name=Ada")), first);
        assert_eq!(text(&mut client, path), first);
        // What was asked with a body is not answered from what was asked without.
        assert_ne!(client.request("POST", path, &[], Body::Length(b"x".to_vec())).text(), first);
    }
    assert_ne!(text(&mut client, "/fresh"), text(&mut client, "/fresh"));
    // Two routes to the same file share nothing.
    assert_ne!(text(&mut client, "/cached"), text(&mut client, "/global"));
    let first = text(&mut client, "/short");
    wait_until("the answer is forgotten", SOON, || text(&mut client, "/short") != first);
}

#[test]
fn pages_list_and_count() {
    let app = app(CONFIG);
    let fornax = serve(&app, &[]);
    let mut client = fornax.client();
    assert_eq!(text(&mut client, "/health"), "OK");
    let index = text(&mut client, "/");
    assert_eq!(index.matches("class=\"card\"").count(), 8, "{index}");
    for part in ["Greets &lt;you&gt;", "Basic", "href=\"/cached?name=Ada\"", "href=\"/monitoring\"", "/process_file"] {
        assert!(index.contains(part), "{part} is missing in\n{index}");
    }
    for (path, status) in
        [("/cached", 200), ("/cached", 200), ("/cached?name=A", 200), ("/fresh", 200), ("/broken", 502), ("/none", 404)]
    {
        assert_eq!(client.get(path).status, status, "{path}");
    }
    let stats: Value = serde_json::from_str(&text(&mut client, "/stats?format=json")).expect("JSON");
    for (name, value) in [
        ("total_requests", json!(8)),
        ("success_requests", json!(6)),
        ("error_requests", json!(2)),
        ("cache_hits", json!(1)),
        ("cache_misses", json!(2)),
    ] {
        assert_eq!(stats[name], value, "{name} in {stats}");
    }
    assert_eq!((&stats["route_stats"]["/cached"], &stats["route_stats"]["/broken"]), (&json!(3), &json!(1)), "{stats}");
    let page: Value = serde_json::from_str(&text(&mut client, "/monitoring?format=json")).expect("JSON");
    assert_eq!(page["total_requests"], json!(9), "{page}");
    assert!(text(&mut client, "/monitoring").contains("<tr><th>/cached</th><td>3</td></tr>"));
}

#[test]
fn pages_that_are_turned_off_are_not_there() {
    let config =
        CONFIG.replace("\"index_page\": true", "\"index_page\": false").replace("\"monitoring\": true", "\"monitoring\": false");
    let app = app(&config);
    let fornax = serve(&app, &[]);
    let mut client = fornax.client();
    for (path, status) in [("/", 404), ("/monitoring", 404), ("/stats", 404), ("/health", 200), ("/fresh", 200)] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
}

#[test]
fn every_request_is_logged_in_the_combined_form() {
    let app = app(CONFIG);
    let fornax = serve(&app, &[]);
    let mut client = fornax.client();
    client.request("GET", "/fibonacci?n=10", &[("user-agent", "test/1"), ("referer", "http://x/")], Body::None);
    client.get("/broken");
    let ending = "\"http://x/\" \"test/1\"";
    let line = fornax.wait_for_log(|line| line.ends_with(ending), SOON);
    assert!(line.starts_with("127.0.0.1 - - [") && line.contains("] \"GET /fibonacci?n=10 HTTP/1.1\" 200 "), "{line}");
    fornax.wait_for_log(|line| line.contains("\"GET /broken HTTP/1.1\" 502 "), SOON);
}

#[test]
fn watching_sees_a_new_route_and_a_new_file() {
    let app = app(CONFIG);
    let fornax = serve(&app, &["--watch"]);
    let mut client = fornax.client();
    assert_eq!(client.get("/more").status, 404);
    let cached = text(&mut client, "/cached");
    let more = "\"/more\": { \"wasm_file\": \"instruments/fibonacci.wasm\" },\n    \"/broken\"";
    app.file("config.json", CONFIG.replace("\"/broken\"", more).as_bytes());
    wait_until("the new route answers", SOON, || client.get("/more?n=10").status == 200);
    assert_eq!(text(&mut client, "/").matches("class=\"card\"").count(), 9);
    assert_eq!(text(&mut client, "/cached"), cached);

    app.file("config.json", b"{ \"routes\": { \"/a\": { \"wasm_fil\": \"x\" } } }");
    fornax.wait_for_log(|line| line.starts_with("error: unknown key `wasm_fil` in "), SOON);
    assert_eq!(client.get("/more?n=10").status, 200);

    app.file("instruments/trap.wasm", &fs::read(guest("wasio-hello-world")).expect("a guest"));
    app.file("config.json", CONFIG.as_bytes());
    wait_until("the new file answers", SOON, || client.get("/broken").text().starts_with("Hello, World!"));
    assert_eq!(client.get("/more").status, 404);
}
