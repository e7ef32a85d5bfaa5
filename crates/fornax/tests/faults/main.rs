//! Calls to the kernel that fail: the first of a thread, the next time the second, and so on, until a start, publishing and calls pass
//! without that one. The server says a sentence and ends with 1, or serves; and what is on disk by then is what the next start needs.
//!
//! strace makes them fail, and counts for each thread. `FORNAX_FAULTS=all` tries every number, else every tenth; the file that
//! `FORNAX_FAULTS_REPORT` names gets the figures.

mod exhausted;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{App, Body, Client, DEADLINE, Fornax, Response, Upstream, note, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// Calls by what they are for, and with what they fail.
const FAULTS: &[(&str, &str)] = &[
    ("open,openat", "EMFILE"),
    ("openat", "EACCES"),
    ("read,pread64", "EIO"),
    ("write", "ENOSPC"),
    ("pwrite64", "ENOSPC"),
    ("writev", "EPIPE"),
    ("ftruncate,fallocate", "ENOSPC"),
    ("fsync,fdatasync", "EIO"),
    ("rename,renameat,renameat2", "ENOSPC"),
    ("mkdir,mkdirat", "EACCES"),
    ("getdents64", "EIO"),
    ("stat,lstat,statx,newfstatat", "EACCES"),
    ("flock", "ENOLCK"),
    ("mmap", "ENOMEM"),
    ("socket,socketpair", "EMFILE"),
    ("bind", "EACCES"),
    ("listen", "EADDRINUSE"),
    ("accept4", "EMFILE"),
    ("connect", "ENETUNREACH"),
    ("recvfrom", "ECONNRESET"),
    ("epoll_create1,eventfd2", "EMFILE"),
    ("epoll_ctl", "ENOMEM"),
    ("clone3,clone", "EAGAIN"),
];

/// Between two numbers that are tried.
const STEP: usize = 10;

/// The last call of Rust's runtime before `main`: what fails before is not ours, and the loader says so itself.
const MAIN_BEGINS: &str = "sigaltstack({";

/// What tokio says when the pipes fail by which threads of one process wake each other: they are no files, and no other host's.
const OWN_PIPES: [&str; 2] = ["failed to wake I/O driver", "Bad read on self-pipe"];

/// What the guests answer when they are told that their store, or their request, failed.
const TOLD: [&str; 6] = [
    "other: the store failed\n",
    "connection-refused\n",
    "connection-terminated\n",
    "connection-limit-reached\n",
    "destination-unavailable\n",
    "internal-error\n",
];

/// Of a panic.
const GAVE_UP: &str = " cannot go on: ";

/// How often a request is made until its answer is the right one: the call that fails may be each thread's.
const ATTEMPTS: usize = 10;

/// A plugin, a service that keeps something, and one that asks another server.
fn app(folder: &Path, upstream: &Upstream) -> PathBuf {
    let app = App::new();
    let text = app
        .module("proxy", "proxy", &format!("outbound = [\"http://{}\"]", upstream.addr()))
        .route("/proxy", "proxy", "")
        .module("plugin", "plugin-rot13", "")
        .module("counter", "counter", "bindings = { keyvalue = { default = \"embedded\", second = \"embedded\" } }")
        .route("/plugin", "plugin", "")
        .route("/*", "counter", "")
        .text();
    let file = folder.join("fornax.toml");
    fs::write(&file, text).expect("a file is written");
    file
}

/// A run of the server under strace.
struct Run {
    strace: Child,
    folder: PathBuf,
}

impl Run {
    fn start(folder: &Path, data: &Path, app: &Path, calls: &str, inject: Option<&str>) -> Self {
        let temporary = folder.join("tmp");
        fs::create_dir_all(&temporary).expect("a folder");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "--seccomp-bpf", "-e", "signal=none", "-s", "64", "-o"]).arg(folder.join("trace"));
        command.args(["-e", &format!("trace={calls},sigaltstack,getsockname")]);
        command.args(inject.map(|inject| format!("--inject={inject}")));
        command.arg(PROGRAM).arg("run").arg(app).args(["--listen", "127.0.0.1:0", "--data"]).arg(data);
        command.env("TMPDIR", temporary).env_remove("FORNAX_LOG").env_remove("FORNAX_DATA").env_remove("RUST_BACKTRACE");
        // cargo's, which makes the loader look for each library in many places.
        command.env_remove("LD_LIBRARY_PATH");
        let log = fs::File::create(folder.join("log")).expect("a file");
        let strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("strace starts");
        Self { strace, folder: folder.to_owned() }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).expect("a log")).into_owned()
    }

    fn trace(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("trace")).unwrap_or_default()).into_owned()
    }

    /// Where it listens; none once it has ended.
    fn address(&mut self) -> Option<std::net::SocketAddr> {
        let mut found = None;
        wait_until("it listens or ends", DEADLINE, || {
            if self.strace.try_wait().expect("our own child").is_some() {
                return true;
            }
            found = self.said_address();
            found.is_some()
        });
        found
    }

    /// What it says, or, where saying it failed, what the kernel told it.
    fn said_address(&self) -> Option<std::net::SocketAddr> {
        if let Some((_, rest)) = self.log().split_once("listening on http://") {
            return rest.lines().next()?.parse().ok().filter(|_| rest.contains('\n'));
        }
        let trace = self.trace();
        trace.lines().find(|line| line.contains("write(2, \"listening") && line.ends_with("(INJECTED)"))?;
        let (_, port) = trace.lines().find(|line| line.contains("getsockname("))?.split_once("htons(")?;
        Some(([127, 0, 0, 1], port.split(')').next()?.parse().ok()?).into())
    }

    /// Asks it to end, and waits for it; none if it does not. Whose threads cannot wake each other is not asked.
    fn end(&mut self) -> Option<ExitStatus> {
        let is_broken = OWN_PIPES.iter().any(|pipe| self.log().contains(pipe));
        self.signal(if is_broken { Signal::KILL } else { Signal::TERM });
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if let Some(status) = self.strace.try_wait().expect("our own child") {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn signal(&self, signal: Signal) {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.strace.id())).unwrap_or_default();
        let program = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        // It may have ended on its own.
        let _ = program.map(|program| kill_process(program, signal));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|status| status.is_none()) {
            // A tracer that is killed leaves what it traced behind.
            self.signal(Signal::KILL);
            let _ = self.strace.kill();
            let _ = self.strace.wait();
        }
    }
}

/// What became of one run.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The call was never made.
    NotReached,
    /// It was made before `main`.
    BeforeMain,
    /// It is one that cannot fail like this.
    OwnPipe,
    Refused,
    Served,
}

/// A request until its answer is this one; every other answer must be a typed error.
fn ask(address: std::net::SocketAddr, method: &str, path: &str, body: &str, expected: &str) -> Result<(), String> {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let answer = Client::try_connect(address)
            .and_then(|mut client| client.try_request(method, path, &[], Body::Length(body.as_bytes().to_vec())));
        match answer {
            Ok(answer) if answer.status == 200 && answer.text() == expected => return Ok(()),
            Ok(answer) if is_typed(&answer) => seen.push(answer.text()),
            Ok(answer) => return Err(format!("{method} {path}: {} {:?}", answer.status, answer.text())),
            // The connection is what failed.
            Err(error) => seen.push(error.to_string()),
        }
    }
    Err(format!("{method} {path} {ATTEMPTS} times in vain: {seen:?}"))
}

fn is_typed(answer: &Response) -> bool {
    let text = answer.text();
    (500..600).contains(&answer.status) && (text.contains("\"type\":") || TOLD.contains(&text.as_str()))
}

/// One run with a failure, and one without on the same data.
fn try_once(app: &Path, upstream: &Upstream, (calls, error): (&str, &str), number: usize) -> Result<Outcome, String> {
    let folder = tempfile::Builder::new().prefix("fornax-test-").tempdir().expect("a temporary directory");
    let data = folder.path().join("data");
    let mut run = Run::start(folder.path(), &data, app, calls, Some(&format!("{calls}:error={error}:when={number}")));
    let address = run.address();
    let mut set = Ok(());
    if let Some(address) = address {
        set = ask(address, "POST", "/plugin", "hello", "Result = uryyb")
            .and_then(|()| ask(address, "PUT", "/?key=k", "kept", "ok\n"))
            .and_then(|()| ask(address, "GET", "/?key=k", "", "kept\n"))
            .and_then(|()| ask(address, "GET", &format!("/proxy?url={}", upstream.url("/ok")), "", "ok\n"));
    }
    let status = run.end();
    let (log, trace) = (run.log(), run.trace());
    let said = || format!("{status:?}:\n{log}{}", injected(&trace));
    let begins = trace.find(MAIN_BEGINS).unwrap_or(trace.len());
    let is_own_pipe = OWN_PIPES.iter().any(|pipe| log.contains(pipe));
    let outcome = match trace.find("(INJECTED)") {
        Some(at) if at < begins => return Ok(Outcome::BeforeMain),
        Some(_) if is_own_pipe && (address.is_none() || set.is_err()) => return Ok(Outcome::OwnPipe),
        None => Outcome::NotReached,
        Some(_) if address.is_some() => Outcome::Served,
        Some(_) => Outcome::Refused,
    };
    set.map_err(|what| format!("{what}; {}", said()))?;
    let code = status.and_then(|status| status.code());
    let expected: &[i32] = if address.is_some() { &[0, 1] } else { &[1] };
    // Only while all is set up may a library give up, and only the thread that says so.
    let gave_up = log.lines().filter(|line| line.contains(GAVE_UP) && (address.is_some() || !line.contains("`main`"))).count();
    if !is_own_pipe && (!code.is_some_and(|code| expected.contains(&code)) || gave_up > 0) {
        return Err(format!("it ended with {}", said()));
    }
    if address.is_none() && !is_sentence(&log) {
        return Err(format!("no sentence: {}", said()));
    }
    let ids = ids(&data);
    let after = Fornax::run(PROGRAM, app, &["--data", data.to_str().expect("UTF-8")]);
    ask(after.addr(), "POST", "/plugin", "hello", "Result = uryyb")?;
    if address.is_some() {
        ask(after.addr(), "GET", "/?key=k", "", "kept\n").map_err(|what| format!("lost: {what}; before {}", said()))?;
    }
    let later = self::ids(&data);
    match ids.iter().find(|(name, id)| later.get(*name) != Some(id)) {
        Some((name, id)) => Err(format!("the id of {name} was {id} and is {:?}; before {}", later.get(name), said())),
        None => Ok(outcome),
    }
}

/// What a person can do something with.
fn is_sentence(log: &str) -> bool {
    log.lines().any(|line| line.strip_prefix("error: ").is_some_and(|text| text.contains(' '))) && !log.contains("uncategorized")
}

fn injected(trace: &str) -> String {
    trace.lines().filter(|line| line.ends_with("(INJECTED)")).map(|line| format!("  {line}\n")).collect()
}

/// The ids of the modules that are known, by name.
fn ids(data: &Path) -> BTreeMap<String, String> {
    let Ok(text) = fs::read(data.join("modules.json")) else { return BTreeMap::new() };
    let modules: serde_json::Value = serde_json::from_slice(&text).expect("a list of modules, whole or not there");
    let text = |module: &serde_json::Value, key: &str| module[key].as_str().expect("a text").to_owned();
    modules["modules"].as_array().expect("a list").iter().map(|module| (text(module, "name"), text(module, "id"))).collect()
}

/// Every number for one kind of call: how many came to what, and what was wrong.
fn try_all(app: &Path, upstream: &Upstream, fault: (&str, &str), step: usize) -> (BTreeMap<Outcome, usize>, Vec<String>) {
    let (mut outcomes, mut wrong) = (BTreeMap::new(), Vec::new());
    let mut number = 1;
    loop {
        let outcome = match try_once(app, upstream, fault, number) {
            Ok(outcome) => outcome,
            Err(what) => {
                wrong.push(format!("{} number {number} fails with {}: {what}", fault.0, fault.1));
                Outcome::Refused
            }
        };
        // What is before `main` is passed over one by one: it is over soon, and how much it is differs from system to system.
        number += if outcome == Outcome::BeforeMain { 1 } else { step };
        let is_over = outcome == Outcome::NotReached;
        *outcomes.entry(outcome).or_default() += 1;
        if is_over {
            return (outcomes, wrong);
        }
    }
}

#[test]
fn whatever_call_fails_it_says_so_or_serves_and_the_next_start_is_as_any() {
    if !strace_works() {
        assert!(env::var_os("CI").is_none(), "strace is needed: apt-get install strace");
        return note("SKIPPED: strace is not installed or may not trace; failing calls were NOT tried");
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let upstream = Upstream::start();
    let app = app(folder.path(), &upstream);
    let step = if env::var("FORNAX_FAULTS").is_ok_and(|value| value == "all") { 1 } else { STEP };
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    // Each waits for its server much of the time.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(fault) = FAULTS.get(next.fetch_add(1, Relaxed)) {
                    let began = Instant::now();
                    let result = try_all(&app, &upstream, *fault, step);
                    note(&format!("{fault:?} in {:.1?}: {:?}", began.elapsed(), result.0));
                    results.lock().expect("nobody panicked").insert(*fault, result);
                }
            });
        }
    });
    let mut report =
        String::from("| calls | fail with | ended with a sentence | served | wrong |\n| --- | --- | ---: | ---: | ---: |\n");
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for ((calls, error), (outcomes, found)) in results.into_inner().expect("nobody panicked") {
        let count = |outcome| outcomes.get(&outcome).copied().unwrap_or_default();
        let (refused, served) = (count(Outcome::Refused) - found.len(), count(Outcome::Served));
        // A row that fails nothing shows nothing.
        assert!(refused + served + found.len() > 0, "{calls} was never called");
        tried += refused + served + found.len();
        writeln!(report, "| {calls} | {error} | {refused} | {served} | {} |", found.len()).expect("to a String");
        wrong.extend(found);
    }
    note(&report);
    if let Some(file) = env::var_os("FORNAX_FAULTS_REPORT") {
        fs::write(file, format!("{report}\n{}\n", wrong.join("\n"))).expect("the report is written");
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

fn strace_works() -> bool {
    Command::new("strace")
        .args(["-qq", "--seccomp-bpf", "-f", "-e", "trace=poll", "-o", "/dev/null", "true"])
        .status()
        .is_ok_and(|status| status.success())
}
