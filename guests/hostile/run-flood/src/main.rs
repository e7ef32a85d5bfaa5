//! A command that writes to standard output until somebody stops it. Proves the limit of output that is buffered.

use std::io::{Write, stdout};

fn main() {
    let chunk = [b'x'; 64 << 10];
    while stdout().write_all(&chunk).is_ok() {}
}
