//! Random bytes, in pieces, since a program may ask for as many as it has memory.
//!
//! They are fit for keys: the generator is the thread's, ChaCha with a key that the system gave and gives anew after every 64 KiB. So a
//! program that asks for a few, as most do when they start, costs no system call. What one program was given tells nothing of what
//! another is.

use wasmtime::Caller;

use crate::preview1::errno::Failure;
use crate::preview1::{breathe, reach};
use crate::state::State;

/// Bytes between two looks at the deadline: well below a tick's worth.
const PIECE_BYTES: u32 = 128 << 10;

pub(super) async fn get(caller: &mut Caller<'_, State>, mut at: u32, mut len: u32) -> Result<(), Failure> {
    // All of it must be there before any of it is filled.
    reach(caller)?.0.bytes(at, len)?;
    loop {
        let now = len.min(PIECE_BYTES);
        let (mut memory, state) = reach(caller)?;
        rand::fill(memory.bytes_mut(at, now)?);
        len -= now;
        if len == 0 {
            return Ok(());
        }
        at += now;
        let active = state.active();
        breathe(&active).await?;
    }
}
