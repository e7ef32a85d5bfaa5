//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine of two cores before a test calls it a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at a condition: short against what tests wait for, long against a look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Returns when `condition` holds.
///
/// # Panics
///
/// If it does not within `timeout`; `what` is said.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < end, "waited {timeout:?} in vain: {what}");
        thread::sleep(LOOK_EVERY);
    }
}
