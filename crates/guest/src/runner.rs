//! Threads for guests that keep computing, or work on after their answer.
//!
//! A connection's thread serves many connections; a guest that burns ticks there delays all of them. Such a guest is moved
//! here with its store. Runners are as many as cores and run at a lower priority, so the kernel prefers connections;
//! among themselves guests take turns, a tick each, by yielding at epochs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use base::{Error, Kind};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How nice runner threads are: about a third of the weight of a connection's thread on a contended core. Nicer, and a machine that
/// is busy with other things would keep a guest from ever reaching its CPU limit.
const NICE: i32 = 5;

/// The runner threads. They end when this is dropped, with whatever they run.
#[derive(Debug)]
pub(crate) struct Runners {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _stop: Vec<oneshot::Sender<()>>,
}

impl Runners {
    pub(crate) fn start(threads: usize) -> Result<Self, Error> {
        let mut runners = Self { handles: Vec::new(), next: AtomicUsize::new(0), _stop: Vec::new() };
        for index in 0..threads.max(1) {
            let failed = |error: std::io::Error| Error::new(Kind::Internal, "cannot start a runner thread").caused_by(error);
            let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
            runners.handles.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel::<()>();
            runners._stop.push(stop);
            thread::Builder::new()
                .name(format!("fornax-runner-{index}"))
                .spawn(move || {
                    // Niceness is per thread on Linux; elsewhere, or if refused, runners merely compete on equal terms.
                    let _ = rustix::process::setpriority_process(None, NICE);
                    let _ = runtime.block_on(stopped);
                    runtime.shutdown_background();
                })
                .map_err(failed)?;
        }
        Ok(runners)
    }

    /// Runs `future` on the next runner in turn.
    pub(crate) fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        self.handles[turn].spawn(future)
    }
}
