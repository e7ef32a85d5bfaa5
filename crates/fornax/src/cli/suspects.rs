//! Which module a worker died of, as far as that can be told from who was in flight.
//!
//! Being in flight at a death is a strike, and proves nothing: a worker serves many. A module that kills again and again is in flight
//! at every death, so after two strikes such modules run one at a time ([`base::journal`]): at the third death at most
//! one of them was in flight, and if one module did it all, it is that one. Whoever was beside it was not there at all three.
//!
//! Nobody can be asked first before an instance works that serves several calls, so two of them can be in flight whenever a worker dies,
//! and neither is the one. No more than a few deaths are worth finding out: then whoever was there at so many of them is not called.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use base::journal::{ModuleName, Past, Suspicion};

/// Deaths at which a module was in flight, until it is not called any more.
const STRIKES: usize = 3;

/// The same, whoever else was there.
const STRIKES_OF_SEVERAL: usize = 5;

/// Within this time; after it a strike is forgotten.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// When workers died with the module in flight, oldest first.
    strikes: BTreeMap<ModuleName, Vec<Instant>>,
    quarantined: BTreeSet<ModuleName>,
}

impl Suspects {
    /// A worker died with these modules in flight. Returns those that are quarantined for it.
    pub(super) fn died(&mut self, in_flight: &[ModuleName], now: Instant) -> Vec<ModuleName> {
        self.forget(now);
        let strikes = |name: &ModuleName| self.strikes.get(name).map_or(0, Vec::len);
        let has_run_alone: Vec<_> = in_flight.iter().filter(|name| strikes(name) >= STRIKES - 1).collect();
        let is_one = has_run_alone.len() == 1;
        let found = has_run_alone.into_iter().filter(|name| is_one || strikes(name) >= STRIKES_OF_SEVERAL - 1);
        let found: Vec<_> = found.cloned().collect();
        for name in in_flight {
            self.strikes.entry(name.clone()).or_default().push(now);
        }
        for name in &found {
            self.strikes.remove(name);
            self.quarantined.insert(name.clone());
        }
        found
    }

    /// What the next worker is to know.
    pub(super) fn past(&mut self, restarts: u64, now: Instant) -> Past {
        self.forget(now);
        let quarantined = self.quarantined.iter().map(|name| (name.clone(), Suspicion::Quarantined));
        let suspects = self.strikes.iter().filter_map(|(name, strikes)| {
            let left = WITHIN.saturating_sub(now.duration_since(*strikes.last()?));
            Some((name.clone(), Suspicion::Suspect { alone: strikes.len() >= STRIKES - 1, left }))
        });
        Past { restarts, modules: suspects.chain(quarantined).collect() }
    }

    /// A reload: what is in service may be another.
    pub(super) fn forgive(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self, now: Instant) {
        self.strikes.retain(|_, strikes| {
            strikes.retain(|at| now.duration_since(*at) < WITHIN);
            !strikes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::assert_documented;

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        let that = "deaths of workers with a module in flight, within a minute, of which it can be told that it was this one";
        assert_eq!(WITHIN, Duration::from_secs(60));
        assert_documented(that, STRIKES);
        assert_documented("the same, whoever else was in flight", STRIKES_OF_SEVERAL);
    }

    fn name(module: &str) -> ModuleName {
        ("acme".into(), module.into())
    }

    fn names(modules: &[&str]) -> Vec<ModuleName> {
        modules.iter().map(|module| name(module)).collect()
    }

    /// Deaths at these seconds, and who is quarantined at which.
    fn quarantined(deaths: &[(u64, &[&str])]) -> Vec<(u64, String)> {
        let (mut suspects, began) = (Suspects::default(), Instant::now());
        let died = |(at, in_flight): &(u64, &[&str])| {
            let found = suspects.died(&names(in_flight), began + Duration::from_secs(*at));
            found.into_iter().map(|(_, module)| (*at, module.to_string())).collect::<Vec<_>>()
        };
        deaths.iter().flat_map(died).collect()
    }

    #[test]
    fn the_third_death_within_a_minute_names_the_module() {
        assert_eq!(quarantined(&[(0, &["bad"]), (20, &["bad"]), (59, &["bad"])]), [(59, "bad".to_owned())]);
        assert_eq!(quarantined(&[(0, &["bad"]), (20, &["bad"]), (60, &["bad"]), (70, &["bad"])]), [(70, "bad".to_owned())]);
        assert_eq!(quarantined(&[(0, &["bad"]), (40, &["bad"]), (80, &["bad"]), (120, &["bad"])]), []);
        assert_eq!(quarantined(&[(0, &[]), (1, &["bad"]), (2, &[]), (3, &["bad"])]), []);
    }

    #[test]
    fn whoever_was_beside_it_is_not_the_one() {
        // They were together twice, then each by itself.
        let both: &[&str] = &["bad", "good"];
        assert_eq!(quarantined(&[(0, both), (1, both), (2, &["bad"])]), [(2, "bad".to_owned())]);
        // One that was not there at all three.
        assert_eq!(quarantined(&[(0, &["bad"]), (1, &["bad"]), (2, both)]), [(2, "bad".to_owned())]);
        assert_eq!(quarantined(&[(0, &["bad"]), (1, both), (2, both)]), [(2, "bad".to_owned())]);
        // They cannot be told apart.
        assert_eq!(quarantined(&[(0, both), (1, both), (2, both)]), []);
    }

    #[test]
    fn those_that_cannot_be_told_apart_are_not_called_after_five_deaths() {
        let both: &[&str] = &["bad", "beside"];
        let deaths: Vec<_> = (0..7).map(|at| (at, both)).collect();
        assert_eq!(quarantined(&deaths[..4]), []);
        assert_eq!(quarantined(&deaths[..6]), [(4, "bad".to_owned()), (4, "beside".to_owned())]);
        // Three that take turns at that, and one that was there at times.
        let pairs: [&[&str]; 3] = [&["a", "b", "good"], &["b", "c"], &["c", "a"]];
        let deaths: Vec<_> = (0..9).map(|at| (at, pairs[at as usize % 3])).collect();
        assert_eq!(quarantined(&deaths), [(6, "a".to_owned()), (6, "b".to_owned()), (7, "c".to_owned())]);
        // Not within a minute.
        let deaths: Vec<_> = (0..9).map(|at| (at * 15, both)).collect();
        assert_eq!(quarantined(&deaths), []);
    }

    #[test]
    fn the_next_worker_knows_and_a_reload_forgives() {
        let (mut suspects, began) = (Suspects::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(suspects.died(&names(&["bad", "once"]), at(0)), []);
        assert_eq!(suspects.died(&names(&["bad", "twice"]), at(10)), []);
        assert_eq!(suspects.died(&names(&["bad", "twice"]), at(20)), [name("bad")]);
        let suspect = |alone, left| Suspicion::Suspect { alone, left: Duration::from_secs(left) };
        let expected =
            [(name("bad"), Suspicion::Quarantined), (name("once"), suspect(false, 30)), (name("twice"), suspect(true, 50))];
        let past = suspects.past(3, at(30));
        assert_eq!((past.restarts, past.modules), (3, expected.into()));
        let later = suspects.past(3, at(75));
        assert_eq!(later.modules, [(name("bad"), Suspicion::Quarantined), (name("twice"), suspect(false, 5))].into());
        suspects.forgive();
        assert_eq!(suspects.past(3, at(76)).modules, BTreeMap::new());
    }
}
