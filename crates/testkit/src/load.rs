//! Many calls at once, and a neighbour that must not notice.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{Body, Client, Fornax, Response};

/// Between two probes of a neighbour: often enough to be there whenever something goes wrong, and no load of its own.
const PROBE_EVERY: Duration = Duration::from_millis(10);

/// An answer, and how long it took from its sending.
#[derive(Clone, Debug)]
pub struct Timed {
    /// The answer.
    pub response: Response,
    /// From the first byte out to the last byte in.
    pub took: Duration,
}

/// Waits until no other test of this process measures times, and keeps them away.
pub fn alone() -> MutexGuard<'static, ()> {
    static MEASURING: Mutex<()> = Mutex::new(());
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `GET path` on `count` connections at once, all of them open before the first request.
///
/// # Panics
///
/// If one is not answered.
#[track_caller]
pub fn at_once(address: SocketAddr, count: usize, path: &str) -> Vec<Timed> {
    each_at_once(address, &vec![path; count])
}

/// The same with a path for each connection; the answers are in this order.
///
/// # Panics
///
/// As [`at_once`].
#[track_caller]
pub fn each_at_once(address: SocketAddr, paths: &[impl AsRef<str> + Sync]) -> Vec<Timed> {
    let clients: Vec<_> = paths.iter().map(|path| (Client::connect(address), path.as_ref())).collect();
    let ready = Barrier::new(paths.len());
    thread::scope(|scope| {
        let call = |(mut client, path): (Client, &str)| {
            let (ready, path) = (&ready, path.to_owned());
            scope.spawn(move || {
                ready.wait();
                let sent = Instant::now();
                let response = client.get(&path);
                Timed { response, took: sent.elapsed() }
            })
        };
        let calls: Vec<_> = clients.into_iter().map(call).collect();
        calls.into_iter().map(|call| call.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Asks for one path over and over, as others do who share a server with what a test does to it.
#[derive(Debug)]
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Vec<Duration>>>,
}

impl Neighbour {
    /// Begins to ask, by turns over a connection that is kept alive and over a new one.
    ///
    /// # Panics
    ///
    /// If there is no second answer.
    #[track_caller]
    pub fn start(address: SocketAddr, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut kept = Client::connect(address);
        // The first calls of a process are not like others.
        for _ in 0..2 {
            assert_eq!(kept.get(path).status, 200, "the neighbour before anything has happened");
        }
        let asked = Arc::<AtomicUsize>::default();
        let (stopped, count, path) = (Arc::clone(&stop), Arc::clone(&asked), path.to_owned());
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Relaxed) {
                times.push(probe(|| kept.try_request("GET", &path, &[], Body::None)));
                times.push(probe(|| Client::try_connect(address)?.try_request("GET", &path, &[], Body::None)));
                count.store(times.len(), Relaxed);
                thread::sleep(PROBE_EVERY);
            }
            times
        });
        Self { stop, asked, thread: Some(thread) }
    }

    /// How often it was answered so far.
    ///
    /// # Panics
    ///
    /// If it asks no more: an answer was not 200.
    pub fn asked(&self) -> usize {
        assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "the neighbour was not answered well");
        self.asked.load(Relaxed)
    }

    /// Stops, and says how long each answer took.
    ///
    /// # Panics
    ///
    /// If one was not 200.
    pub fn stop(mut self) -> Vec<Duration> {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().expect("stopped once");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Stops, and checks that every answer came within `longest`.
    ///
    /// # Panics
    ///
    /// If one did not.
    #[track_caller]
    pub fn was_answered_within(self, longest: Duration) {
        let times = self.stop();
        let worst = times.iter().max().copied().unwrap_or_default();
        note(&format!("neighbour: {} probes, the longest {worst:?}", times.len()));
        assert!(!times.is_empty(), "the neighbour never asked");
        assert!(worst <= longest, "one of {} answers to the neighbour took {worst:?}", times.len());
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn probe(ask: impl FnOnce() -> io::Result<Response>) -> Duration {
    let sent = Instant::now();
    let response = ask().expect("the neighbour is answered");
    assert_eq!(response.status, 200, "the neighbour's answer: {}", response.text());
    sent.elapsed()
}

impl Fornax {
    /// From now on [`Fornax::rss_peak_bytes`] knows nothing of what was before, such as compiling.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn forget_rss_peak(&self) {
        // See proc_pid_clear_refs(5): 5 resets the peak.
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("the peak is reset");
    }

    /// How many file descriptors it has open.
    ///
    /// # Panics
    ///
    /// If the process is gone.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process is there").count()
    }
}

/// Figures a person may want to see with `--nocapture`, or in the file that `FORNAX_NOTES` names, as a list behind what is there.
///
/// # Panics
///
/// If that file cannot be written.
#[expect(clippy::print_stdout, reason = "the harness captures it")]
pub fn note(line: &str) {
    println!("{line}");
    if let Some(path) = std::env::var_os("FORNAX_NOTES") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("a file for notes");
        file.write_all(format!("- {line}\n").as_bytes()).expect("a note is written");
    }
}
