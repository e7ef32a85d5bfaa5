//! What a call cost, where its module shows it: in the head, in the trailers, in the log; and not in the cache.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::{App, Body, Fornax, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// For what happens at once where nothing else runs.
const SOON: Duration = Duration::from_secs(10);

const FIELD: &str = "fornax-evidence";

/// `cpu_us=12, wall_us=40, …`
#[track_caller]
fn numbers(field: &str) -> BTreeMap<String, u64> {
    let one = |part: &str| {
        let (name, number) = part.trim().split_once('=').unwrap_or_else(|| panic!("{field}"));
        (name.to_owned(), number.parse().unwrap_or_else(|_| panic!("{field}")))
    };
    let numbers: BTreeMap<_, _> = field.split(',').map(one).collect();
    let names: Vec<_> = numbers.keys().map(String::as_str).collect();
    let wanted = ["bytes_in", "bytes_out", "cpu_us", "host_calls", "instance_age_us", "memory_bytes", "wall_us"];
    assert_eq!(names, wanted, "{field}");
    numbers
}

#[test]
fn an_answer_says_what_it_cost_and_how_old_its_instance_was() {
    let app = App::new().module("recall", "recall", "evidence = true\nreuse = \"serial\"").route("/*", "recall", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    let mut ask = || {
        let answer = client.get("/");
        let of = numbers(answer.header(FIELD).unwrap_or_else(|| panic!("no evidence: {answer:?}")));
        assert!(of["wall_us"] >= of["cpu_us"] && of["cpu_us"] > 0, "{of:?}");
        assert!(of["memory_bytes"] >= 64 << 10, "a page at least: {of:?}");
        assert_eq!((of["bytes_in"], of["bytes_out"]), (0, answer.body.len() as u64), "{of:?}");
        assert!((1..100).contains(&of["host_calls"]), "what it was asked for, and its answer: {of:?}");
        of["instance_age_us"]
    };
    assert_eq!(ask(), 0, "a new one");
    wait_until("one that is kept, and older each time", SOON, || 0 < ask() && ask() < ask());
    let line = server.wait_for_log(|line| line.contains("instance_age_us="), SOON);
    for word in ["cpu_us=", "wall_us=", "memory_bytes=", "request=", "tenant=default", "module=recall"] {
        assert!(line.contains(word), "{word} is missing in {line}");
    }
}

#[test]
fn a_streamed_answer_says_it_in_its_trailers() {
    let app = App::new()
        .module("recall", "recall3", "evidence = true")
        .route("/*", "recall", "")
        .module("quiet", "recall3", "")
        .route("/quiet/*", "quiet", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    let streamed = client.request("GET", "/stream?ms=5", &[("te", "trailers")], Body::None);
    assert_eq!(streamed.header(FIELD), None);
    let (_, trailer) = streamed.trailers.iter().find(|(name, _)| name == FIELD).expect("a trailer");
    assert!(numbers(trailer)["wall_us"] >= 15_000, "{trailer}");
    let quiet = client.request("GET", "/quiet/stream?ms=5", &[("te", "trailers")], Body::None);
    assert!(quiet.header(FIELD).is_none() && quiet.trailers.is_empty(), "{quiet:?}");
}

#[test]
fn what_fails_is_in_the_log_too_and_the_cache_shows_nothing() {
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .module("recall", "recall", "evidence = true")
        .route("/*", "recall", "")
        .route("/kept", "recall", "cache = { ttl = \"10m\" }")
        .module("slow", "slow", "evidence = true")
        .route("/sleeps", "slow", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    assert_eq!(client.get("/trap").status, 502);
    server.wait_for_log(|line| line.contains("instance_age_us="), SOON);
    let mut leaves = server.client();
    leaves.send(leaves.head("GET", "/sleeps?ms=60000", &[], &Body::None).as_bytes()).expect("sent");
    wait_until("it has begun", SOON, || client.get("/metrics").text().lines().any(|line| line == "fornax_in_flight 1"));
    drop(leaves);
    server.wait_for_log(|line| line.contains("instance_age_us=") && line.contains("module=slow"), SOON);
    assert!(client.get("/kept").status == 200);
    let hit = client.get("/kept");
    assert!(hit.status == 200 && hit.header("age").is_some(), "{hit:?}");
    assert_eq!(hit.header(FIELD), None, "nothing was computed for it");
}
