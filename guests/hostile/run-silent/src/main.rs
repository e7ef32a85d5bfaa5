//! A command that prints nothing and ends well. Proves what each codec makes of no output.

fn main() {}
