//! Comparisons of Fornax with its peers: what `cargo xtask bench` runs besides the servers themselves.
//!
//! `bench-native` is the floor, hyper with nothing behind it; `bench-load` makes the load and checks every byte of every answer.
//! `peers/` has the same hello for other languages. Heavy peers are installed by xtask, never linked here.

pub mod answer;
pub mod check;
pub mod load;

/// What every server of the hello comparison answers, byte for byte.
pub const HELLO: &str = "Hello from Fornax!\n";

/// Fields that begin like this are sent back where the path is `/headers`.
pub const SENT_BACK: &str = "x-bench-";

/// Computes: a generator of random numbers (xorshift64) turned this often, each turn needing the one before. The guest `work` does the
/// same, so that both can be compared.
pub fn spin(rounds: u64) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}
