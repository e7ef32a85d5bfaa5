//! A plugin that traps three calls deep. Proves that its log shows the functions by name.

plugin::export!(answer);

fn answer(_: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    attack::trap();
    Ok(())
}
