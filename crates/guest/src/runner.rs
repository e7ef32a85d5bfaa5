//! Threads for guests that keep computing, or work on after their answer.
//!
//! A connection's thread serves many connections; a guest that burns ticks there delays all of them. Such a guest is moved
//! here with its store. Runners are as many as cores and run at a lower priority, so the kernel prefers connections.
//!
//! Two goals in tension: a crowd of loops must not keep a guest that needs one more millisecond from its turn, and nobody may
//! win by being many. So a runner gives each turn, a tick long, to the tenant it has served least, of that tenant to the
//! module, and of that module to the guest: who has had little goes first, and equals share. See [`turns`](crate::turns).

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use base::{Error, Kind};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::execution::{Execution, Kept};
use crate::state::Active;
use crate::turns::Turns;

/// How nice runner threads are: about a third of the weight of a connection's thread on a contended core. Nicer, and a machine that
/// is busy with other things would keep a guest from ever reaching its CPU limit.
const NICE: i32 = 5;

/// What a guest has computed when it counts as one that does: a tick. Most calls never have; of those that wait for something in
/// between there may be ten thousand.
const COMPUTES_FROM: Duration = Duration::from_millis(1);

type Result = std::result::Result<Kept, Error>;

/// The runner threads. They end when this is dropped; guests hold it, so none is left on them by then.
pub(crate) struct Runners {
    runners: Vec<Runner>,
}

struct Runner {
    queue: Arc<Queue>,
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

impl Runners {
    /// How many there are: one for each core.
    pub(crate) fn count(&self) -> usize {
        self.runners.len()
    }

    pub(crate) fn start(threads: usize) -> std::result::Result<Self, Error> {
        let start =
            |index| start(index).map_err(|error| Error::new(Kind::Internal, "cannot start a runner thread").caused_by(error));
        Ok(Self { runners: (0..threads.max(1)).map(start).collect::<std::result::Result<_, _>>()? })
    }

    /// Goes on with a guest on the runner that has the fewest.
    pub(crate) fn run(&self, execution: Execution) -> Moved {
        let (sender, result) = oneshot::channel();
        let queue = Arc::clone(&self.idlest().queue);
        let id = queue.add(execution, sender);
        Moved { result, queue, id }
    }

    /// Lets `task` go on beside the guests; for what waits and does not compute.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.idlest().runtime.spawn(task);
    }

    fn idlest(&self) -> &Runner {
        let guests = |runner: &&Runner| runner.queue.guests.load(Ordering::Relaxed);
        self.runners.iter().min_by_key(guests).expect("there is at least one runner")
    }
}

fn start(index: usize) -> std::io::Result<Runner> {
    // As for threads of connections: what a burst of blocking calls needed is given back soon.
    let runtime = Builder::new_current_thread().enable_all().thread_keep_alive(Duration::from_secs(2)).build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let queue = Arc::new(Queue::default());
    let runner = Runner { queue: Arc::clone(&queue), runtime: runtime.handle().clone(), _stop: stop };
    thread::Builder::new().name(format!("fornax-runner-{index}")).spawn(move || {
        // Niceness is per thread on Linux; elsewhere, or if refused, runners merely compete on equal terms.
        let _ = rustix::process::setpriority_process(None, NICE);
        runtime.block_on(async {
            tokio::select! {
                () = queue.serve() => {}
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok(runner)
}

/// A guest on a runner: ready when it has ended. Dropping it ends the guest, on the runner.
pub(crate) struct Moved {
    result: oneshot::Receiver<Result>,
    queue: Arc<Queue>,
    id: u64,
}

impl Future for Moved {
    type Output = Result;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result> {
        let lost = |_| Error::new(Kind::Internal, "the server failed in this call").internal("a runner thread ended");
        Pin::new(&mut self.result).poll(cx).map(|result| result.map_err(lost).flatten())
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        self.result.close();
        self.queue.lock().wake_to_end(self.id);
    }
}

/// The guests of one runner, and whose turn is next.
#[derive(Default)]
struct Queue {
    inner: Mutex<Inner>,
    /// How many there are, for a look without the lock.
    guests: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    /// All but the one that has its turn.
    jobs: HashMap<u64, Job>,
    turns: Turns,
    last_id: u64,
    /// The runner's, while it has nothing to do.
    runner: Option<Waker>,
}

struct Job {
    execution: Execution,
    wake: Arc<JobWake>,
    result: oneshot::Sender<Result>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is done under the lock does not panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, execution: Execution, result: oneshot::Sender<Result>) -> u64 {
        self.guests.fetch_add(1, Ordering::Relaxed);
        let active = Arc::clone(execution.active());
        let mut inner = self.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        let wake = Arc::new(JobWake {
            queue: Arc::clone(self),
            active,
            id,
            queued: AtomicBool::new(true),
            counts: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        });
        inner.make_ready(&wake);
        inner.jobs.insert(id, Job { execution, wake, result });
        id
    }

    /// Gives turns, for ever.
    async fn serve(&self) {
        loop {
            let job = poll_fn(|cx| self.poll_next(cx)).await;
            self.give_turn(job);
            // Timers and sockets have their say between two turns.
            tokio::task::yield_now().await;
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Job> {
        let mut inner = self.lock();
        while let Some(id) = inner.turns.next() {
            // One that has ended may have been woken before.
            if let Some(job) = inner.jobs.remove(&id) {
                return Poll::Ready(job);
            }
        }
        inner.runner = Some(cx.waker().clone());
        Poll::Pending
    }

    fn give_turn(&self, mut job: Job) {
        let active = Arc::clone(&job.wake.active);
        job.wake.end_wait();
        if job.result.is_closed() {
            job.execution.kill();
        } else {
            job.wake.queued.store(false, Ordering::Release);
            let used = active.meter.cpu_used();
            let polled = Pin::new(&mut job.execution).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&job.wake))));
            let mut inner = self.lock();
            inner.turns.served(&active.module, active.meter.cpu_used().saturating_sub(used));
            match polled {
                Poll::Pending => return drop(inner.jobs.insert(job.wake.id, job)),
                Poll::Ready(result) => {
                    // Who waits may be a guest of this very runner, which is woken under the lock.
                    drop(inner);
                    // Nobody may be waiting any more.
                    drop(job.result.send(result));
                }
            }
        }
        let inner = self.lock();
        job.wake.has_ended.store(true, Ordering::Relaxed);
        job.wake.end_wait();
        drop(inner);
        self.guests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn make_ready(&mut self, wake: &JobWake) {
        if wake.has_ended.load(Ordering::Relaxed) {
            return;
        }
        let used = wake.active.meter.cpu_used();
        if used >= COMPUTES_FROM {
            wake.counts.store(true, Ordering::Relaxed);
            wake.active.equipment.habit.wait();
        }
        self.turns.push(&wake.active.module, used, wake.id);
        self.wake_runner();
    }

    /// Out of turn: what ends gives back what others wait for.
    fn wake_to_end(&mut self, id: u64) {
        self.turns.push_first(id);
        self.wake_runner();
    }

    fn wake_runner(&mut self) {
        if let Some(runner) = self.runner.take() {
            runner.wake();
        }
    }
}

struct JobWake {
    queue: Arc<Queue>,
    active: Arc<Active>,
    id: u64,
    /// Whether it waits for its turn already.
    queued: AtomicBool,
    /// Whether it does as one of those that compute. Changes under the queue's lock, or while nobody else has the job.
    counts: AtomicBool,
    has_ended: AtomicBool,
}

impl JobWake {
    /// Its turn has come, or it needs none any more.
    fn end_wait(&self) {
        if self.counts.swap(false, Ordering::Relaxed) {
            self.active.equipment.habit.end_wait();
        }
    }
}

impl Wake for JobWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.lock().make_ready(self);
        }
    }
}
