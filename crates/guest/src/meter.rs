//! What one guest has used, and when it must stop.
//!
//! Two clocks, because one deadline must fit guests that compute and guests that sleep: wall time since admission, and
//! CPU time. CPU time is the time measured around each poll of the guest — exact on a connection's thread, which does
//! nothing else meanwhile. On a runner thread, which shares its core, it is the thread's CPU clock.
//!
//! The meter is written by whoever polls the guest and read by the epoch callback inside it: always the same thread at one
//! time, so relaxed atomics do. The wall deadline alone is moved from elsewhere (the reply), and a late reading only costs
//! a tick.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

use base::{Deadline, Error, Kind};
use rustix::time::{ClockId, clock_gettime};

/// A guest asked to give the core back sooner than this was merely unlucky with the phase of the tick.
const SLICE_MIN_NS: u64 = 500_000;

const NO_DEADLINE: u64 = u64::MAX;

/// Why a guest was stopped, if it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Verdict {
    /// It was not.
    None = 0,
    /// No answer in time.
    Deadline = 1,
    /// Computed too long.
    Cpu = 2,
}

/// The account of one instance for one call.
#[derive(Debug)]
pub(crate) struct Meter {
    admitted_at: Instant,
    cpu_max_ns: AtomicU64,
    wall_at_ns: AtomicU64,
    cpu_used_ns: AtomicU64,
    poll_began_ns: AtomicU64,
    on_runner: AtomicBool,
    /// The thread's CPU clock when the running poll was first suspected of computing; 0 if it was not.
    suspected_at_ns: AtomicU64,
    keeps_computing: AtomicBool,
    failed: AtomicBool,
    memory_denied: AtomicBool,
    memory_short: AtomicBool,
    output_over: AtomicBool,
    verdict: AtomicU8,
}

impl Meter {
    pub(crate) fn new(deadline: &Deadline) -> Self {
        Self {
            admitted_at: deadline.admitted_at,
            cpu_max_ns: AtomicU64::new(nanos(deadline.cpu)),
            wall_at_ns: AtomicU64::new(nanos(deadline.wall_at - deadline.admitted_at)),
            cpu_used_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            on_runner: AtomicBool::new(false),
            suspected_at_ns: AtomicU64::new(0),
            keeps_computing: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            memory_denied: AtomicBool::new(false),
            memory_short: AtomicBool::new(false),
            output_over: AtomicBool::new(false),
            verdict: AtomicU8::new(Verdict::None as u8),
        }
    }

    /// A poll of the guest begins on this thread.
    pub(crate) fn begin(&self) {
        self.poll_began_ns.store(self.clock_ns(), Relaxed);
        self.suspected_at_ns.store(0, Relaxed);
    }

    /// The poll has ended.
    pub(crate) fn end(&self) {
        self.cpu_used_ns.fetch_add(self.poll_ns(), Relaxed);
    }

    /// How long the running poll has computed.
    pub(crate) fn poll_ns(&self) -> u64 {
        self.clock_ns().saturating_sub(self.poll_began_ns.load(Relaxed))
    }

    /// What finished polls have computed.
    pub(crate) fn cpu_used(&self) -> Duration {
        Duration::from_nanos(self.cpu_used_ns.load(Relaxed))
    }

    /// From now on the guest runs on a runner thread. Not inside a poll.
    pub(crate) fn move_to_runner(&self) {
        self.on_runner.store(true, Relaxed);
    }

    /// How long ago the call was admitted.
    pub(crate) fn since_admission(&self) -> Duration {
        self.admitted_at.elapsed()
    }

    /// When the guest must have answered; none once it has.
    pub(crate) fn wall_at(&self) -> Option<Instant> {
        match self.wall_at_ns.load(Relaxed) {
            NO_DEADLINE => None,
            ns => Some(self.admitted_at + Duration::from_nanos(ns)),
        }
    }

    /// Moves the wall deadline: the head is out, or the body is and the guest goes on.
    pub(crate) fn set_wall_at(&self, at: Option<Instant>) {
        let ns = at.map_or(NO_DEADLINE, |at| nanos(at.saturating_duration_since(self.admitted_at)));
        self.wall_at_ns.store(ns, Relaxed);
    }

    /// The guest goes on where it began, whatever it did before.
    pub(crate) fn return_from_runner(&self) {
        self.on_runner.store(false, Relaxed);
        self.keeps_computing.store(false, Relaxed);
    }

    /// From now on the guest may compute so long again.
    pub(crate) fn allow_cpu(&self, time: Duration) {
        self.cpu_max_ns.store(self.cpu_used_ns.load(Relaxed).saturating_add(nanos(time)), Relaxed);
    }

    /// Whether the guest must stop now; remembers why. For the epoch callback, inside a poll.
    pub(crate) fn must_stop_inside(&self) -> bool {
        let cpu_ns = self.cpu_used_ns.load(Relaxed) + self.poll_ns();
        self.judge(cpu_ns)
    }

    /// The same between polls.
    pub(crate) fn must_stop(&self) -> bool {
        self.judge(self.cpu_used_ns.load(Relaxed))
    }

    fn judge(&self, cpu_ns: u64) -> bool {
        let verdict = if cpu_ns > self.cpu_max_ns.load(Relaxed) {
            Verdict::Cpu
        } else if self.wall_ns() >= self.wall_at_ns.load(Relaxed) {
            Verdict::Deadline
        } else {
            return false;
        };
        self.verdict.store(verdict as u8, Relaxed);
        true
    }

    /// Whether the guest, inside a poll, shall give the core back at this tick.
    ///
    /// On a runner it does so at each tick, since others wait. On a connection's thread it does so once, to be moved. There
    /// the clock on the wall, which costs no system call, is wrong about a guest whose thread the kernel took the core from:
    /// so a long poll is only a suspicion, and from then on it is the thread's CPU clock that tells.
    pub(crate) fn shall_yield(&self) -> bool {
        let suspected_at_ns = self.suspected_at_ns.load(Relaxed);
        if self.on_runner.load(Relaxed) {
            self.poll_ns() >= SLICE_MIN_NS
        } else if suspected_at_ns != 0 {
            let computes = thread_cpu_ns().saturating_sub(suspected_at_ns) >= SLICE_MIN_NS;
            self.keeps_computing.store(computes, Relaxed);
            computes
        } else {
            if self.poll_ns() >= SLICE_MIN_NS {
                self.suspected_at_ns.store(thread_cpu_ns(), Relaxed);
            }
            false
        }
    }

    /// Whether it gave the core back to be moved.
    pub(crate) fn keeps_computing(&self) -> bool {
        self.keeps_computing.load(Relaxed)
    }

    /// Notes that the guest ends otherwise than by returning. Before its store is dropped: that ends its body as if it were
    /// complete.
    pub(crate) fn note_failed(&self) {
        self.failed.store(true, Release);
    }

    /// Whether it did.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Acquire)
    }

    /// Notes whether the guest got the memory it last asked for.
    pub(crate) fn note_memory_denied(&self, denied: bool) {
        self.memory_denied.store(denied, Relaxed);
    }

    /// Whether it did not.
    pub(crate) fn memory_denied(&self) -> bool {
        self.memory_denied.load(Relaxed)
    }

    /// Notes whether that was because its tenant, or all tenants together, have no more.
    pub(crate) fn note_memory_short(&self, short: bool) {
        self.memory_short.store(short, Relaxed);
    }

    /// Whether it was.
    pub(crate) fn memory_is_short(&self) -> bool {
        self.memory_short.load(Relaxed)
    }

    /// Notes that the guest wrote more than is kept.
    pub(crate) fn note_output_over(&self) {
        self.output_over.store(true, Relaxed);
    }

    /// Whether it did.
    pub(crate) fn output_over(&self) -> bool {
        self.output_over.load(Relaxed)
    }

    /// The error for the verdict, if the guest was stopped.
    pub(crate) fn stopped(&self) -> Option<Error> {
        let verdict = self.verdict.load(Relaxed);
        if verdict == Verdict::Cpu as u8 {
            Some(Error::new(Kind::CpuLimit, "the guest computed longer than its limit"))
        } else if verdict == Verdict::Deadline as u8 {
            Some(Error::new(Kind::Deadline, "the guest did not answer in time"))
        } else {
            None
        }
    }

    /// The error for a wall deadline that passed while the guest was waiting or elsewhere.
    pub(crate) fn stop_for_deadline(&self) -> Error {
        self.verdict.store(Verdict::Deadline as u8, Relaxed);
        Error::new(Kind::Deadline, "the guest did not answer in time")
    }

    fn wall_ns(&self) -> u64 {
        nanos(self.admitted_at.elapsed())
    }

    fn clock_ns(&self) -> u64 {
        if self.on_runner.load(Relaxed) { thread_cpu_ns() } else { self.wall_ns() }
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NO_DEADLINE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(cpu: Duration, wall: Duration) -> Meter {
        let now = Instant::now();
        Meter::new(&Deadline { admitted_at: now, wall_at: now + wall, whole: false, cpu })
    }

    #[test]
    fn the_first_limit_reached_is_the_verdict() {
        let fine = meter(Duration::from_secs(1), Duration::from_secs(1));
        assert!(!fine.must_stop());
        assert!(fine.stopped().is_none());

        let late = meter(Duration::from_secs(1), Duration::ZERO);
        assert!(late.must_stop());
        assert_eq!(late.stopped().map(|e| e.kind), Some(Kind::Deadline));
        late.set_wall_at(None);
        assert!(!late.must_stop(), "no deadline once the head is out");

        let busy = meter(Duration::ZERO, Duration::from_secs(1));
        busy.begin();
        while busy.poll_ns() == 0 {}
        assert!(busy.must_stop_inside());
        assert_eq!(busy.stopped().map(|e| e.kind), Some(Kind::CpuLimit));
    }

    #[test]
    fn a_guest_keeps_computing_when_its_thread_did() {
        let meter = meter(Duration::from_secs(10), Duration::from_secs(10));
        let burn = || {
            let began = thread_cpu_ns();
            while thread_cpu_ns() - began < 2 * SLICE_MIN_NS {}
        };
        meter.begin();
        burn();
        assert!(!meter.shall_yield() && !meter.keeps_computing(), "a long poll is only a suspicion");
        // The wall's clock runs on while the thread does nothing.
        let (_keep, nothing) = std::sync::mpsc::channel::<()>();
        let _ = nothing.recv_timeout(Duration::from_millis(5));
        assert!(!meter.shall_yield(), "the kernel had the core");
        meter.begin();
        burn();
        assert!(!meter.shall_yield(), "each poll is judged by itself");
        burn();
        assert!(meter.shall_yield() && meter.keeps_computing(), "its thread computed for a whole tick");
        meter.move_to_runner();
        meter.begin();
        assert!(!meter.shall_yield(), "a turn has just begun");
        burn();
        assert!(meter.shall_yield(), "others wait");
    }

    #[test]
    fn on_a_runner_only_cpu_time_counts() {
        let meter = meter(Duration::from_secs(1), Duration::from_secs(10));
        meter.move_to_runner();
        meter.begin();
        let began = Instant::now();
        // Waiting costs no CPU time: a channel nobody sends on, not a busy loop.
        let (_keep, nothing) = std::sync::mpsc::channel::<()>();
        let _ = nothing.recv_timeout(Duration::from_millis(30));
        meter.end();
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert!(meter.cpu_used() < Duration::from_millis(20), "{:?}", meter.cpu_used());
    }
}
