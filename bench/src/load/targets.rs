//! Which target each request asks for.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which number stands for `{}` in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// From 1 to this, each as often as one over its number (Zipf's law with the exponent 1): some are hot, many are rare.
    Zipf(u32),
    /// From 1 to this, each once over all lanes.
    Each(u64),
}

/// What lanes choose from.
#[derive(Debug)]
pub struct Targets {
    path: String,
    spread: Option<Spread>,
    /// Of Zipf: the sum of weights up to each number.
    sums: Vec<f64>,
    /// Of each once: the next.
    next: AtomicU64,
}

impl Targets {
    /// Of a path with or without `{}`.
    pub fn new(path: &str, spread: Option<Spread>) -> Self {
        let mut sum = 0.0;
        let weigh = |number: u32| {
            sum += 1.0 / f64::from(number);
            sum
        };
        let sums = match spread {
            Some(Spread::Zipf(count)) => (1..=count).map(weigh).collect(),
            _ => Vec::new(),
        };
        Self { path: path.to_owned(), spread, sums, next: AtomicU64::new(1) }
    }

    /// What this lane asks for: the same at each run, as long as lanes do not share.
    pub fn picks(&self, lane: u32) -> impl Iterator<Item = Cow<'_, str>> {
        // Any number but 0, far from that of the next lane.
        let mut random = u64::from(lane + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        std::iter::from_fn(move || {
            let number = match self.spread {
                None => return Some(Cow::Borrowed(self.path.as_str())),
                Some(Spread::Each(last)) => Some(self.next.fetch_add(1, Relaxed)).filter(|&number| number <= last)?,
                Some(Spread::Zipf(_)) => {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let point = (random >> 11) as f64 / (1_u64 << 53) as f64 * self.sums.last().copied().unwrap_or_default();
                    let index = self.sums.partition_point(|&sum| sum <= point);
                    index.min(self.sums.len() - 1) as u64 + 1
                }
            };
            Some(Cow::Owned(self.path.replace("{}", &number.to_string())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_once() {
        let targets = Targets::new("/{}", Some(Spread::Each(3)));
        let (mut one, mut two) = (targets.picks(0), targets.picks(1));
        assert_eq!(
            [one.next(), two.next(), one.next(), two.next()].map(|pick| pick.map(Cow::into_owned)),
            [Some("/1".to_owned()), Some("/2".to_owned()), Some("/3".to_owned()), None]
        );
    }

    #[test]
    fn zipf_gives_the_first_twice_as_often_as_the_second() {
        let targets = Targets::new("{}", Some(Spread::Zipf(1000)));
        let picks: Vec<Cow<'_, str>> = targets.picks(7).take(100_000).collect();
        let share = |name: &str| picks.iter().filter(|pick| *pick == name).count() as f64 / 100_000.0;
        // The thousandth harmonic number is 7.485.
        assert!((share("1") - 1.0 / 7.485).abs() < 0.01, "{}", share("1"));
        assert!((share("1") / share("2") - 2.0).abs() < 0.2, "{} {}", share("1"), share("2"));
        assert!(picks.iter().any(|pick| pick.len() > 2));
    }

    #[test]
    fn a_path_without_a_place_stays() {
        assert_eq!(Targets::new("/a", None).picks(0).next().as_deref(), Some("/a"));
    }
}
