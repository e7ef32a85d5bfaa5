//! A plugin that logs until somebody stops it. Proves the limit of output that is buffered.

plugin::export!(answer);

fn answer(_: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    let line = "x".repeat(64 << 10);
    loop {
        plugin::log(&line);
    }
}
