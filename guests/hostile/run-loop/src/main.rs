//! A command that never ends and never calls the host. Proves that a deadline of CPU time ends commands, too.

fn main() {
    attack::spin()
}
