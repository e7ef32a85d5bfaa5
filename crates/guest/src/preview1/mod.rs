//! WASI preview 1: one implementation, one table of descriptors.
//!
//! Goals in tension: a program that only touches memory — arguments, environment, standard streams that are buffers, clock,
//! random numbers — must pay for nothing else, and one with directories must never block the thread it shares. So each function
//! a module imports is linked by itself, and a module whose descriptors are all in memory gets functions that cannot wait.

mod errno;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use wasmtime::{Caller, Linker};
use wasmtime_wasi::I32Exit;

use crate::logs::{LogStream, LogWriter};
use crate::memory::Memory;
use crate::preview1::errno::{Errno, Failure, answer};
use crate::program::{Program, Stdin, Stdout};
use crate::runtime::Directory;
use crate::state::{Active, State};

/// The module programs import.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// What the descriptors of a module's instances can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    /// Buffers and log lines: nothing waits.
    Memory,
    /// Files, or this process's own streams.
    Host,
}

/// What the host keeps for one program.
pub(crate) struct Preview1 {
    args: Vec<String>,
    env: Vec<(String, String)>,
    started: Instant,
    descriptors: Vec<Option<Descriptor>>,
}

enum Descriptor {
    Stdin(Stdin),
    Stdout(Stdout),
    Log(LogWriter),
}

impl Preview1 {
    pub(crate) fn new(program: Program, _dirs: &[Directory], active: &Arc<Active>) -> Self {
        let log = |stream| Descriptor::Log(LogStream::new(active, stream).writer());
        let stdout = match program.stdout {
            Stdout::Log => log("stdout"),
            stdout => Descriptor::Stdout(stdout),
        };
        let descriptors = [Descriptor::Stdin(program.stdin), stdout, log("stderr")];
        Self {
            args: program.args,
            env: program.env,
            started: Instant::now(),
            descriptors: descriptors.into_iter().map(Some).collect(),
        }
    }

    fn descriptor(&mut self, fd: u32) -> Result<&mut Descriptor, Failure> {
        let slot = self.descriptors.get_mut(fd as usize).and_then(Option::as_mut);
        slot.ok_or(Failure::Errno(Errno::Badf))
    }
}

/// Defines the function `name` of [`MODULE`], if there is one.
pub(crate) fn define(linker: &mut Linker<State>, name: &str, _io: Io) -> wasmtime::Result<bool> {
    type C<'a> = Caller<'a, State>;
    match name {
        "args_sizes_get" => linker.func_wrap(MODULE, name, |mut c: C, n: u32, len: u32| answer(args_sizes(&mut c, n, len)))?,
        "args_get" => linker.func_wrap(MODULE, name, |mut c: C, at: u32, buf: u32| answer(args(&mut c, at, buf)))?,
        "environ_sizes_get" => linker.func_wrap(MODULE, name, |mut c: C, n: u32, len: u32| answer(env_sizes(&mut c, n, len)))?,
        "environ_get" => linker.func_wrap(MODULE, name, |mut c: C, at: u32, buf: u32| answer(env(&mut c, at, buf)))?,
        "clock_time_get" => {
            linker.func_wrap(MODULE, name, |mut c: C, id: u32, _: u64, to: u32| answer(clock_time(&mut c, id, to)))?
        }
        "random_get" => linker.func_wrap(MODULE, name, |mut c: C, at: u32, len: u32| answer(random(&mut c, at, len)))?,
        "proc_exit" => linker.func_wrap(MODULE, name, |_: C, code: u32| proc_exit(code))?,
        "fd_read" => linker
            .func_wrap(MODULE, name, |mut c: C, fd: u32, iov: u32, n: u32, to: u32| answer(fd_read(&mut c, fd, iov, n, to)))?,
        "fd_write" => linker
            .func_wrap(MODULE, name, |mut c: C, fd: u32, iov: u32, n: u32, to: u32| answer(fd_write(&mut c, fd, iov, n, to)))?,
        "fd_prestat_get" => linker.func_wrap(MODULE, name, |_: C, _: u32, _: u32| answer(Err(Errno::Badf.into())))?,
        _ => return Ok(false),
    };
    Ok(true)
}

fn args_sizes(caller: &mut Caller<'_, State>, count_to: u32, len_to: u32) -> Result<(), Failure> {
    let (mut memory, state) = Memory::of(caller)?;
    let args = &state.core().preview1.args;
    sizes(&mut memory, args.iter().map(|arg| arg.len()), count_to, len_to)
}

fn args(caller: &mut Caller<'_, State>, at: u32, buffer: u32) -> Result<(), Failure> {
    let (mut memory, state) = Memory::of(caller)?;
    strings(&mut memory, state.core().preview1.args.iter().map(|arg| [arg.as_bytes(), b"", b""]), at, buffer)
}

fn env_sizes(caller: &mut Caller<'_, State>, count_to: u32, len_to: u32) -> Result<(), Failure> {
    let (mut memory, state) = Memory::of(caller)?;
    let env = &state.core().preview1.env;
    sizes(&mut memory, env.iter().map(|(name, value)| name.len() + 1 + value.len()), count_to, len_to)
}

fn env(caller: &mut Caller<'_, State>, at: u32, buffer: u32) -> Result<(), Failure> {
    let (mut memory, state) = Memory::of(caller)?;
    let env = &state.core().preview1.env;
    strings(&mut memory, env.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()]), at, buffer)
}

/// Writes how many strings there are, and how long they are with their zero bytes.
fn sizes(
    memory: &mut Memory<'_>,
    lengths: impl ExactSizeIterator<Item = usize>,
    count_to: u32,
    len_to: u32,
) -> Result<(), Failure> {
    let overflow = |_| Failure::Errno(Errno::Overflow);
    memory.write_u32(count_to, u32::try_from(lengths.len()).map_err(overflow)?)?;
    memory.write_u32(len_to, u32::try_from(lengths.map(|len| len + 1).sum::<usize>()).map_err(overflow)?)?;
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
            let len = u32::try_from(part.len()).map_err(|_| overflow())?;
            buffer = buffer.checked_add(len).ok_or_else(overflow)?;
        }
    }
    Ok(())
}

fn clock_time(caller: &mut Caller<'_, State>, clock: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = Memory::of(caller)?;
    let now = match clock {
        0 => SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Errno::Overflow)?,
        1 => state.core().preview1.started.elapsed(),
        _ => return Err(Errno::Inval.into()),
    };
    memory.write_u64(to, u64::try_from(now.as_nanos()).map_err(|_| Errno::Overflow)?)?;
    Ok(())
}

fn random(caller: &mut Caller<'_, State>, at: u32, len: u32) -> Result<(), Failure> {
    let (mut memory, _) = Memory::of(caller)?;
    getrandom::fill(memory.bytes_mut(at, len)?).map_err(|_| Errno::Io)?;
    Ok(())
}

fn proc_exit(code: u32) -> wasmtime::Result<()> {
    Err(I32Exit(code.cast_signed()).into())
}

fn fd_read(caller: &mut Caller<'_, State>, fd: u32, iovs: u32, count: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = Memory::of(caller)?;
    let Descriptor::Stdin(Stdin::Bytes(bytes)) = state.core().preview1.descriptor(fd)? else {
        return Err(Errno::Badf.into());
    };
    let mut read = 0;
    for index in 0..count {
        let (at, len) = vector(&memory, iovs, index)?;
        read += take(bytes, memory.bytes_mut(at, len)?);
    }
    memory.write_u32(to, read)?;
    Ok(())
}

fn take(bytes: &mut Bytes, to: &mut [u8]) -> u32 {
    let len = bytes.remaining().min(to.len());
    bytes.copy_to_slice(&mut to[..len]);
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn fd_write(caller: &mut Caller<'_, State>, fd: u32, iovs: u32, count: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = Memory::of(caller)?;
    let mut written: u32 = 0;
    for index in 0..count {
        let (at, len) = vector(&memory, iovs, index)?;
        let bytes = memory.bytes(at, len)?;
        match state.core().preview1.descriptor(fd)? {
            Descriptor::Stdout(Stdout::Captured(capture)) => capture.write(bytes).map_err(wasmtime::Error::from)?,
            Descriptor::Log(log) => log.push(bytes),
            _ => return Err(Errno::Badf.into()),
        }
        written = written.saturating_add(len);
    }
    memory.write_u32(to, written)?;
    Ok(())
}

/// The `index`th of a list of address and length.
fn vector(memory: &Memory<'_>, iovs: u32, index: u32) -> Result<(u32, u32), Failure> {
    let at = index.checked_mul(8).and_then(|offset| iovs.checked_add(offset)).ok_or(Errno::Fault)?;
    Ok((memory.read_u32(at)?, memory.read_u32(at.checked_add(4).ok_or(Errno::Fault)?)?))
}
