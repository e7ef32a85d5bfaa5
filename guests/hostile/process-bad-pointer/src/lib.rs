//! A plugin that hands the host addresses and lengths which are not its memory; which ones, the input says. Logs `survived` if it comes
//! back. Proves that nothing is read outside of a guest.

use std::arch::wasm32::memory_size;

plugin::export!(answer);

fn answer(input: &str, _: &plugin::Environment<'_>) -> Result<(), plugin::Code> {
    // Of 65,536 bytes each.
    let end = memory_size(0) << 16;
    let (ptr, len) = match input {
        "end" => (end - 1, 2),
        "behind" => (end, 1),
        "far" => (usize::MAX, 1),
        "wraps" => (usize::MAX - 15, 32),
        "all" => (0, usize::MAX),
        "empty" => (usize::MAX, 0),
        "utf8" => {
            let bytes = [0xc3, 0x28].to_vec().leak();
            (bytes.as_ptr().expose_provenance(), 2)
        }
        _ => return Err(plugin::INVALID_INPUT),
    };
    plugin::log_raw(ptr, len);
    plugin::log("survived");
    Ok(())
}
