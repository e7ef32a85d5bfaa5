//! What may be used up, and who used how much of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes that are taken and given back, and how many there may be. What is taken of an account is taken of the one it belongs to as
/// well; up to its floor also where that has no more, so that nobody can leave another with nothing.
#[derive(Debug)]
pub struct Account {
    used: AtomicU64,
    max: u64,
    floor: AtomicU64,
    of: Option<Arc<Self>>,
}

impl Account {
    /// Nothing is taken yet.
    pub fn new(max_bytes: u64, of: Option<Arc<Self>>) -> Self {
        Self { used: AtomicU64::new(0), max: max_bytes, floor: AtomicU64::new(0), of }
    }

    /// So many bytes are this one's in any case, as long as they are within its own bounds.
    pub fn set_floor(&self, bytes: u64) {
        self.floor.store(bytes, Relaxed);
    }

    /// Takes so many bytes, if they are there.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let sum = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        let Ok(before) = self.used.fetch_update(Relaxed, Relaxed, sum) else { return false };
        let Some(of) = &self.of else { return true };
        if before + bytes <= self.floor.load(Relaxed) {
            of.used.fetch_add(bytes, Relaxed);
        } else if !of.take(bytes) {
            self.used.fetch_sub(bytes, Relaxed);
            return false;
        }
        true
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
        if let Some(of) = &self.of {
            of.give(bytes);
        }
    }
}

/// How often who drops something says so.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// Bytes a second, and as many at once after a pause of a second: the generic cell rate algorithm (ITU-T I.371), for which one number
/// is kept.
#[derive(Debug)]
pub struct Rate {
    bytes_a_second: u64,
    born: Instant,
    /// When what was let through so far will have been paid for.
    paid_at_ns: AtomicU64,
    dropped: AtomicU64,
    said_at_ns: AtomicU64,
}

impl Rate {
    /// Nothing was let through yet.
    pub fn new(bytes_a_second: u64) -> Self {
        Self {
            bytes_a_second: bytes_a_second.max(1),
            born: Instant::now(),
            paid_at_ns: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            said_at_ns: AtomicU64::new(0),
        }
    }

    /// Whether so many bytes may pass now; counts what may not.
    #[must_use]
    pub fn lets(&self, bytes: u64) -> bool {
        const SECOND_NS: u64 = 1_000_000_000;
        let cost_ns = u128::from(bytes) * u128::from(SECOND_NS) / u128::from(self.bytes_a_second);
        let cost_ns = u64::try_from(cost_ns).unwrap_or(u64::MAX);
        let now_ns = self.now_ns();
        let passes = self.paid_at_ns.fetch_update(Relaxed, Relaxed, |paid_at_ns| {
            let next = paid_at_ns.max(now_ns).saturating_add(cost_ns);
            (next <= now_ns.saturating_add(SECOND_NS)).then_some(next)
        });
        if passes.is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        passes.is_ok()
    }

    /// How many were not let through since this was last said, where that shall be said now: once a second at most.
    pub fn dropped_to_say(&self) -> Option<u64> {
        if self.dropped.load(Relaxed) == 0 {
            return None;
        }
        let (now_ns, said_at_ns) = (self.now_ns(), self.said_at_ns.load(Relaxed));
        let is_due = said_at_ns == 0 || Duration::from_nanos(now_ns.saturating_sub(said_at_ns)) >= SAID_EVERY;
        let is_mine = is_due && self.said_at_ns.compare_exchange(said_at_ns, now_ns.max(1), Relaxed, Relaxed).is_ok();
        is_mine.then(|| self.dropped.swap(0, Relaxed))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_takes_the_others_of_the_same_account_cannot() {
        let all = Arc::new(Account::new(100, None));
        let (one, other) = (Account::new(80, Some(Arc::clone(&all))), Account::new(80, Some(Arc::clone(&all))));
        assert!(one.take(80));
        assert!(!one.take(1), "its own is used up");
        assert!(!other.take(21), "there are not so many of all");
        assert!(other.take(20));
        one.give(80);
        assert!(!other.take(u64::MAX), "no sum overflows");
        assert!(other.take(60));
        let used = [&one, &other, &*all].map(|account| account.used.load(Relaxed));
        assert_eq!(used, [0, 80, 80]);
    }

    #[test]
    fn a_floor_is_there_whatever_the_others_take() {
        let all = Arc::new(Account::new(100, None));
        let (loud, quiet) = (Account::new(100, Some(Arc::clone(&all))), Account::new(100, Some(Arc::clone(&all))));
        quiet.set_floor(10);
        assert!(loud.take(100));
        assert!(quiet.take(10));
        assert!(!quiet.take(1), "beyond its floor there is nothing left");
        quiet.give(10);
        assert_eq!(all.used.load(Relaxed), 100);
        assert!(quiet.take(10), "and again");
    }

    #[test]
    fn a_second_of_bytes_passes_at_once_and_what_does_not_is_said_once() {
        let rate = Rate::new(1000);
        let passed = (0..50).filter(|_| rate.lets(100)).count();
        // A slow machine lets a few more through.
        assert!((10..20).contains(&passed), "{passed}");
        assert_eq!(rate.dropped_to_say(), Some(50 - passed as u64));
        assert!(!rate.lets(1001), "more than a second's is never let through at once");
        assert_eq!(rate.dropped_to_say(), None, "not so soon again");
    }
}
