//! A plugin that counts what its input is made of.

plugin::export!(count);

fn count(input: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    let count = |of: fn(char) -> bool| input.chars().filter(|letter| of(*letter)).count();
    let total = count(|_| true);
    plugin::log(&format!("total = {total}"));
    plugin::log(&format!("letters = {}", count(char::is_alphabetic)));
    plugin::log(&format!("digits = {}", count(|letter| letter.is_ascii_digit())));
    plugin::log(&format!("spaces = {}", count(char::is_whitespace)));
    plugin::log(&format!("Result = {total}"));
    Ok(())
}
