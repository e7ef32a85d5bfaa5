//! A plugin of the old kind: it looks for its input at address 0, whatever it is told, and exports no allocator. Proves
//! `process_input = "offset-zero"`.

use std::ptr::without_provenance;

/// One call.
#[unsafe(no_mangle)]
pub extern "C" fn process(_input_ptr: usize, input_len: usize, _env_ptr: usize, _env_len: usize) -> i32 {
    // SAFETY: address 0 is the end of the stack, far below what is in use, and a volatile read may be of what Rust knows nothing of.
    let byte = |at: usize| unsafe { without_provenance::<u8>(at).read_volatile() };
    match String::from_utf8((0..input_len).map(byte).collect()) {
        Ok(text) => {
            plugin::log(&format!("Result = {text}"));
            0
        }
        Err(_) => plugin::INVALID_UTF8,
    }
}
