//! A command that prints on standard error, control characters among it, and answers `ok`. Proves that this reaches the log, escaped, and
//! nothing else.

fn main() {
    eprintln!("plain words");
    eprintln!("\u{1b}[31mred\u{1b}[0m\r\u{8}\u{0}");
    eprint!("no end");
    println!("ok");
}
