//! A command that writes lines to standard error without end. Proves that what is over the tenant's rate is dropped, and that it ends by
//! the deadline of CPU time.

use std::io::{Write, stderr};

fn main() {
    while stderr().write_all(b"one line of many\n").is_ok() {}
}
