//! A plugin that takes memory until there is no more. Proves the memory limit of plugins.

plugin::export!(answer);

fn answer(_: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    attack::take_memory()
}
