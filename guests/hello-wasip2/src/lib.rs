//! Answers every request with `Hello from Fornax!` over the raw bindings of WASI 0.2, without the standard library: nothing to
//! initialise, no import but those of the answer itself. What benchmarks call when they ask what a sandbox costs.

#![no_std]

extern crate alloc;

use alloc::alloc::{alloc, realloc};
use alloc::borrow::ToOwned;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::{Cell, UnsafeCell};
use core::panic::PanicInfo;
use core::ptr::null_mut;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
        let response = OutgoingResponse::new(headers);
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        // A client that has left is no reason to trap.
        let _ = stream.blocking_write_and_flush(b"Hello from Fornax!\n");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Bytes the answer needs many times over.
const ARENA_BYTES: usize = 16 << 10;

/// Hands out one part of the memory the guest begins with after the other, and all of it anew when nothing is in use. A general
/// allocator would grow the memory first, which costs the host two system calls for every sandbox.
struct Arena {
    bytes: UnsafeCell<[u8; ARENA_BYTES]>,
    used: Cell<usize>,
    live: Cell<usize>,
}

// SAFETY: the guest has one thread.
unsafe impl Sync for Arena {}

// SAFETY: parts do not overlap while one of them is in use, and each begins where its layout asks.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let free = base.wrapping_add(self.used.get());
        let begin = self.used.get() + free.align_offset(layout.align());
        match begin.checked_add(layout.size()) {
            Some(end) if end <= ARENA_BYTES => {
                self.used.set(end);
                self.live.set(self.live.get() + 1);
                base.wrapping_add(begin)
            }
            _ => null_mut(),
        }
    }

    unsafe fn dealloc(&self, _part: *mut u8, _layout: Layout) {
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0 {
            self.used.set(0);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Arena = Arena { bytes: UnsafeCell::new([0; ARENA_BYTES]), used: Cell::new(0), live: Cell::new(0) };

/// Where the host asks for memory to put lists and texts into; the name is the component model's. Other guests get it from the
/// standard library.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, bytes: usize) -> *mut u8 {
    // SAFETY: `old` came from here with this size and alignment; the host keeps to the canonical ABI.
    unsafe {
        match (old_bytes, bytes) {
            (0, 0) => core::ptr::without_provenance_mut(align),
            (0, _) => alloc(Layout::from_size_align_unchecked(bytes, align)),
            _ => realloc(old, Layout::from_size_align_unchecked(old_bytes, align), bytes),
        }
    }
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
