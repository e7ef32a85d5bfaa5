//! Arguments and environment.

use wasmtime::Caller;

use crate::memory::Memory;
use crate::preview1::errno::{Errno, Failure};
use crate::preview1::reach;
use crate::preview1::vectors::size;
use crate::state::State;

pub(super) fn args_sizes(caller: &mut Caller<'_, State>, count_to: u32, len_to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let args = &state.core().preview1.args;
    sizes(&mut memory, args.iter().map(|arg| arg.len()), count_to, len_to)
}

pub(super) fn args(caller: &mut Caller<'_, State>, at: u32, buffer: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    strings(&mut memory, state.core().preview1.args.iter().map(|arg| [arg.as_bytes(), b"", b""]), at, buffer)
}

pub(super) fn env_sizes(caller: &mut Caller<'_, State>, count_to: u32, len_to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let env = &state.core().preview1.env;
    sizes(&mut memory, env.iter().map(|(name, value)| name.len() + 1 + value.as_ref().len()), count_to, len_to)
}

pub(super) fn env(caller: &mut Caller<'_, State>, at: u32, buffer: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let env = &state.core().preview1.env;
    strings(&mut memory, env.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_ref().as_bytes()]), at, buffer)
}

/// Writes how many strings there are, and how long they are with their zero bytes.
fn sizes(
    memory: &mut Memory<'_>,
    lengths: impl ExactSizeIterator<Item = usize>,
    count_to: u32,
    len_to: u32,
) -> Result<(), Failure> {
    memory.write_u32(count_to, size(lengths.len())?)?;
    memory.write_u32(len_to, size(lengths.map(|len| len + 1).sum())?)?;
    Ok(())
}

/// Writes strings, each of three parts and with a zero byte behind, to `buffer`, and their addresses to `at`.
fn strings<'a>(
    memory: &mut Memory<'_>,
    strings: impl Iterator<Item = [&'a [u8]; 3]>,
    mut at: u32,
    mut buffer: u32,
) -> Result<(), Failure> {
    let overflow = || Failure::Errno(Errno::Overflow);
    for parts in strings {
        memory.write_u32(at, buffer)?;
        at = at.checked_add(4).ok_or_else(overflow)?;
        for part in parts.into_iter().chain([&[0_u8][..]]) {
            memory.write(buffer, part)?;
            buffer = buffer.checked_add(size(part.len())?).ok_or_else(overflow)?;
        }
    }
    Ok(())
}
