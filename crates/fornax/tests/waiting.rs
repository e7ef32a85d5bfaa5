//! Ten thousand calls that wait at once, of guests of either generation, in a process with the defaults of an ordinary machine.

use std::fs;
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{App, Client, Fornax, alone, note, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

const CALLS: usize = 10_000;

/// How long each guest sleeps: all of them have to be there before the first wakes, on a slow machine too.
const SLEEP: Duration = Duration::from_secs(15);

/// From the first request to the last answer, sleeping included.
const ALL_MAX: Duration = Duration::from_secs(60);

/// What docs/limits.md promises of a call that waits, its connection included.
const WAITING_CALL_BYTES_MAX: u64 = 128 << 10;

/// What is left of it for the rest of the process: the client's sockets and the server's files beside its own.
const OTHER_FILES: u64 = 500;

/// Sockets in this process, whose limit the server inherits.
fn may_have_so_many_files() -> bool {
    static RAISE: Once = Once::new();
    let limit = getrlimit(Resource::Nofile);
    RAISE.call_once(|| {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the hard limit");
    });
    limit.maximum.is_none_or(|maximum| maximum >= CALLS as u64 + OTHER_FILES)
}

fn mappings(fornax: &Fornax) -> usize {
    fs::read_to_string(format!("/proc/{}/maps", fornax.pid())).expect("the process is there").lines().count()
}

fn own_bytes(fornax: &Fornax) -> u64 {
    (fornax.status_number("RssAnon") + fornax.status_number("RssShmem")) << 10
}

fn in_flight(client: &mut Client) -> usize {
    let metrics = client.get("/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix("fornax_in_flight "));
    value.and_then(|value| value.parse().ok()).expect("a number")
}

fn ten_thousand_wait(guest: &str) {
    let _alone = alone();
    if !may_have_so_many_files() {
        assert!(std::env::var_os("CI").is_none(), "ulimit -Hn is too low for {CALLS} connections");
        note(&format!("SKIPPED: ulimit -Hn is too low for {CALLS} connections; that they can wait was NOT checked"));
        return;
    }
    let quotas = format!("[tenant.default]\nin_flight = {}", CALLS + 1);
    let app = App::new().server("metrics = \"/metrics\"").module("slow", guest, "").route("/slow", "slow", "").tables(&quotas);
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut watcher = fornax.client();
    assert_eq!(watcher.get("/slow?ms=0").text(), "slept\n", "it is loaded, so what comes is what calls take");
    let before = own_bytes(&fornax);

    let mut clients: Vec<_> = (0..CALLS).map(|_| fornax.client()).collect();
    let began = Instant::now();
    let path = format!("/slow?ms={}", SLEEP.as_millis());
    for client in &mut clients {
        client.send(client.head("GET", &path, &[], &testkit::Body::None).as_bytes()).expect("sent");
    }
    wait_until("all of them wait", SLEEP, || in_flight(&mut watcher) == CALLS);
    let (all_wait, each) = (began.elapsed(), (own_bytes(&fornax) - before) / CALLS as u64);
    let mappings = mappings(&fornax);
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.read_response("GET").unwrap_or_else(|error| panic!("call {number}: {error}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "slept\n"), "call {number}");
    }
    let took = began.elapsed();
    note(&format!("{guest}: all wait after {all_wait:?}, all are answered after {took:?}; {each} B each; {mappings} mappings"));
    assert!(took < ALL_MAX, "{took:?}");
    assert!(each < WAITING_CALL_BYTES_MAX, "{each} bytes for each");
    // Places are free again.
    assert_eq!(watcher.get("/slow?ms=0").text(), "slept\n");
}

#[test]
fn ten_thousand_calls_of_wasi_02_wait_at_once() {
    ten_thousand_wait("slow");
}

#[test]
fn ten_thousand_calls_of_wasi_03_wait_at_once() {
    ten_thousand_wait("slow3");
}
