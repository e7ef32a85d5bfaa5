//! The server's own pages and its access log.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{App, Body, Client, Fornax, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(30);

/// Two modules with every page.
fn app() -> App {
    let app = App::new()
        .server("access_log = true\nmetrics = \"/metrics\"")
        .module("hello", "hello-wasip2", "")
        .module("trap", "hostile-trap", "")
        .module("slow", "slow", "")
        .route("/hello", "hello", "cache = { ttl = \"10m\" }\ndescription = \"Says <b>hello</b>\"\nexample = \"?name=you\"")
        .route("/trap", "trap", "category = \"Bad\"")
        .route("/slow", "slow", "");
    [("/", "index"), ("/health", "health"), ("/monitoring", "monitoring"), ("/stats", "monitoring")]
        .into_iter()
        .fold(app, |app, (path, page)| app.tables(&format!("[[route]]\npath = {path:?}\npage = {page:?}")))
}

fn stats(client: &mut Client) -> Value {
    let response = client.get("/stats?format=json");
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    serde_json::from_slice(&response.body).expect("JSON")
}

#[test]
fn what_was_counted_survives_a_reload() {
    let with = |app: App| app.tables("[[route]]\npath = \"/stats\"\npage = \"monitoring\"");
    let cached = "cache = { ttl = \"10m\" }";
    let app = with(
        App::new()
            .module("hello", "hello-wasip2", "")
            .module("rot13", "plugin-rot13", "")
            .route("/hello", "hello", cached)
            .tables(&format!("[[route]]\npath = \"/chain\"\nchain = [\"rot13\", \"rot13\"]\n{cached}")),
    );
    let next = with(App::new().module("rot13", "plugin-rot13", "").route("/next", "rot13", ""));
    let fornax = Fornax::run(FORNAX, app.write(), &["--watch"]);
    let mut client = fornax.client();
    for path in ["/hello", "/hello", "/chain?input=a", "/chain?input=a", "/chain?input=a"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    let cache = |stats: Value| [stats["cache_hits"].clone(), stats["cache_misses"].clone()];
    assert_eq!(cache(stats(&mut client)), [3, 2]);
    app.file("fornax.toml", next.text().as_bytes());
    wait_until("it is reloaded", SOON, || client.get("/next").status == 200);
    assert_eq!(cache(stats(&mut client)), [3, 2]);
}

#[test]
fn pages_tell_what_there_is_and_how_it_is_doing() {
    let fornax = Fornax::run(FORNAX, app().write(), &[]);
    let mut client = fornax.client();
    assert_eq!(client.get("/health").text(), "OK");
    let index = client.get("/");
    assert_eq!((index.status, index.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for part in [
        "<h2>/hello <span class=\"tag\">Custom</span></h2><p>Says &lt;b&gt;hello&lt;/b&gt;</p>",
        "<a href=\"/hello?name=you\">Example</a>",
        "<h2>/trap <span class=\"tag\">Bad</span></h2>",
        "<a href=\"/monitoring\">Monitoring</a>",
    ] {
        assert!(index.text().contains(part), "{part} is missing in\n{}", index.text());
    }
    assert!(!index.text().contains(".wasm") && !index.text().contains("<script"), "{}", index.text());
    assert!(index.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));

    for (path, status) in [("/hello", 200), ("/hello", 200), ("/hello?name=you", 200), ("/trap", 502), ("/none", 404)] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
    let stats = stats(&mut client);
    for (name, value) in [
        ("total_requests", json!(7)),
        ("success_requests", json!(5)),
        ("error_requests", json!(2)),
        ("cache_hits", json!(1)),
        ("cache_misses", json!(2)),
        ("module_cache_hits", json!(3)),
        ("module_cache_miss", json!(3)),
        ("route_stats", json!({ "/hello": 3, "/trap": 1, "/slow": 0 })),
    ] {
        assert_eq!(stats[name], value, "{name} in {stats}");
    }
    for name in ["start_time", "average_response_time", "uptime"] {
        assert!(stats[name].as_str().is_some_and(|text| !text.is_empty()), "{name} in {stats}");
    }
    let page = client.get("/monitoring");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<tr><th>/hello</th><td>3</td></tr>"), "{}", page.text());

    assert_eq!(client.request("HEAD", "/stats", &[], Body::None).status, 200);
    let refused = client.request("POST", "/stats", &[], Body::None);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_tenant_sees_its_own_routes_and_numbers() {
    let app = App::new().top("tenant = \"one\"").module("hello", "hello-wasip2", "").route("/hello", "hello", "").tables(
        "[[module]]\nname = \"other\"\nsource = \"other.wasm\"\ntenant = \"two\"\n\
         [[route]]\npath = \"/other\"\nmodule = \"other\"\ntenant = \"two\"\n\
         [[route]]\npath = \"/one\"\npage = \"index\"\n\
         [[route]]\npath = \"/two\"\npage = \"index\"\ntenant = \"two\"\n\
         [[route]]\npath = \"/two/stats\"\npage = \"monitoring\"\ntenant = \"two\"",
    );
    app.file("other.wasm", &std::fs::read(testkit::guest("hello-wasip2")).expect("a guest"));
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let (one, two) = (client.get("/one").text(), client.get("/two").text());
    assert!(one.contains("/hello") && !one.contains("/other") && !one.contains("Monitoring"), "{one}");
    assert!(two.contains("/other") && !two.contains("/hello") && two.contains("/two/stats"), "{two}");
    for path in ["/hello", "/other", "/hello"] {
        assert_eq!(client.get(path).status, 200);
    }
    let stats: Value = serde_json::from_slice(&client.get("/two/stats?format=json").body).expect("JSON");
    assert_eq!(stats["route_stats"], json!({ "/other": 1 }));
    assert_eq!(stats["total_requests"], json!(2), "the index and the module: {stats}");
}

#[test]
fn every_request_is_a_line_of_the_access_log() {
    let fornax = Fornax::run(FORNAX, app().write(), &[]);
    let mut client = fornax.client();
    let fields = [("user-agent", "a \"quoted\" \\ agent\t1"), ("referer", "http://x/\u{fc}")];
    client.request("GET", "/hello?a=%22", &fields, Body::None);
    client.request("HEAD", "/health", &[], Body::None);
    client.get("/none");
    client.request("POST", "/trap", &[], Body::Length(b"x".to_vec()));
    for ending in [
        r#"] "GET /hello?a=%22 HTTP/1.1" 200 19 "http://x/\xc3\xbc" "a \"quoted\" \\ agent\x091""#,
        r#"] "HEAD /health HTTP/1.1" 200 - "-" "-""#,
    ] {
        let line = fornax.wait_for_log(|line| line.ends_with(ending), SOON);
        let date = line.strip_prefix("127.0.0.1 - - [").and_then(|line| line.strip_suffix(ending)).expect("the combined form");
        assert!(date.len() == 26 && date.ends_with(" +0000") && date.as_bytes()[2] == b'/', "{line}");
    }
    for middle in [r#""GET /none HTTP/1.1" 404 "#, r#""POST /trap HTTP/1.1" 502 "#] {
        fornax.wait_for_log(|line| line.contains(middle), SOON);
    }
    // A client that leaves is a line too.
    let mut leaver = fornax.client();
    leaver.send(b"GET /slow?ms=60000 HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    wait_until("its guest runs", SOON, || client.get("/metrics").text().contains("fornax_in_flight 1\n"));
    drop(leaver);
    fornax.wait_for_log(|line| line.contains(r#""GET /slow?ms=60000 HTTP/1.1" 499 - "#), SOON);
}

#[test]
fn the_access_log_is_silent_unless_asked_for_and_can_be_json() {
    let app = App::new().module("hello", "hello-wasip2", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    assert_eq!(fornax.client().get("/").status, 200);
    let logged = App::new().server("access_log = true").module("hello", "hello-wasip2", "");
    let json = Fornax::run(FORNAX, logged.write(), &["--json"]);
    assert_eq!(json.client().get("/").status, 200);
    let line = json.wait_for_log(|line| line.contains("HTTP/1.1"), SOON);
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["target"], "access");
    assert!(line["message"].as_str().is_some_and(|text| text.contains("\"GET / HTTP/1.1\" 200 19 ")), "{line}");
    assert!(!fornax.log().iter().any(|line| line.contains("HTTP/1.1")), "{:?}", fornax.log());
}

#[test]
fn numbers_survive_a_reload() {
    let app = app();
    let fornax = Fornax::run(FORNAX, app.write(), &["--watch"]);
    let mut client = fornax.client();
    client.get("/hello");
    let app = app.route("/more", "hello", "");
    app.write();
    wait_until("the new route answers", SOON, || client.get("/more").status == 200);
    let stats = stats(&mut client);
    assert_eq!(stats["route_stats"]["/hello"], json!(1), "{stats}");
    assert!(client.get("/").text().contains("<h2>/more "));
}
