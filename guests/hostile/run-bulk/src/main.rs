//! A command that fills and copies much memory at once, again and again. Proves that operations which ignore the tick are over soon after it.

fn main() {
    attack::bulk()
}
