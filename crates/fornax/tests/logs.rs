//! What a guest prints becomes log lines of the host: labelled, escaped, readable by programs.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{App, Fornax, guest};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_line_says_whose_it_is() {
    let app = App::new().top("tenant = \"acme\"").module("viewer", "inspect", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    assert_eq!(fornax.client().get("/seen").status, 200);
    let mut requests = Vec::new();
    for stream in ["stdout", "stderr"] {
        let label = format!("stream=\"{stream}\"");
        let line = fornax.wait_for_log(|line| line.contains("inspect: GET /seen") && line.contains(&label), SOON);
        assert!(line.contains("tenant=acme") && line.contains("module=viewer"), "{line}");
        let request = line.split("request=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an id");
        requests.push(request.to_owned());
    }
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[0].len(), 16);
    assert_eq!(fornax.client().get("/seen").status, 200);
    let [first, _] = requests.as_slice() else { unreachable!("two streams") };
    fornax.wait_for_log(|line| line.contains("/seen") && !line.contains(first.as_str()), SOON);
}

/// The guest prints its `id` as it is.
const FORGED: &str = "/?ms=1&id=%1b%5b31mred%0d%07%0a2026-01-01T00:00:00Z%20%20INFO%20guest:%20forged%00";

#[test]
fn no_guest_can_forge_a_line_or_drive_a_terminal() {
    let fornax = Fornax::run(FORNAX, guest("afterlife"), &[]);
    assert_eq!(fornax.client().get(FORGED).text(), "done\n");
    // A newline begins a line of its own, with the host's labels.
    let red = fornax.wait_for_log(|line| line.contains("31mred"), SOON);
    assert!(red.contains(r"afterlife: finished \u{1b}[31mred\r\u{7}"), "{red}");
    let forged = fornax.wait_for_log(|line| line.contains("forged"), SOON);
    assert!(!forged.starts_with("2026-01-01") && forged.contains(r"forged\u{0}"), "{forged}");
    for line in [&red, &forged] {
        assert!(line.contains("tenant=default") && line.contains("module=afterlife"), "{line}");
    }
    assert!(fornax.log().iter().all(|line| !line.contains(|c: char| c.is_control() && c != '\t')));
}

#[test]
fn lines_can_be_read_by_programs() {
    let fornax = Fornax::run(FORNAX, guest("afterlife"), &["--json"]);
    assert_eq!(fornax.client().get(FORGED).text(), "done\n");
    // The guest prints after its answer.
    fornax.wait_for_log(|line| line.contains("forged"), SOON);
    assert_eq!(fornax.client().get("/?ms=1&id=%22quoted%22").text(), "done\n");
    fornax.wait_for_log(|line| line.contains("quoted"), SOON);
    let lines = fornax.log();
    assert_eq!(lines[0], format!("listening on http://{}", fornax.addr()), "the first line is for whoever waits for it");
    let lines: Vec<Value> =
        lines[1..].iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    for line in &lines {
        assert_eq!(
            (&line["level"], &line["target"], &line["tenant"], &line["module"], &line["stream"]),
            (&json!("INFO"), &json!("guest"), &json!("default"), &json!("afterlife"), &json!("stdout"))
        );
        assert!(line["timestamp"].is_string() && line["request"].as_str().is_some_and(|id| id.len() == 16), "{line}");
    }
    let messages: Vec<_> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(
        messages,
        [
            r"afterlife: finished \u{1b}[31mred\r\u{7}",
            r"2026-01-01T00:00:00Z  INFO guest: forged\u{0}",
            "afterlife: finished \"quoted\"",
        ]
    );
}

#[test]
fn quiet_hides_what_guests_print_and_verbose_shows_what_clients_do() {
    let quiet = Fornax::run(FORNAX, guest("inspect"), &["-q"]);
    assert_eq!(quiet.client().get("/x").status, 200);
    assert_eq!(quiet.client().get("/y").status, 200);
    assert_eq!(quiet.log(), [format!("listening on http://{}", quiet.addr())]);

    let app = App::new().module("hello", "hello-wasip2", "").route("/hello", "hello", "");
    let verbose = Fornax::run(FORNAX, app.write(), &["-v"]);
    let response = verbose.client().get("/nowhere");
    let error: Value = serde_json::from_slice(&response.body).expect("JSON");
    let id = error["request"].as_str().expect("an id");
    let line = verbose.wait_for_log(|line| line.contains(id), SOON);
    assert!(line.contains("not-found") && line.contains("client"), "{line}");
}
