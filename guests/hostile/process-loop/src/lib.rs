//! A plugin that never comes back and never calls the host. Proves that a deadline of CPU time ends plugins, too.

plugin::export!(answer);

fn answer(_: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    attack::spin()
}
