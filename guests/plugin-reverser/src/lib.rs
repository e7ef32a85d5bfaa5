//! A plugin that shows its environment and turns its input around.

plugin::export!(reverse);

fn reverse(input: &str, environment: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    plugin::log(&format!("env = {}", environment.json));
    plugin::log(&format!("Result = {}", input.chars().rev().collect::<String>()));
    Ok(())
}
