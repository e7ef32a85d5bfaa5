//! The instrument /random: a number from 0 to 99 that depends on nothing but the seed.

use std::process::ExitCode;

fn main() -> ExitCode {
    wasio::text(|request| Ok(format!("{}\n", mixed(request.seed as u64) % 100)))
}

/// The output function of SplitMix64: seeds that differ in one bit give numbers that have nothing in common.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
