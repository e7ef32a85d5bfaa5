//! A plugin that fills and copies much memory at once, again and again. Proves that operations which ignore the tick are over soon after it.

plugin::export!(answer);

fn answer(_: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    attack::bulk()
}
