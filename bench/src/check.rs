//! Whether an answer is the right one, decided while it comes in: a body of 100 MB is compared and never held.

use crate::HELLO;
use std::sync::LazyLock;

/// The body an answer must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The hello.
    Hello,
    /// One that begins like this.
    Begin(String),
    /// So many bytes of [`pattern`].
    Pattern(u64),
}

/// After so many bytes the pattern begins again: a prime, so that no piece of usual size repeats the one before.
const PERIOD: usize = 65_521;

/// The longest piece of the pattern that is handed out at once.
pub const PIECE_BYTES: usize = 64 << 10;

/// The bytes of a body from `at` on, [`PIECE_BYTES`] of them.
pub fn pattern(at: u64) -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..PERIOD + PIECE_BYTES).map(|index| ((index % PERIOD * 31) >> 3) as u8).collect());
    let begin = (at % PERIOD as u64) as usize;
    &PATTERN[begin..begin + PIECE_BYTES]
}

/// What has come of one body.
#[derive(Debug)]
pub struct Check<'a> {
    expect: &'a Expect,
    seen: u64,
    right: bool,
    /// How a wrong body went on, to be shown.
    wrong: Vec<u8>,
}

impl<'a> Check<'a> {
    /// Nothing yet.
    pub fn new(expect: &'a Expect) -> Self {
        Self { expect, seen: 0, right: true, wrong: Vec::new() }
    }

    /// The next piece.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let (now, rest) = piece.split_at(piece.len().min(PIECE_BYTES));
            let at = usize::try_from(self.seen).unwrap_or(usize::MAX);
            let is_right = match self.expect {
                Expect::Hello => HELLO.as_bytes().get(at..at + now.len()) == Some(now),
                Expect::Begin(begin) => {
                    let wanted = begin.as_bytes().get(at..).unwrap_or_default();
                    let both = wanted.len().min(now.len());
                    wanted[..both] == now[..both]
                }
                Expect::Pattern(length) => self.seen + now.len() as u64 <= *length && pattern(self.seen)[..now.len()] == *now,
            };
            if !is_right && self.right {
                self.wrong = now[..now.len().min(80)].to_vec();
            }
            self.right &= is_right;
            self.seen += now.len() as u64;
            piece = rest;
        }
    }

    /// Whether the body, now that it is whole, was the right one; else what was wrong.
    pub fn end(self) -> Result<(), String> {
        let length = match self.expect {
            Expect::Hello => self.seen == HELLO.len() as u64,
            Expect::Begin(begin) => self.seen >= begin.len() as u64,
            Expect::Pattern(length) => self.seen == *length,
        };
        match (self.right, length) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("a body of {} bytes", self.seen)),
            _ => Err(format!("a body with `{}`", String::from_utf8_lossy(&self.wrong).trim())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(expect: &Expect, pieces: &[&[u8]]) -> bool {
        let mut check = Check::new(expect);
        pieces.iter().for_each(|piece| check.feed(piece));
        check.end().is_ok()
    }

    #[test]
    fn hello_is_the_whole_body() {
        assert!(judge(&Expect::Hello, &[b"Hello from ", b"Fornax!\n"]));
        assert!(!judge(&Expect::Hello, &[b"Hello from Fornax!"]));
        assert!(!judge(&Expect::Hello, &[b"Hello from Fornax!\n", b"\n"]));
    }

    #[test]
    fn a_beginning_may_go_on() {
        let expect = Expect::Begin("abc".into());
        assert!(judge(&expect, &[b"ab", b"cd", b"e"]) && !judge(&expect, &[b"ab"]) && !judge(&expect, &[b"abd"]));
    }

    #[test]
    fn a_pattern_is_compared_to_its_last_byte() {
        let length = PERIOD as u64 + 10;
        let whole = [&pattern(0)[..PERIOD], &pattern(PERIOD as u64)[..10]].concat();
        assert!(judge(&Expect::Pattern(length), &[&whole[..3], &whole[3..]]));
        assert!(!judge(&Expect::Pattern(length), &[&whole[1..]]) && !judge(&Expect::Pattern(length - 1), &[&whole]));
        let mut other = whole;
        other[PERIOD + 9] ^= 1;
        assert!(!judge(&Expect::Pattern(length), &[&other]));
    }
}
