//! A plugin that calls itself until the stack is full. Proves that a stack overflow is a trap like any other.

plugin::export!(answer);

fn answer(_: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    Err(attack::descend(1) as plugin::Code)
}
