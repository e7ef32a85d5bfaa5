//! What guests do to a host through every entry there is. The same code each time: what becomes of it must not depend on the entry.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Taken at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Never comes back and never calls the host.
pub fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Takes and touches memory until there is no more, and then traps.
pub fn take_memory() -> ! {
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK_BYTES).unwrap();
        chunk.resize(CHUNK_BYTES, 0xa5);
        chunks.push(black_box(chunk));
    }
}

/// Traps three calls deep, each of which has a name.
pub fn trap() {
    black_box(outer_function(1));
}

#[inline(never)]
fn outer_function(depth: u32) -> u32 {
    black_box(middle_function(black_box(depth) + 1)) + 1
}

#[inline(never)]
fn middle_function(depth: u32) -> u32 {
    black_box(inner_trap(black_box(depth) + 1)) + 1
}

#[inline(never)]
fn inner_trap(depth: u32) -> u32 {
    if black_box(depth) > 0 {
        core::arch::wasm32::unreachable();
    }
    depth
}

/// Calls itself until the stack is full. Has work left after each call, so that no compiler makes a loop of it.
#[inline(never)]
pub fn descend(depth: u64) -> u64 {
    if black_box(depth) == 0 {
        return 1;
    }
    descend(depth + 1).wrapping_mul(3) ^ black_box(depth)
}

/// Fills and copies much memory at once, without end: no operation is interrupted within itself.
pub fn bulk() -> ! {
    const BYTES: usize = 32 << 20;
    let mut memory = vec![0u8; BYTES];
    loop {
        memory.fill(black_box(0xa5));
        memory.copy_within(..BYTES / 2, BYTES / 2);
        black_box(&mut memory);
    }
}

/// The system's allocator, which the host asks for room as well, until it is told to never come back.
pub struct Endless;

static IS_ENDLESS: AtomicBool = AtomicBool::new(false);

impl Endless {
    /// From now on nobody gets anything.
    pub fn begin() {
        IS_ENDLESS.store(true, Relaxed);
    }
}

// SAFETY: what it returns is the system's.
unsafe impl GlobalAlloc for Endless {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_ENDLESS.load(Relaxed) {
            spin();
        }
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Has the guest [`spin`] before anything else of it is called.
#[macro_export]
macro_rules! spins_at_start {
    () => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static AT_START: extern "C" fn() = at_start;

        extern "C" fn at_start() {
            $crate::spin()
        }
    };
}
