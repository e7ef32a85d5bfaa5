//! Who a request is from: what a trusted proxy says counts, what anybody else says does not even reach a guest.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{App, Body, Fornax};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

const SOON: Duration = Duration::from_secs(10);

fn serve(trusted: &str) -> Fornax {
    let app = App::new()
        .server(&format!("access_log = true\n{trusted}"))
        .module("inspect", "inspect", "")
        .route("/inspect", "inspect", "")
        .module("cgi", "cgi-echo", "codec = \"cgi\"")
        .route("/cgi", "cgi", "");
    Fornax::run(FORNAX, app.write(), &[])
}

/// What a component is told: the scheme, and each field that a proxy could have written.
fn inspect(fornax: &Fornax, fields: &[(&str, &str)]) -> (Value, Vec<(String, String)>) {
    let answer = fornax.client().request("GET", "/inspect", fields, Body::None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let headers: Vec<(String, String)> = serde_json::from_value(told["headers"].clone()).expect("fields");
    (told["scheme"].clone(), headers.into_iter().filter(|(name, _)| name.contains("orwarded")).collect())
}

/// What a program behind `cgi` is told of its client.
fn cgi(fornax: &Fornax, fields: &[(&str, &str)]) -> Vec<String> {
    let answer = fornax.client().request("GET", "/cgi", fields, Body::None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let names = ["SERVER_PORT=", "REMOTE_ADDR=", "HTTP_X_FORWARDED", "HTTP_FORWARDED"];
    let text = answer.text();
    let lines = names.iter().flat_map(|name| text.lines().filter(move |line| line.starts_with(name)));
    lines.map(str::to_owned).collect()
}

#[test]
fn nobody_is_believed_where_no_proxy_is_trusted() {
    let others = ["", "trusted_proxies = [\"10.0.0.0/8\", \"127.0.0.2\", \"::1\"]"];
    for fornax in others.map(serve) {
        for fields in [
            &[("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example")][..],
            &[("X-Forwarded-Port", "443"), ("x-forwarded-anything", "1"), ("X_Forwarded_For", "203.0.113.7")],
            &[("Forwarded", "for=203.0.113.7;proto=https;host=evil.example")],
            &[("Forwarded", "for=\"203"), ("X-Forwarded-For", "\", ,unknown"), ("X-Forwarded-Proto", "")],
        ] {
            assert_eq!(inspect(&fornax, fields), (json!("http"), Vec::new()), "{fields:?}");
            let port = fornax.addr().port();
            let expected = [format!("SERVER_PORT={port}"), "REMOTE_ADDR=127.0.0.1".to_owned()];
            assert_eq!(cgi(&fornax, fields), expected, "{fields:?}");
        }
        fornax.wait_for_log(|line| line.starts_with("127.0.0.1 - - ") && line.contains("/cgi"), SOON);
        assert!(!fornax.log().iter().any(|line| line.starts_with("203.0.113.7")), "{:?}", fornax.log());
    }
}

#[test]
fn a_trusted_proxy_says_who_its_client_is_and_how_it_came() {
    let fornax = serve("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]");
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    // The left end is what the client wrote.
    let chain = [("X-Forwarded-For", "1.1.1.1, 203.0.113.7, 10.1.2.3"), ("X-Forwarded-Proto", "https")];
    let left = vec![field("x-forwarded-for", "203.0.113.7, 10.1.2.3"), field("x-forwarded-proto", "https")];
    assert_eq!(inspect(&fornax, &chain), (json!("https"), left));
    let expected = [
        "SERVER_PORT=443",
        "REMOTE_ADDR=203.0.113.7",
        "HTTP_X_FORWARDED_FOR=203.0.113.7, 10.1.2.3",
        "HTTP_X_FORWARDED_PROTO=https",
    ];
    assert_eq!(cgi(&fornax, &[("Host", "shop.example"), chain[0], chain[1]]), expected);
    fornax.wait_for_log(|line| line.starts_with("203.0.113.7 - - ") && line.contains("/cgi"), SOON);

    let forwarded = [("Forwarded", "for=1.1.1.1, for=\"[2001:db8::7]:4711\";proto=https;by=_edge")];
    let left = vec![field("forwarded", "for=\"[2001:db8::7]:4711\";proto=https;by=_edge")];
    assert_eq!(inspect(&fornax, &forwarded), (json!("https"), left));
    assert!(cgi(&fornax, &forwarded).contains(&"REMOTE_ADDR=2001:db8::7".to_owned()));

    // Who is hidden is not known, and nothing breaks.
    for hidden in ["unknown", "_hidden", "\"_hidden:80\"", "\"unix:/run/a\"", "\"[fe80::1%25lo]\"", "\"\"", "a=b"] {
        let value = format!("for={hidden}");
        assert!(cgi(&fornax, &[("Forwarded", &value)]).contains(&"REMOTE_ADDR=127.0.0.1".to_owned()), "{value}");
    }
    // Its own requests, such as probes, are its own.
    assert_eq!(inspect(&fornax, &[]), (json!("http"), Vec::new()));
}

#[test]
fn what_a_proxy_cannot_have_meant_is_refused() {
    let fornax = serve("trusted_proxies = [\"127.0.0.1\"]");
    for fields in [
        &[("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=198.51.100.1")][..],
        &[("X-Forwarded-Proto", "https"), ("Forwarded", "for=127.0.0.1;proto=http")],
        &[("Forwarded", "for=198.51.100.1;x=\", for=203.0.113.7")],
    ] {
        let mut client = fornax.client();
        let answer = client.request("GET", "/inspect", fields, Body::None);
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{fields:?}: {}", answer.text());
        assert_eq!(client.read_to_end().expect("the end"), b"");
    }
    assert_eq!(inspect(&fornax, &[]).0, json!("http"));
}

/// `GET` of `/inspect` over HTTP/1 with an absolute target, as proxies may send it.
fn absolute(fornax: &Fornax, scheme: &str) -> u16 {
    let mut client = fornax.client();
    client.send(format!("GET {scheme}://a/inspect HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).expect("sent");
    client.read_response("GET").expect("an answer").status
}

#[test]
fn a_target_may_name_the_scheme_a_trusted_proxy_was_asked_by() {
    let (none, trusted) = (serve(""), serve("trusted_proxies = [\"127.0.0.1\"]"));
    assert_eq!(["http", "https", "ftp"].map(|scheme| absolute(&none, scheme)), [200, 400, 400]);
    assert_eq!(["http", "https", "ftp"].map(|scheme| absolute(&trusted, scheme)), [200, 200, 400]);
}
