//! A command that traps three calls deep. Proves that its log shows the functions by name.

fn main() {
    attack::trap();
}
