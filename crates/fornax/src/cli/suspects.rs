//! Which module a worker died of, as far as that can be told from who was in flight.
//!
//! Being in flight at a death is a strike, and proves nothing: a worker serves many. A module that kills again and again is in flight
//! at every death, so after two strikes the calls of such modules run one at a time ([`base::journal`]): at the third death at most
//! one of them was in flight, and if one module did it all, it is that one. Whoever was beside it was not there at all three.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use base::journal::{ModuleName, Past, Suspicion};

/// Deaths at which a module was in flight, until it is not called any more.
const STRIKES: usize = 3;

/// Within this time; after it a strike is forgotten.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// When workers died with the module in flight, oldest first.
    strikes: BTreeMap<ModuleName, Vec<Instant>>,
    quarantined: BTreeSet<ModuleName>,
}

impl Suspects {
    /// A worker died with these modules in flight. Returns the one that is quarantined for it.
    pub(super) fn died(&mut self, in_flight: &[ModuleName], now: Instant) -> Option<ModuleName> {
        self.forget(now);
        let has_run_alone = |name: &&ModuleName| self.strikes.get(*name).is_some_and(|strikes| strikes.len() >= STRIKES - 1);
        let mut alone = in_flight.iter().filter(has_run_alone);
        let culprit = alone.next().filter(|_| alone.next().is_none()).cloned();
        for name in in_flight {
            self.strikes.entry(name.clone()).or_default().push(now);
        }
        if let Some(culprit) = &culprit {
            self.strikes.remove(culprit);
            self.quarantined.insert(culprit.clone());
        }
        culprit
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
    use super::*;

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
            let culprit = suspects.died(&names(in_flight), began + Duration::from_secs(*at));
            culprit.map(|(_, module)| (*at, module.to_string()))
        };
        deaths.iter().filter_map(died).collect()
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
    fn the_next_worker_knows_and_a_reload_forgives() {
        let (mut suspects, began) = (Suspects::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(suspects.died(&names(&["bad", "once"]), at(0)), None);
        assert_eq!(suspects.died(&names(&["bad", "twice"]), at(10)), None);
        assert_eq!(suspects.died(&names(&["bad", "twice"]), at(20)), Some(name("bad")));
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
