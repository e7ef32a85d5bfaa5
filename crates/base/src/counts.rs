//! What the pages of a server say about its requests: by tenant, for tenants that have such a page.
//!
//! Prometheus' metrics are for programs and know modules; these are for people and know routes. Counting takes a lock, so
//! nothing is counted where nobody can look.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The requests of one tenant since its page is there.
#[derive(Debug)]
pub struct Counts {
    /// When counting began.
    pub since: SystemTime,
    began: Instant,
    totals: Mutex<Totals>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that were answered, by whomever.
    pub requests: u64,
    /// Those with a status of 400 and above.
    pub errors: u64,
    /// Those of a route to a module.
    pub of_modules: u64,
    /// From the head of the request to the end of the answer, all together.
    pub time: Duration,
    /// By the path of their route, as configured.
    pub routes: BTreeMap<String, u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { since: SystemTime::now(), began: Instant::now(), totals: Mutex::default() }
    }
}

impl Counts {
    /// Counts one request; `route` is the path of its route, if it had one, and whether that leads to a module.
    pub fn count(&self, route: Option<(&str, bool)>, status: u16, time: Duration) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.requests += 1;
        totals.errors += u64::from(status >= 400);
        totals.time += time;
        let Some((path, is_module)) = route else { return };
        totals.of_modules += u64::from(is_module);
        match totals.routes.get_mut(path) {
            Some(count) => *count += 1,
            None => drop(totals.routes.insert(path.to_owned(), 1)),
        }
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long it has been counting.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_outcome() {
        let counts = Counts::default();
        counts.count(Some(("/a", true)), 200, Duration::from_secs(1));
        counts.count(Some(("/a", true)), 502, Duration::from_secs(2));
        counts.count(Some(("/b/*", false)), 304, Duration::ZERO);
        counts.count(None, 404, Duration::ZERO);
        let routes = BTreeMap::from([("/a".to_owned(), 2), ("/b/*".to_owned(), 1)]);
        let expected = Totals { requests: 4, errors: 2, of_modules: 2, time: Duration::from_secs(3), routes };
        assert_eq!(counts.totals(), expected);
    }
}
