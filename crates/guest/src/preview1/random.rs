//! Random bytes: the system's, in pieces, since a program may ask for as many as it has memory.

use std::sync::Arc;

use wasmtime::Caller;

use crate::preview1::errno::{Errno, Failure};
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
        getrandom::fill(memory.bytes_mut(at, now)?).map_err(|_| Errno::Io)?;
        len -= now;
        if len == 0 {
            return Ok(());
        }
        at += now;
        let active = Arc::clone(&state.active);
        breathe(&active).await?;
    }
}
