//! A command that calls itself until the stack is full. Proves that a stack overflow is a trap like any other.

fn main() {
    println!("{}", attack::descend(1));
}
