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
    /// Those that were answered from the cache.
    pub cache_hits: u64,
    /// Those of a route with a cache that had no answer for them.
    pub cache_misses: u64,
    /// From the head of the request to the end of the answer, all together.
    pub time: Duration,
    /// By the path of their route, as configured.
    pub routes: BTreeMap<String, u64>,
}

/// One request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The path of its route, if it had one, and whether that leads to a module.
    pub route: Option<(&'a str, bool)>,
    /// What the cache had for it, if it was asked.
    pub cache: Option<Looked>,
    /// Of the answer.
    pub status: u16,
    /// From its head to the end of the answer.
    pub time: Duration,
}

/// What a look into the cache came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The answer.
    Hit,
    /// Nothing that would do.
    Miss,
}

impl Default for Counts {
    fn default() -> Self {
        Self { since: SystemTime::now(), began: Instant::now(), totals: Mutex::default() }
    }
}

impl Counts {
    /// Counts one request.
    pub fn count(&self, request: Counted<'_>) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.requests += 1;
        totals.errors += u64::from(request.status >= 400);
        totals.cache_hits += u64::from(request.cache == Some(Looked::Hit));
        totals.cache_misses += u64::from(request.cache == Some(Looked::Miss));
        totals.time += request.time;
        let Some((path, is_module)) = request.route else { return };
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
        let seconds = Duration::from_secs;
        for (route, cache, status, time) in [
            (Some(("/a", true)), Some(Looked::Miss), 200, seconds(1)),
            (Some(("/a", true)), Some(Looked::Hit), 200, seconds(0)),
            (Some(("/a", true)), Some(Looked::Miss), 502, seconds(2)),
            (Some(("/b/*", false)), None, 304, seconds(0)),
            (None, None, 404, seconds(0)),
        ] {
            counts.count(Counted { route, cache, status, time });
        }
        let routes = BTreeMap::from([("/a".to_owned(), 3), ("/b/*".to_owned(), 1)]);
        let (cache_hits, cache_misses) = (1, 2);
        let expected = Totals { requests: 5, errors: 2, of_modules: 3, cache_hits, cache_misses, time: seconds(3), routes };
        assert_eq!(counts.totals(), expected);
    }
}
