//! A plugin that makes the ASCII letters of its input capitals.

plugin::export!(uppercase);

fn uppercase(input: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    plugin::log(&format!("Result = {}", input.to_ascii_uppercase()));
    Ok(())
}
