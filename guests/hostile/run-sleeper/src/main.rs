//! A command that sleeps for an hour. Proves that deadlines reach into calls of the host.

use std::thread;
use std::time::Duration;

fn main() {
    thread::sleep(Duration::from_secs(3600));
}
