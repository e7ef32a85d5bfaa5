//! A command that opens its directory until it may not, and answers how often that went well. Proves that descriptors are limited.

use std::fs::File;

fn main() {
    let mut open = Vec::new();
    let error = loop {
        match File::open("/data") {
            Ok(file) => open.push(file),
            Err(error) => break error,
        }
    };
    println!("{} open, then {}", open.len(), error.raw_os_error().unwrap_or_default());
}
