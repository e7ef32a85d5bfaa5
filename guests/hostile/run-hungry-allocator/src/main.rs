//! A command whose allocator, which the host asks for room for its answers, asks the host in turn: `?again` without end, `?nothing` not at
//! all, and has no room. Proves that a guest cannot pile up calls of the host, each of which holds a stack that others need. Answers how
//! often the allocator ran and what it and the command were told.

use std::alloc::{Layout, alloc};
use std::io::{Read, stdin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[link(wasm_import_module = "ignis_socket")]
unsafe extern "C" {
    /// JSON in, the address of JSON times 2^32 and its length out; 0 on failure.
    fn call_host(request: *const u8, request_len: usize) -> u64;
}

static AGAIN: AtomicBool = AtomicBool::new(false);
static RUNS: AtomicU64 = AtomicU64::new(0);
static TOLD_INSIDE: AtomicU64 = AtomicU64::new(0);

/// Answered with an error, which takes room.
const REQUEST: &str = "{}";

/// What the host takes for an allocator.
#[unsafe(no_mangle)]
pub extern "C" fn cabi_realloc(_old: usize, _old_len: usize, _align: usize, len: usize) -> usize {
    RUNS.fetch_add(1, Relaxed);
    if !AGAIN.load(Relaxed) {
        return 0;
    }
    TOLD_INSIDE.fetch_or(ask(), Relaxed);
    // SAFETY: the length is not 0, since no answer is empty.
    Layout::from_size_align(len, 1).map_or(0, |layout| unsafe { alloc(layout) }.expose_provenance())
}

fn main() {
    let mut request = String::new();
    // What cannot be read asks for nothing.
    let _ = stdin().lock().read_to_string(&mut request);
    AGAIN.store(request.contains("again"), Relaxed);
    let told = if ask() == 0 { "nothing" } else { "something" };
    let told_inside = if TOLD_INSIDE.load(Relaxed) == 0 { "nothing" } else { "something" };
    println!("runs {}, told {told}, inside {told_inside}", RUNS.load(Relaxed));
}

fn ask() -> u64 {
    // SAFETY: a text and its length.
    unsafe { call_host(REQUEST.as_ptr(), REQUEST.len()) }
}
