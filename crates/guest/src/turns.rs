//! Whose turn is next on a runner.
//!
//! Three levels, each with the same rule: of those that want a turn, the one that was served least. A tenant or a module that
//! comes back after a pause begins level with who was served last, so that nobody saves up turns by waiting.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use base::{ModuleId, ModuleVersion};

/// The guests that want a turn, by tenant and module. A guest is a number.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    first: VecDeque<u64>,
    tenants: Level<Arc<str>, Level<ModuleId, Guests>>,
}

/// By the time it was served, then by age.
type Guests = BinaryHeap<Reverse<(Duration, u64)>>;

/// Some that share turns equally.
#[derive(Debug)]
struct Level<K, T> {
    shares: HashMap<K, Share<T>>,
    /// What the one whose turn was last had by then.
    floor: Duration,
}

/// A tenant or a module: what it had, and what of it wants more.
#[derive(Debug, Default)]
struct Share<T> {
    served: Duration,
    inner: T,
}

trait Wants {
    fn wants_turn(&self) -> bool;
}

impl Turns {
    /// A guest of `module` that was served for `used` so far wants a turn.
    pub(crate) fn push(&mut self, module: &ModuleVersion, used: Duration, guest: u64) {
        self.tenants.enter(&module.tenant.name).enter(&module.id).push(Reverse((used, guest)));
    }

    /// A guest gets the next turn, before all others.
    pub(crate) fn push_first(&mut self, guest: u64) {
        self.first.push_back(guest);
    }

    /// A guest of `module` had a turn of `time`.
    pub(crate) fn served(&mut self, module: &ModuleVersion, time: Duration) {
        if let Some(tenant) = self.tenants.shares.get_mut(&module.tenant.name) {
            tenant.served += time;
            if let Some(module) = tenant.inner.shares.get_mut(&module.id) {
                module.served += time;
            }
        }
    }

    /// The guest whose turn is next.
    pub(crate) fn next(&mut self) -> Option<u64> {
        if let Some(guest) = self.first.pop_front() {
            return Some(guest);
        }
        let Some(tenant) = self.tenants.least_served() else {
            // Nobody wants anything: what they had does not matter to whoever comes next.
            self.tenants = Level::default();
            return None;
        };
        tenant.least_served()?.pop().map(|Reverse((_, guest))| guest)
    }
}

impl<K: Clone + Eq + Hash, T: Default + Wants> Level<K, T> {
    fn enter(&mut self, key: &K) -> &mut T {
        let share = self.shares.entry(key.clone()).or_default();
        if !share.inner.wants_turn() {
            share.served = share.served.max(self.floor);
        }
        &mut share.inner
    }

    fn least_served(&mut self) -> Option<&mut T> {
        let wanting = self.shares.values_mut().filter(|share| share.inner.wants_turn());
        let share = wanting.min_by_key(|share| share.served)?;
        self.floor = self.floor.max(share.served);
        Some(&mut share.inner)
    }
}

impl<K, T> Default for Level<K, T> {
    fn default() -> Self {
        Self { shares: HashMap::new(), floor: Duration::ZERO }
    }
}

impl<K, T: Wants> Wants for Level<K, T> {
    fn wants_turn(&self) -> bool {
        self.shares.values().any(|share| share.inner.wants_turn())
    }
}

impl Wants for Guests {
    fn wants_turn(&self) -> bool {
        !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::module;

    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    /// Guests that always want another turn, and what each has had.
    #[derive(Default)]
    struct Crowd<'a> {
        turns: Turns,
        guests: Vec<(&'a ModuleVersion, Duration)>,
    }

    impl<'a> Crowd<'a> {
        fn enter(&mut self, module: &'a ModuleVersion) -> u64 {
            let guest = self.guests.len() as u64;
            self.guests.push((module, Duration::ZERO));
            self.turns.push(module, Duration::ZERO, guest);
            guest
        }

        /// Gives one turn; says to whom.
        fn turn(&mut self) -> u64 {
            let guest = self.turns.next().expect("everybody wants a turn");
            let (module, used) = &mut self.guests[usize::try_from(guest).expect("a small number")];
            *used += TICK;
            self.turns.served(module, TICK);
            self.turns.push(module, *used, guest);
            guest
        }

        fn served(&self, of: &ModuleVersion) -> u128 {
            self.guests.iter().filter(|(module, _)| module.id == of.id).map(|(_, used)| used.as_millis()).sum()
        }
    }

    #[test]
    fn tenants_share_equally_and_so_do_their_modules_and_guests() {
        let (many, few, other) = (module("a", "many"), module("a", "few"), module("b", "other"));
        let mut crowd = Crowd::default();
        for _ in 0..100 {
            crowd.enter(&many);
        }
        crowd.enter(&few);
        crowd.enter(&other);
        for _ in 0..400 {
            crowd.turn();
        }
        assert_eq!((crowd.served(&many), crowd.served(&few), crowd.served(&other)), (100, 100, 200));
        assert!(crowd.guests[..100].iter().all(|(_, used)| *used == TICK), "{:?}", &crowd.guests[..100]);
    }

    #[test]
    fn a_newcomer_waits_for_no_crowd_and_displaces_nobody() {
        let (loops, short) = (module("a", "loops"), module("b", "short"));
        let mut crowd = Crowd::default();
        for _ in 0..200 {
            crowd.enter(&loops);
        }
        for _ in 0..1000 {
            crowd.turn();
        }
        let newcomer = crowd.enter(&short);
        let of_next_two = [crowd.turn(), crowd.turn()];
        assert!(of_next_two.contains(&newcomer), "{of_next_two:?}");
        // It has saved up nothing while it was away.
        for _ in 0..100 {
            crowd.turn();
        }
        assert!((50..=52).contains(&crowd.served(&short)), "{}", crowd.served(&short));
        // In a module, who had least is next.
        let newest = crowd.enter(&loops);
        let of_next_two = [crowd.turn(), crowd.turn()];
        assert!(of_next_two.contains(&newest), "{of_next_two:?}");
    }

    #[test]
    fn one_that_runs_alone_owes_nobody_its_past() {
        let (old, new) = (module("a", "old"), module("b", "new"));
        let mut crowd = Crowd::default();
        crowd.enter(&old);
        for _ in 0..1000 {
            crowd.turn();
        }
        // While it has its turn it is not among those that want one.
        assert_eq!(crowd.turns.next(), Some(0));
        crowd.enter(&new);
        crowd.turns.push(&old, crowd.guests[0].1, 0);
        for _ in 0..100 {
            crowd.turn();
        }
        assert!((49..=51).contains(&crowd.served(&new)), "{}", crowd.served(&new));
    }

    #[test]
    fn who_is_to_end_goes_first() {
        let module = module("a", "m");
        let mut crowd = Crowd::default();
        crowd.enter(&module);
        crowd.turns.push_first(7);
        assert_eq!((crowd.turns.next(), crowd.turns.next(), crowd.turns.next()), (Some(7), Some(0), None));
    }
}
