//! What all guests of a tenant may use together: memory, and lines in the log. What is over it is the tenant's own trouble.

use std::time::Duration;

use testkit::{App, Fornax, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

const SOON: Duration = Duration::from_secs(10);

/// A program with 40 MiB from the start, which waits for so many nanoseconds.
fn holds_memory(nanoseconds: u64) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 640)
        (func (export "_start")
          (i32.store (i32.const 16) (i32.const 1))
          (i64.store (i32.const 24) (i64.const {nanoseconds}))
          (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))"#
    );
    wat::parse_str(text).expect("a module")
}

/// A program that writes a thousand lines of 1 KiB to standard error, and then answers.
const WRITES_MUCH: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "said\n")
    (func (export "_start") (local $left i32)
      (memory.fill (i32.const 1024) (i32.const 97) (i32.const 1023))
      (i32.store8 (i32.const 2047) (i32.const 10))
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 1024))
      (local.set $left (i32.const 1000))
      (loop $again
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 5))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn module(name: &str, file: &str, tenant: &str) -> String {
    format!(
        "[[module]]\nname = {name:?}\nsource = {file:?}\ntenant = {tenant:?}\ncodec = \"wasio\"\n\
         [[route]]\npath = \"/{name}\"\nmodule = {name:?}\ntenant = {tenant:?}\n"
    )
}

fn metric(metrics: &str, name: &str) -> u64 {
    let value = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok());
    value.sum()
}

#[test]
fn a_tenant_has_no_more_memory_than_its_own_and_others_have_theirs() {
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .tables("[tenant.loud]\nmemory = \"64MiB\"")
        .tables(&module("waits", "waits.wasm", "loud"))
        .tables(&module("next", "next.wasm", "loud"))
        .tables(&module("other", "next.wasm", "quiet"));
    app.file("waits.wasm", &holds_memory(20_000_000_000));
    app.file("next.wasm", &holds_memory(1_000_000));
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let (mut client, mut waits) = (server.client(), server.client());
    assert_eq!(client.get("/next").status, 200, "alone it has room");
    waits.send(waits.head("GET", "/waits", &[], &testkit::Body::None).as_bytes()).expect("sent");
    wait_until("it has begun", SOON, || metric(&client.get("/metrics").text(), "fornax_in_flight ") == 1);
    let refused = client.get("/next");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
    assert!(refused.text().contains(r#""type":"overloaded""#), "{}", refused.text());
    assert_eq!(client.get("/other").status, 200, "another tenant has its own");
    drop(waits);
    wait_until("what it had is there again", SOON, || client.get("/next").status == 200);
}

#[test]
fn a_tenant_that_floods_the_log_loses_its_own_lines() {
    const RATE: usize = 16 << 10;
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .tables("[tenant.loud]\nlog_rate = \"16KiB\"")
        .tables(&module("loud", "writes.wasm", "loud"))
        .tables(&module("quiet", "writes.wasm", "quiet"));
    app.file("writes.wasm", &wat::parse_str(WRITES_MUCH).expect("a module"));
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let began = std::time::Instant::now();
    let mut client = server.client();
    for _ in 0..5 {
        assert_eq!(client.get("/loud").text(), "said\n", "its answer does not depend on the log");
    }
    assert_eq!(client.get("/quiet").text(), "said\n");
    let seconds = began.elapsed().as_secs_f64() + 1.0;
    let metrics = client.get("/metrics").text();
    let dropped = metric(&metrics, "fornax_log_lines_dropped_total{tenant=\"loud\"") as usize;
    let lines_of = |tenant: &str| {
        let wanted = format!("tenant={tenant}");
        server.log().iter().filter(|line| line.contains(&wanted) && line.contains("aaaaaaaa")).count()
    };
    wait_until("all lines are there", SOON, || lines_of("loud") + dropped == 5000);
    let bytes = lines_of("loud") * (1 << 10);
    assert!(bytes as f64 <= RATE as f64 * seconds, "{bytes} bytes in {seconds} s");
    assert!(lines_of("quiet") >= 50, "another tenant's lines are not dropped for it: {}", lines_of("quiet"));
    let said = server.wait_for_log(|line| line.contains("dropped=") && line.contains("tenant=loud"), SOON);
    assert!(said.contains("lines are dropped"), "{said}");
}

#[test]
fn a_tenant_whose_calls_fail_all_the_time_does_not_fill_the_log() {
    const CALLS: usize = 1000;
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .tables("[tenant.loud]\nlog_rate = \"16KiB\"")
        .tables(&module("loud", "traps.wasm", "loud"))
        .tables(&module("quiet", "traps.wasm", "quiet"));
    let traps = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;
    app.file("traps.wasm", &wat::parse_str(traps).expect("a module"));
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let began = std::time::Instant::now();
    let mut client = server.client();
    for _ in 0..CALLS {
        assert_eq!(client.get("/loud").status, 502);
    }
    assert_eq!(client.get("/quiet").status, 502);
    let seconds = began.elapsed().as_secs_f64() + 1.0;
    let metrics = client.get("/metrics").text();
    let dropped = metric(&metrics, "fornax_log_lines_dropped_total{tenant=\"loud\"") as usize;
    let lines_of = |tenant: &str| {
        let wanted = format!("tenant=\"{tenant}\"");
        server.log().iter().filter(|line| line.contains(&wanted) && line.contains("kind=\"trap\"")).count()
    };
    wait_until("all lines are there", SOON, || lines_of("loud") + dropped == CALLS && lines_of("quiet") == 1);
    // A line has at least what every line has.
    assert!((lines_of("loud") * 128) as f64 <= (16 << 10) as f64 * seconds, "{} lines in {seconds} s", lines_of("loud"));
    assert!(dropped > 0, "{seconds} s");
}
