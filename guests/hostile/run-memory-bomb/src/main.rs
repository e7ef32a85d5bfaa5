//! A command that takes memory until there is no more. Proves the memory limit of commands.

fn main() {
    attack::take_memory()
}
