//! What a request costs the kernel once everything is warm: one receive, one send, one reset of memory, and nothing else
//! but waiting. The cheapest proof that no request crosses a thread, a lock or a queue.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{App, Fornax, note};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// Each is judged by itself, and the calmest counts: a tracer and a busy machine interrupt some requests, and a request that
/// is interrupted for long is moved to another thread. What a request does by itself is in every window.
const WINDOWS: u32 = 10;

const REQUESTS_PER_WINDOW: u32 = 1000;

/// Requests before the first window.
const WARM_UP: u32 = 300;

/// One in a hundred requests may differ, as when the kernel delivers one in two pieces.
const SLACK: f64 = 0.01;

/// System calls by what they are for, a request.
#[derive(Debug, Default)]
struct PerRequest {
    receive: f64,
    send: f64,
    reset: f64,
    futex: f64,
    wake: f64,
    /// By name, waiting aside.
    other: BTreeMap<String, f64>,
}

#[test]
fn a_steady_request_is_one_receive_one_send_one_reset() {
    if !strace_works() {
        assert!(std::env::var_os("CI").is_none(), "strace is needed: apt-get install strace");
        note("SKIPPED: strace is not installed or may not trace; what a request costs the kernel was NOT checked");
        return;
    }
    let app = App::new().server("metrics = \"/metrics\"").module("hello", "hello-wasip2", "");
    let trace = app.folder().join("trace");
    let server = Traced::start(&app.write(), &trace);
    let mut client = server.strace.client();
    let mut hello = |path: &str| assert_eq!(client.get(path).text(), "Hello from Fornax!\n");
    (0..WARM_UP).for_each(|_| hello("/warm"));
    for window in 0..WINDOWS {
        hello(&marker(window));
        (1..REQUESTS_PER_WINDOW).for_each(|_| hello("/"));
    }
    hello(&marker(WINDOWS));
    let metrics = client.get("/metrics").text();
    note(metrics.lines().find(|line| line.starts_with("fornax_guests_moved_total")).unwrap_or_default());
    server.end();
    let trace = String::from_utf8_lossy(&fs::read(&trace).expect("a trace")).into_owned();
    let mut windows: Vec<_> = (0..WINDOWS).map(|window| count(&trace, window)).collect();
    windows.sort_by_key(|calls| calls.iter().filter(|(name, _)| !is_waiting(name)).map(|(_, count)| count).sum::<u32>());
    judge(&per_request(&windows[0]));
}

fn judge(calls: &PerRequest) {
    note(&format!("{calls:#?}"));
    let about_one = 1.0 - SLACK..=1.0 + SLACK;
    assert!(about_one.contains(&calls.receive), "receives a request: {calls:#?}");
    assert!(about_one.contains(&calls.send), "sends a request: {calls:#?}");
    assert!(calls.reset <= 1.0 + SLACK, "resets of memory a request: {calls:#?}");
    assert!(calls.futex <= SLACK, "locks or wake-ups a request: {calls:#?}");
    assert!(calls.wake <= SLACK, "wake-ups of another thread a request: {calls:#?}");
    for (name, count) in &calls.other {
        assert!(*count <= SLACK, "{name} a request: {calls:#?}");
    }
}

/// The first request of a window; the trace shows its path.
fn marker(window: u32) -> String {
    format!("/w{window:02}")
}

/// System calls between two markers, by name; a `write` to an eventfd is called `wake`.
fn count(trace: &str, window: u32) -> BTreeMap<String, u32> {
    let line_of = |window| {
        let marker = format!("GET {} ", marker(window));
        trace.lines().position(|line| line.contains(&marker)).unwrap_or_else(|| panic!("no {marker} in the trace"))
    };
    let (from, to) = (line_of(window), line_of(window + 1));
    let mut counts = BTreeMap::new();
    for line in trace.lines().skip(from).take(to - from) {
        // PID NAME(ARGUMENTS…; the second half of an interrupted one is `PID <... NAME resumed>…`.
        let Some((name, arguments)) = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('(')) else {
            continue;
        };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let is_wake = name == "write" && arguments.contains(r#""\1\0\0\0\0\0\0\0", 8"#);
        *counts.entry(if is_wake { "wake".to_owned() } else { name.to_owned() }).or_default() += 1;
    }
    counts
}

fn is_waiting(name: &str) -> bool {
    matches!(name, "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "clock_nanosleep")
}

fn per_request(counts: &BTreeMap<String, u32>) -> PerRequest {
    let mut calls = PerRequest::default();
    for (name, count) in counts.iter().filter(|(name, _)| !is_waiting(name)) {
        let count = f64::from(*count) / f64::from(REQUESTS_PER_WINDOW);
        match name.as_str() {
            "recvfrom" | "recvmsg" => calls.receive += count,
            "sendto" | "sendmsg" | "writev" => calls.send += count,
            "ioctl" | "madvise" => calls.reset += count,
            "futex" => calls.futex += count,
            "wake" => calls.wake += count,
            _ => drop(calls.other.insert(name.clone(), count)),
        }
    }
    calls
}

fn strace_works() -> bool {
    let mut command = Command::new("strace");
    let traced = command.args(["-f", "-o", "/dev/null", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    traced.is_ok_and(|status| status.success())
}

/// The program under strace: two processes to end.
struct Traced {
    strace: Fornax,
    program: Pid,
}

impl Traced {
    fn start(app: &Path, trace: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "signal=none", "-s", "16", "-o"]).arg(trace).arg(PROGRAM).arg("run").arg(app);
        let strace = Fornax::spawn(command.args(["--listen", "127.0.0.1:0"]));
        let children = format!("/proc/{0}/task/{0}/children", strace.pid());
        let children = fs::read_to_string(children).expect("strace has a child");
        let program = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        Self { strace, program: program.expect("a process id") }
    }

    /// Both end by themselves, and the trace is whole.
    fn end(mut self) {
        kill_process(self.program, Signal::TERM).expect("the program is there");
        assert_eq!(self.strace.wait().code(), Some(0), "strace ends as the program does");
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // A tracer that is killed leaves what it traced behind. Not after `wait`, when the id may be another's.
        if std::thread::panicking() && fs::metadata(format!("/proc/{}", self.strace.pid())).is_ok() {
            // It may have ended on its own.
            let _ = kill_process(self.program, Signal::KILL);
        }
    }
}
