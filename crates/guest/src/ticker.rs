//! The clock behind epochs.
//!
//! One thread advances the epoch of every engine each millisecond while guests run. With no guest for 100 ms it parks,
//! so that an idle server sleeps; the next guest wakes it. A guest that began before it parked cannot be missed: its
//! epoch deadline is one tick ahead, so its next check calls back, and the callback touches the ticker again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::engine::Engines;

/// Short enough that eight spinning guests on one core do not delay a neighbour noticeably, long enough that ticking
/// costs nothing measurable.
pub const TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest before parking: bridges the gaps between requests of a busy server.
const IDLE_TICKS_MAX: u32 = 100;

#[derive(Debug)]
struct Shared {
    used: AtomicBool,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// Advances epochs while guests run.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

impl Ticker {
    /// Starts the thread, parked after its first idle spell.
    pub(crate) fn start(engines: Arc<Engines>, tick: Duration) -> std::io::Result<Self> {
        let shared =
            Arc::new(Shared { used: AtomicBool::new(false), parked: AtomicBool::new(false), stop: AtomicBool::new(false) });
        let handle = thread::Builder::new().name("fornax-ticker".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &engines, tick)
        })?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// A guest is about to run, or still runs. Costs a load, unless it is the first for a while.
    pub(crate) fn touch(&self) {
        if !self.shared.used.load(SeqCst) {
            self.shared.used.store(true, SeqCst);
            if self.shared.parked.load(SeqCst) {
                self.thread.unpark();
            }
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
    }
}

fn run(shared: &Shared, engines: &Engines, tick: Duration) {
    let mut idle_ticks = 0;
    while !shared.stop.load(SeqCst) {
        thread::sleep(tick);
        engines.increment_epoch();
        if shared.used.swap(false, SeqCst) {
            idle_ticks = 0;
            continue;
        }
        idle_ticks += 1;
        if idle_ticks >= IDLE_TICKS_MAX {
            shared.parked.store(true, SeqCst);
            // Who touched before this store saw no parking and only set `used`; who touches after it unparks.
            while !shared.used.load(SeqCst) && !shared.stop.load(SeqCst) {
                thread::park();
            }
            shared.parked.store(false, SeqCst);
            idle_ticks = 0;
        }
    }
}
