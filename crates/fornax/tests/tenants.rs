//! Two tenants in one process: their routes, names, data and limits are apart.

use std::time::{Duration, Instant};

use testkit::{App, Body, Client, Fornax, Response, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

const TENANTS: [&str; 2] = ["a", "b"];

/// Both tenants have the same modules under the same names and the same backend; only `a` is limited.
fn serve(backend: &str, quotas: &str) -> Fornax {
    let mut app = App::new().server("metrics = \"/metrics\"");
    for tenant in TENANTS {
        let module = format!("tenant = \"{tenant}\"");
        let route = format!("tenant = \"{tenant}\"\nhost = \"{tenant}.example\"");
        let bindings = format!("{module}\nbindings = {{ keyvalue = {{ default = \"{backend}\" }} }}");
        app = app
            .module("counter", "counter", &bindings)
            .route("/*", "counter", &route)
            .module("stream", "afterlife", &module)
            .route("/stream", "stream", &route)
            .module("hello", "hello-wasip2", &module)
            .route(&format!("/only-{tenant}"), "hello", &route);
    }
    Fornax::run(FORNAX, app.tables(&format!("[tenant.a]\n{quotas}")).write(), &[])
}

fn ask(client: &mut Client, tenant: &str, method: &str, path: &str) -> Response {
    client.request(method, path, &[("host", &format!("{tenant}.example"))], Body::None)
}

/// A call of `tenant` that is in flight for certain: its first chunk has come, its second comes after `ms`.
fn begin(fornax: &Fornax, tenant: &str, ms: u32) -> Client {
    let mut client = fornax.client();
    let host = format!("{tenant}.example");
    let head = client.head("GET", &format!("/stream?mode=midbody&ms={ms}"), &[("host", &host)], &Body::None);
    client.send(head.as_bytes()).expect("sent");
    assert_eq!(client.read_head().expect("a head").status, 200);
    assert_eq!(client.read_chunk().expect("a chunk"), Some(b"first\n".to_vec()));
    client
}

#[track_caller]
fn finish(mut client: Client) {
    assert_eq!(client.read_chunk().expect("a chunk"), Some(b"second\n".to_vec()));
    assert_eq!(client.read_chunk().expect("the end"), None);
}

#[test]
fn routes_data_and_limits_are_apart() {
    for backend in ["memory", "embedded"] {
        let fornax = serve(backend, "in_flight = 1\nqueue = 0");
        let mut client = fornax.client();

        // Routes: a path of the one is nothing to the other, and the same path is another module.
        assert_eq!(ask(&mut client, "a", "GET", "/only-a").text(), "Hello from Fornax!\n");
        assert_eq!(ask(&mut client, "b", "GET", "/only-b").text(), "Hello from Fornax!\n");
        assert_eq!(ask(&mut client, "a", "GET", "/only-b").text(), "no such command\n", "the counter's own answer");
        assert_eq!(ask(&mut client, "c", "GET", "/only-a").status, 404);

        // Data: the same bucket and key of the same backend, and two values.
        assert_eq!(ask(&mut client, "a", "POST", "/?key=k&by=5").text(), "5\n", "{backend}");
        assert_eq!(ask(&mut client, "b", "GET", "/?key=k").text(), "0\n", "{backend}");
        assert_eq!(ask(&mut client, "b", "GET", "/keys").text(), "", "{backend}");
        assert_eq!(ask(&mut client, "b", "POST", "/?key=k&by=2").text(), "2\n", "{backend}");
        assert_eq!(ask(&mut client, "b", "POST", "/?key=mine").text(), "1\n", "{backend}");
        assert_eq!(ask(&mut client, "b", "DELETE", "/?key=k").text(), "ok\n", "{backend}");
        assert_eq!(ask(&mut client, "a", "GET", "/?key=k").text(), "5\n", "{backend}");
        assert_eq!(ask(&mut client, "a", "GET", "/keys").text(), "k\n", "{backend}");

        // Limits: the one place of `a` is taken, `b` notices nothing.
        let busy = begin(&fornax, "a", 4000);
        let refused = ask(&mut client, "a", "GET", "/only-a");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{backend}");
        assert!(refused.text().starts_with(r#"{"type":"overloaded","#), "{}", refused.text());
        for _ in 0..20 {
            let begun = Instant::now();
            assert_eq!(ask(&mut client, "b", "GET", "/only-b").status, 200);
            assert!(begun.elapsed() < Duration::from_millis(1000), "{:?}", begun.elapsed());
        }
        finish(busy);
        wait_until("the place is free again", Duration::from_secs(10), || ask(&mut client, "a", "GET", "/only-a").status == 200);

        let metrics = client.get("/metrics").text();
        for line in [
            r#"fornax_calls_total{tenant="a",module="hello",outcome="overloaded"} "#,
            r#"fornax_calls_total{tenant="b",module="hello",outcome="2xx"} 21"#,
        ] {
            assert!(metrics.contains(line), "{line}\nin\n{metrics}");
        }
        assert!(!metrics.contains(r#"tenant="b",module="hello",outcome="overloaded""#));
    }
}

#[test]
fn a_call_waits_for_a_place_as_long_as_its_tenant_may() {
    let fornax = serve("memory", "in_flight = 1\nqueue = 1\nqueue_wait = \"20s\"");
    let mut client = fornax.client();
    let busy = begin(&fornax, "a", 1500);
    let begun = Instant::now();
    assert_eq!(ask(&mut client, "a", "GET", "/only-a").status, 200);
    assert!(begun.elapsed() > Duration::from_millis(500), "it did not wait: {:?}", begun.elapsed());
    finish(busy);

    let fornax = serve("memory", "in_flight = 1\nqueue = 1\nqueue_wait = \"300ms\"");
    let mut client = fornax.client();
    let busy = begin(&fornax, "a", 4000);
    let begun = Instant::now();
    let refused = ask(&mut client, "a", "GET", "/only-a");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(3), "{waited:?}");
    finish(busy);
}

#[test]
fn a_log_line_names_its_tenant() {
    let fornax = serve("memory", "in_flight = 9");
    for tenant in TENANTS {
        let mut client = fornax.client();
        assert_eq!(ask(&mut client, tenant, "GET", &format!("/stream?ms=1&id=of-{tenant}")).text(), "done\n");
        let line = fornax.wait_for_log(|line| line.contains(&format!("finished of-{tenant}")), Duration::from_secs(20));
        assert!(line.contains(&format!("tenant={tenant} module=stream")), "{line}");
    }
}
