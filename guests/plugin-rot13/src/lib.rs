//! A plugin that moves the ASCII letters of its input by half the alphabet; twice is nothing.

plugin::export!(rot13);

fn rot13(input: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    let moved = |from: char, letter: char| char::from((letter as u8 - from as u8 + 13) % 26 + from as u8);
    let letters = input.chars().map(|letter| match letter {
        'a'..='z' => moved('a', letter),
        'A'..='Z' => moved('A', letter),
        other => other,
    });
    plugin::log(&format!("Result = {}", letters.collect::<String>()));
    Ok(())
}
