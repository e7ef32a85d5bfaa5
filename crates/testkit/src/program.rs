//! The real program, as a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{DEADLINE, wait_until};

/// Its environment says nothing that a test did not say.
const CLEARED: &[&str] = &["FORNAX_DATA", "FORNAX_LOG", "RUST_LOG", "RUST_BACKTRACE"];

/// What the first line on stderr begins with; `http` or `https` and the address follow.
const LISTENING: &str = "listening on ";

/// A server in service. Killed when it is dropped.
#[derive(Debug)]
pub struct Fornax {
    child: Child,
    address: SocketAddr,
    log: Log,
    /// Its temporary files: a server that is killed leaves them.
    _temporary: TempDir,
}

impl Fornax {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_fornax")`, with `args`, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If its first line on stderr is anything but `listening on http://ADDR`, or the same of `https`.
    #[track_caller]
    pub fn start<A: AsRef<std::ffi::OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(Command::new(program).args(args))
    }

    /// `fornax run FILE --listen 127.0.0.1:0 ARGS`.
    ///
    /// # Panics
    ///
    /// As [`Fornax::start`].
    #[track_caller]
    pub fn run(program: &str, file: impl AsRef<Path>, args: &[&str]) -> Self {
        Self::spawn(Command::new(program).arg("run").arg(file.as_ref()).args(["--listen", "127.0.0.1:0"]).args(args))
    }

    /// `fornax serve FILE --listen 127.0.0.1:0 ARGS`.
    ///
    /// # Panics
    ///
    /// As [`Fornax::start`].
    #[track_caller]
    pub fn serve(program: &str, file: impl AsRef<Path>, args: &[&str]) -> Self {
        Self::spawn(Command::new(program).arg("serve").arg(file.as_ref()).args(["--listen", "127.0.0.1:0"]).args(args))
    }

    /// As [`Fornax::start`], for a command that says more, such as a variable of the environment.
    ///
    /// # Panics
    ///
    /// As [`Fornax::start`].
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let temporary = tempfile::Builder::new().prefix("fornax-test-").tempdir().expect("a temporary directory");
        command.env("TMPDIR", temporary.path());
        let mut child = clean(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Log::collect(child.stderr.take().expect("stderr is a pipe"));
        let first = log.wait_for(|log| log.lines.first().cloned().or_else(|| log.closed.then(String::new)), DEADLINE);
        let address = first.as_deref().and_then(|line| line.strip_prefix(LISTENING)?.split_once("://")?.1.parse().ok());
        let Some(address) = address else {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
            panic!("the first line is not `{LISTENING}ADDR`:\n{}", log.lines().join("\n"));
        };
        Self { child, address, log, _temporary: temporary }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection to it.
    ///
    /// # Panics
    ///
    /// If it does not listen.
    #[track_caller]
    pub fn client(&self) -> crate::Client {
        crate::Client::connect(self.address)
    }

    /// Every line on stderr so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// The first line on stderr, old or new, of which `wanted` holds.
    ///
    /// # Panics
    ///
    /// If none comes within `timeout`.
    #[track_caller]
    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool, timeout: Duration) -> String {
        let line = self.log.wait_for(|log| log.lines.iter().find(|line| wanted(line)).cloned(), timeout);
        line.unwrap_or_else(|| panic!("no such line within {timeout:?} in:\n{}", self.log().join("\n")))
    }

    /// The most memory it ever had, in bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        self.status_number("VmHWM") * 1024
    }

    /// A number of `/proc/PID/status`: `VmRSS` in KiB, `Threads`, …
    ///
    /// # Panics
    ///
    /// If the process is gone or there is no such number.
    pub fn status_number(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).expect("a line for the key");
        value.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Asks it to end: SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// What Ctrl-C sends: SIGINT.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Asks it to read its configuration again: SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid(self.pid()), signal).expect("the process is there");
    }

    /// The process that serves, of `fornax serve`: its one child.
    ///
    /// # Panics
    ///
    /// If there is none within [`DEADLINE`].
    #[track_caller]
    pub fn worker(&self) -> u32 {
        let mut worker = None;
        wait_until("there is a worker", DEADLINE, || {
            worker = children(self.pid()).into_iter().next();
            worker.is_some()
        });
        worker.expect("just seen")
    }

    /// Sends a signal to its worker. False where that is no child of it any more.
    #[must_use]
    pub fn signal_worker(&self, worker: u32, signal: Signal) -> bool {
        children(self.pid()).contains(&worker) && kill_process(pid(worker), signal).is_ok()
    }

    /// Kills it where it stands, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("our own child");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    ///
    /// If it does not within [`DEADLINE`].
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program ends", DEADLINE, || {
            status = self.child.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("just seen")
    }
}

impl Drop for Fornax {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            // Captured by the harness and shown with the failure.
            std::io::stderr().write_all((self.log().join("\n") + "\n").as_bytes()).unwrap_or_default();
        }
    }
}

/// The processes that the main thread of a process started and has not waited for.
pub fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A program that has ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote on stdout.
    pub stdout: String,
    /// What it wrote on stderr.
    pub stderr: String,
}

/// Runs a program that is expected to end.
///
/// # Panics
///
/// If it does not within [`DEADLINE`]; it is killed then.
#[track_caller]
pub fn run_to_end(command: &mut Command) -> Finished {
    run_to_end_with(command, &[])
}

/// The same with these bytes on standard input, which then ends.
///
/// # Panics
///
/// As [`run_to_end`].
#[track_caller]
pub fn run_to_end_with(command: &mut Command, stdin: &[u8]) -> Finished {
    let mut child =
        clean(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let (mut input, bytes) = (child.stdin.take().expect("a pipe"), stdin.to_vec());
    // By a thread: a program may print before it has read all. One that ends without reading is no failure.
    thread::spawn(move || input.write_all(&bytes));
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let stdout = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let stderr = thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let end = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().expect("our own child") {
            Some(status) => break Some(status),
            None if Instant::now() > end => break None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |reader: thread::JoinHandle<std::io::Result<String>>| reader.join().expect("no panic").expect("readable");
    let (stdout, stderr) = (text(stdout), text(stderr));
    let status = status.unwrap_or_else(|| panic!("it did not end within {DEADLINE:?}:\n{stderr}"));
    Finished { code: status.code(), stdout, stderr }
}

fn pid(number: u32) -> Pid {
    i32::try_from(number).ok().and_then(Pid::from_raw).expect("a process id")
}

fn clean(command: &mut Command) -> &mut Command {
    for name in CLEARED {
        command.env_remove(name);
    }
    command.stdin(Stdio::null())
}

/// Lines as they come.
#[derive(Clone, Debug, Default)]
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    /// There will be no more.
    closed: bool,
}

impl Log {
    fn collect(from: impl std::io::Read + Send + 'static) -> Self {
        let log = Self::default();
        let filled = log.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
                filled.change(|log| log.lines.push(text));
                line.clear();
            }
            filled.change(|log| log.closed = true);
        });
        log
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        let (lines, changed) = &*self.0;
        change(&mut lines.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    fn wait_for<T>(&self, mut found: impl FnMut(&Lines) -> Option<T>, timeout: Duration) -> Option<T> {
        let end = Instant::now() + timeout;
        let (lines, changed) = &*self.0;
        let mut log = lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = found(&log) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            log = changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
