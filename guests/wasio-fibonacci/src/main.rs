//! The instrument /fibonacci: the `n`-th number, exact however long it is.

use std::fmt::Write;
use std::process::ExitCode;

/// About 2,000 digits, which take a few milliseconds.
const N_MAX: usize = 10_000;

/// Numbers are kept in digits of this base, the largest power of ten that adds up within 64 bits, the lowest digit first.
const BASE: u64 = 1_000_000_000_000_000_000;

fn main() -> ExitCode {
    wasio::text(|request| {
        let text = request.need("n").map_err(|error| format!("{error}; use a whole number from 0 to {N_MAX}"))?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let n = text.parse().ok().filter(|n| digits && *n <= N_MAX);
        let n = n.ok_or_else(|| format!("'{text}' is not a whole number from 0 to {N_MAX}"))?;
        Ok(format!("{}\n", decimal(&fibonacci(n))))
    })
}

fn fibonacci(n: usize) -> Vec<u64> {
    let (mut this, mut next) = (vec![0], vec![1]);
    for _ in 0..n {
        add(&mut this, &next);
        std::mem::swap(&mut this, &mut next);
    }
    this
}

fn add(to: &mut Vec<u64>, number: &[u64]) {
    to.resize(number.len(), 0);
    let mut carry = 0;
    for (digit, other) in to.iter_mut().zip(number) {
        let sum = *digit + other + carry;
        (*digit, carry) = (sum % BASE, sum / BASE);
    }
    if carry > 0 {
        to.push(carry);
    }
}

fn decimal(digits: &[u64]) -> String {
    let mut highest_first = digits.iter().rev();
    let mut text = highest_first.next().map(u64::to_string).unwrap_or_default();
    for digit in highest_first {
        // Writing to a String does not fail.
        let _ = write!(text, "{digit:018}");
    }
    text
}
