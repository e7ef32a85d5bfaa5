//! A plugin that shows the environment of its call. Proves that time and chance are real ones.

plugin::export!(show);

fn show(_: &str, environment: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    let (timestamp, random_seed) = (environment.timestamp_ns, environment.random_seed);
    plugin::log(&format!("timestamp = {timestamp}"));
    plugin::log(&format!("random_seed = {random_seed}"));
    plugin::log(&format!("Result = {timestamp} {random_seed}"));
    Ok(())
}
