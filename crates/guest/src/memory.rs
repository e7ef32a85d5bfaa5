//! A core module's memory, as host functions see it: every address and length is the guest's word, and checked.

use std::fmt;

use wasmtime::{Caller, Extern};

use crate::state::State;

/// The bytes of a guest's memory, borrowed for one access: they may move or grow whenever the guest runs.
pub(crate) struct Memory<'a>(&'a mut [u8]);

/// An address or a length that leads out of the memory.
#[derive(Debug)]
pub(crate) struct OutOfBounds;

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the guest gave an address outside of its memory")
    }
}

impl std::error::Error for OutOfBounds {}

impl<'a> Memory<'a> {
    /// The exported `memory` of whoever calls, and its state.
    ///
    /// # Errors
    ///
    /// If it exports none: it then has no address to give.
    pub(crate) fn of(caller: &'a mut Caller<'_, State>) -> wasmtime::Result<(Self, &'a mut State)> {
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
            wasmtime::bail!("the guest calls the host and exports no memory");
        };
        let (bytes, state) = memory.data_and_store_mut(caller);
        Ok((Self(bytes), state))
    }

    /// A memory that is at hand already.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self, at: u32, len: u32) -> Result<&[u8], OutOfBounds> {
        let end = (at as usize).checked_add(len as usize).ok_or(OutOfBounds)?;
        self.0.get(at as usize..end).ok_or(OutOfBounds)
    }

    pub(crate) fn bytes_mut(&mut self, at: u32, len: u32) -> Result<&mut [u8], OutOfBounds> {
        let end = (at as usize).checked_add(len as usize).ok_or(OutOfBounds)?;
        self.0.get_mut(at as usize..end).ok_or(OutOfBounds)
    }

    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let len = u32::try_from(bytes.len()).map_err(|_| OutOfBounds)?;
        self.bytes_mut(at, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, at: u32, value: u32) -> Result<(), OutOfBounds> {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, at: u32, value: u64) -> Result<(), OutOfBounds> {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn read_u32(&self, at: u32) -> Result<u32, OutOfBounds> {
        Ok(u32::from_le_bytes(*self.bytes(at, 4)?.first_chunk().ok_or(OutOfBounds)?))
    }

    pub(crate) fn read_u64(&self, at: u32) -> Result<u64, OutOfBounds> {
        Ok(u64::from_le_bytes(*self.bytes(at, 8)?.first_chunk().ok_or(OutOfBounds)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let mut bytes = [0_u8; 16];
        let mut memory = Memory::new(&mut bytes);
        memory.write_u64(8, 0x0102_0304_0506_0708).expect("inside");
        assert_eq!(
            (memory.read_u64(8).expect("inside"), memory.read_u32(12).expect("inside")),
            (0x0102_0304_0506_0708, 0x0102_0304)
        );
        assert_eq!(memory.bytes(16, 0).expect("nothing, at the end").len(), 0);
        for (at, len) in [(16, 1), (17, 0), (0, 17), (u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
            assert!(memory.bytes(at, len).is_err() && memory.bytes_mut(at, len).is_err(), "{at} {len}");
        }
        assert!(memory.write_u32(13, 1).is_err() && memory.read_u64(9).is_err());
        assert_eq!(memory.bytes(0, 8).expect("inside"), [0; 8], "untouched");
    }
}
