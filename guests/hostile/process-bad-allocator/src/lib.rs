//! A plugin whose allocator is wrong in the way the length of the input says. Proves that nothing is written outside of a guest, and that an
//! allocator stands under the same limits as everything else. `process` logs the addresses it gets.

use std::arch::wasm32::memory_size;

/// What the host takes for room.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(len: usize) -> usize {
    // Of 65,536 bytes each.
    let end = memory_size(0) << 16;
    match len {
        1 => end,
        2 => end - 1,
        3 => usize::MAX,
        4 => 0,
        5 => attack::spin(),
        6 => {
            attack::trap();
            0
        }
        7 => attack::take_memory(),
        8 => attack::descend(1) as usize,
        _ => plugin::allocate(len),
    }
}

/// One call.
#[unsafe(no_mangle)]
pub extern "C" fn process(input_ptr: usize, input_len: usize, env_ptr: usize, env_len: usize) -> i32 {
    plugin::log(&format!("input at {input_ptr}, {input_len} bytes"));
    plugin::log(&format!("environment at {env_ptr}, {env_len} bytes"));
    0
}
