//! Inputs nobody would write: what is kept in `fuzz/corpus/`, and what becomes of it by chance.
//!
//! Chance is a number, the seed: the same seed makes the same inputs, so that what fails once fails again. A run takes the same seed as
//! every other, lest a change be refused for what it did not do; the full form of the tests takes another each time.

use std::path::{Path, PathBuf};
use std::{env, fs, thread};

/// Gives the seed.
const SEED: &str = "FORNAX_SEED";

/// Any number.
const SEED_DEFAULT: u64 = 20_250_601;

/// Longest input: what is found in more is found in less, and sooner.
const BYTES_MAX: usize = 16 << 10;

/// Changes made to one input, at most.
const CHANGES_MAX: u64 = 6;

/// Where numbers overflow, lines end, and texts stop being text.
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff\r\n\t :;,=/\\\"'{}[]*%$0F";

/// The same for numbers of four bytes.
const NUMBERS: [u32; 10] = [0, 1, 0x7f, 0x80, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff];

/// The same for numbers that are written out.
const WRITTEN: [&str; 8] = ["0", "-1", "65536", "4294967296", "18446744073709551615", "18446744073709551616", "0x10", "1e9"];

/// Gives `check` every input of `fuzz/corpus/<target>/`, then `cases` more that were made of them. A case that panics is shown, and
/// how to have it again.
///
/// # Panics
///
/// If `check` does, if the corpus is empty, or the seed is no number.
pub fn each_mutation(target: &str, cases: u32, check: impl Fn(&[u8])) {
    let corpus = corpus(target);
    let seed = env::var(SEED).map_or(SEED_DEFAULT, |text| text.parse().unwrap_or_else(|_| panic!("{SEED} is no number: {text}")));
    for (path, input) in &corpus {
        let _shown = Shown { what: path.display().to_string(), input };
        check(input);
    }
    let mut chance = Chance(seed);
    for case in 0..cases {
        let input = mutated(&corpus, &mut chance);
        let _shown = Shown { what: format!("case {case} of {target} by {SEED}={seed}"), input: &input };
        check(&input);
    }
}

/// In the order of their names, which is the same everywhere: what libFuzzer added here, and called by its digest, is left out.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let is_digest = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 40);
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("a readable folder").path()).filter(|path| !is_digest(path)).collect();
    paths.sort();
    assert!(!paths.is_empty(), "nothing is kept in {}", folder.display());
    paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes)).expect("a readable file")).collect()
}

/// Says which input it was, if the check of it panics.
struct Shown<'a> {
    what: String,
    input: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            crate::note(&format!("{}: b\"{}\"", self.what, self.input.escape_ascii()));
        }
    }
}

fn mutated(corpus: &[(PathBuf, Vec<u8>)], chance: &mut Chance) -> Vec<u8> {
    let any = |chance: &mut Chance| &corpus[chance.below(corpus.len())].1;
    let mut input = any(chance).clone();
    for _ in 0..=chance.next() % CHANGES_MAX {
        let at = chance.below(input.len() + 1);
        let end = at + chance.below(input.len() - at + 1).min(1 << chance.below(10));
        match chance.below(10) {
            0 | 1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            2 | 3 => drop(input.splice(at..end.min(at + 1), [BYTES[chance.below(BYTES.len())]])),
            4 => drop(input.drain(at..end)),
            5 => {
                let copied = input[at..end].to_vec();
                let to = chance.below(input.len() + 1);
                input.splice(to..to, copied);
            }
            6 => {
                let other = any(chance);
                let from = chance.below(other.len() + 1);
                let piece = other[from..].iter().take(1 << chance.below(10)).copied();
                input.splice(at..end, piece);
            }
            7 => drop(input.splice(at..end.min(at + 4), NUMBERS[chance.below(NUMBERS.len())].to_le_bytes())),
            8 => {
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let from = at + input[at..].iter().position(is_digit).unwrap_or_default();
                let digits = input[from..].iter().take_while(|byte| is_digit(byte)).count();
                input.splice(from..from + digits, WRITTEN[chance.below(WRITTEN.len())].bytes());
            }
            _ => input.truncate(at),
        }
        input.truncate(BYTES_MAX);
    }
    input
}

/// SplitMix64: every number once, in no order that matters here.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `end`, which is more than 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("less than a size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_inputs_again_and_another_makes_others() {
        let corpus = [("a", "GET / HTTP/1.1\r\n\r\n"), ("b", "17")].map(|(name, text)| (PathBuf::from(name), text.into()));
        let made = |seed| {
            let mut chance = Chance(seed);
            (0..1000).map(|_| mutated(&corpus, &mut chance)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        let different: std::collections::BTreeSet<_> = made(1).into_iter().collect();
        assert!(different.len() > 500, "{} of a thousand", different.len());
    }
}
