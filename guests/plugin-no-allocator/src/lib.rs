//! A plugin that exports no allocator: it turns the alphabet of its input around with a table. Proves that the host finds room which is
//! nobody's, above `__heap_base`, which rustc exports, or in pages of its own: the table, the stack and what is allocated stay whole.
//! An input of nothing but spaces is refused. The result stands in a line of its own below `Result = `.

plugin::export!(mirror, no allocator);

/// Data of the module, which an input that is written over it would change.
static ALPHABET: [[u8; 26]; 2] = [*b"abcdefghijklmnopqrstuvwxyz", *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"];

fn mirror(input: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    if !input.is_empty() && input.trim().is_empty() {
        return Err(plugin::INVALID_INPUT);
    }
    let mirrored = input.chars().map(|letter| {
        let row = &ALPHABET[usize::from(letter.is_ascii_uppercase())];
        row.iter().position(|other| char::from(*other) == letter).map_or(letter, |at| char::from(row[25 - at]))
    });
    plugin::log("Result = ");
    plugin::log(&mirrored.collect::<String>());
    Ok(())
}
