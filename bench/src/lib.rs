//! Comparisons of Fornax with its peers: what `cargo xtask bench` runs besides the servers themselves.
//!
//! `bench-native` is the floor, hyper with nothing behind it; `bench-load` makes the load and checks every byte of every answer. Heavy
//! peers are installed by xtask, never linked here.

pub mod answer;

/// What every server of the hello comparison answers, byte for byte.
pub const HELLO: &str = "Hello from Fornax!\n";
