//! Reading and writing.
//!
//! A file's position is ours: reading and writing name theirs, so that one operation on another thread is all there is, and
//! nothing is left half done when the program ends meanwhile.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use wasmtime::Caller;

use crate::logs::{LogWriter, WRITE_BYTES};
use crate::memory::Memory;
use crate::preview1::errno::{Errno, Failure};
use crate::preview1::files::position;
use crate::preview1::rights::Rights;
use crate::preview1::stdio::{self, Input, Output};
use crate::preview1::table::{Descriptor, Flags, Handle, Kind};
use crate::preview1::vectors::{MOVED_BYTES_MAX, Vectors, WRITTEN_BYTES_MAX, size};
use crate::preview1::{breathe, reach};
use crate::state::{Active, State};
use crate::terminal::Writer;

pub(super) async fn read(caller: &mut Caller<'_, State>, fd: u32, iovs: u32, count: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let vectors = Vectors::new(&memory, iovs, count, MOVED_BYTES_MAX)?;
    let Descriptor { kind, rights, flags, .. } = state.core().preview1.table.get(fd)?;
    let read = match kind {
        Kind::Input(input) => {
            rights.demand(Rights::FD_READ)?;
            match input {
                Input::Bytes(bytes) => vectors.each_mut(&mut memory, |buffer| Ok(stdio::take(bytes, buffer)))?,
                Input::Inherited(reader) => {
                    let waits = !flags.contains(Flags::NONBLOCK);
                    let bytes = if vectors.len == 0 { Bytes::new() } else { reader.read(vectors.len, waits).await? };
                    vectors.scatter(&mut memory, &bytes)?;
                    bytes.len()
                }
            }
        }
        Kind::File(file) => {
            file.demand_readable(*rights, Rights::FD_READ)?;
            let bytes = read_at(&file.handle, file.position, vectors.len).await?;
            file.position += bytes.len() as u64;
            vectors.scatter(&mut memory, &bytes)?;
            bytes.len()
        }
        Kind::Directory(_) => return Err(Errno::Isdir.into()),
        Kind::Output(_) => return Err(Errno::Badf.into()),
    };
    Ok(memory.write_u32(to, size(read)?)?)
}

pub(super) async fn pread(
    caller: &mut Caller<'_, State>,
    fd: u32,
    iovs: u32,
    count: u32,
    offset: u64,
    to: u32,
) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let vectors = Vectors::new(&memory, iovs, count, MOVED_BYTES_MAX)?;
    let Descriptor { kind, rights, .. } = state.core().preview1.table.get(fd)?;
    let file = match kind {
        Kind::File(file) => file,
        Kind::Input(_) => return Err(Errno::Spipe.into()),
        Kind::Directory(_) => return Err(Errno::Isdir.into()),
        Kind::Output(_) => return Err(Errno::Badf.into()),
    };
    file.demand_readable(*rights, Rights::FD_READ.or(Rights::FD_SEEK))?;
    let bytes = read_at(&file.handle, position(offset)?, vectors.len).await?;
    vectors.scatter(&mut memory, &bytes)?;
    Ok(memory.write_u32(to, size(bytes.len())?)?)
}

pub(super) async fn write(caller: &mut Caller<'_, State>, fd: u32, iovs: u32, count: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let active = state.active();
    let Descriptor { kind, rights, flags, .. } = state.core().preview1.table.get(fd)?;
    let written = match kind {
        Kind::Output(output) => {
            rights.demand(Rights::FD_WRITE)?;
            let vectors = Vectors::new(&memory, iovs, count, WRITTEN_BYTES_MAX)?;
            match output {
                Output::Captured(capture) => vectors.each_mut(&mut memory, |buffer| {
                    capture.write(buffer).map_err(wasmtime::Error::from)?;
                    Ok(buffer.len())
                })?,
                Output::Log(log) => Sink::Log(log).write(vectors, &memory, &active).await?,
                Output::Inherited(writer) => Sink::Inherited(writer).write(vectors, &memory, &active).await?,
            }
        }
        Kind::File(file) => {
            file.demand_writable(*rights, Rights::FD_WRITE)?;
            let vectors = Vectors::new(&memory, iovs, count, WRITTEN_BYTES_MAX)?;
            let append = flags.contains(Flags::APPEND);
            let mut sink = Sink::File { handle: &file.handle, at: file.position, append };
            let written = sink.write(vectors, &memory, &active).await?;
            if let Sink::File { at, .. } = sink {
                file.position = at;
            }
            written
        }
        Kind::Directory(_) | Kind::Input(_) => return Err(Errno::Badf.into()),
    };
    Ok(memory.write_u32(to, size(written)?)?)
}

pub(super) async fn pwrite(
    caller: &mut Caller<'_, State>,
    fd: u32,
    iovs: u32,
    count: u32,
    offset: u64,
    to: u32,
) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let active = state.active();
    let vectors = Vectors::new(&memory, iovs, count, WRITTEN_BYTES_MAX)?;
    let Descriptor { kind, rights, flags, .. } = state.core().preview1.table.get(fd)?;
    let file = match kind {
        Kind::File(file) => file,
        Kind::Output(_) => return Err(Errno::Spipe.into()),
        Kind::Directory(_) | Kind::Input(_) => return Err(Errno::Badf.into()),
    };
    file.demand_writable(*rights, Rights::FD_WRITE.or(Rights::FD_SEEK))?;
    // As on Linux, a file that is appended to is appended to wherever the program points.
    let append = flags.contains(Flags::APPEND);
    let mut sink = Sink::File { handle: &file.handle, at: position(offset)?, append };
    let written = sink.write(vectors, &memory, &active).await?;
    Ok(memory.write_u32(to, size(written)?)?)
}

/// Reads up to `len` bytes.
async fn read_at(handle: &Arc<Handle>, at: u64, len: usize) -> Result<Vec<u8>, Failure> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let handle = Arc::clone(handle);
    handle
        .steps()
        .run(move || {
            let mut bytes = Vec::with_capacity(len);
            rustix::io::retry_on_intr(|| rustix::io::pread(handle.file(), spare_capacity(&mut bytes), at))?;
            Ok(bytes)
        })
        .await
}

/// What is written to piece by piece.
enum Sink<'a> {
    File {
        handle: &'a Arc<Handle>,
        /// Where the next byte goes.
        at: u64,
        append: bool,
    },
    Inherited(&'a Writer),
    Log(&'a mut LogWriter),
}

impl Sink<'_> {
    /// Writes all of it, unless that fails midway: many programs do not go on after a write that was short. Returns how many bytes.
    async fn write(&mut self, vectors: Vectors, memory: &Memory<'_>, active: &Arc<Active>) -> Result<usize, Failure> {
        let bytes_max = match self {
            // Each byte may be a line, and lines are written without looking at the clock.
            Self::Log(_) => WRITE_BYTES,
            Self::File { .. } | Self::Inherited(_) => MOVED_BYTES_MAX,
        };
        let mut written = 0;
        while written < vectors.len {
            let bytes = vectors.gather(memory, written, bytes_max)?;
            let len = bytes.len();
            let now = match self.piece(bytes).await {
                // Bytes that are written are what the program is told; the next write fails again.
                Err(Failure::Errno(_)) if written > 0 => 0,
                now => now?,
            };
            written += now;
            if now < len {
                break;
            }
            breathe(active).await?;
        }
        Ok(written)
    }

    async fn piece(&mut self, bytes: Vec<u8>) -> Result<usize, Failure> {
        match self {
            Self::File { handle, at, append } => {
                let (written, next) = write_at(handle, bytes, *at, *append).await?;
                *at = next;
                Ok(written)
            }
            Self::Inherited(writer) => Ok(writer.write(bytes).await?),
            Self::Log(log) => {
                log.push(&bytes);
                Ok(bytes.len())
            }
        }
    }
}

/// Writes some of the bytes; returns how many, and where the next would go.
async fn write_at(handle: &Arc<Handle>, bytes: Vec<u8>, at: u64, append: bool) -> Result<(usize, u64), Failure> {
    let handle = Arc::clone(handle);
    handle
        .steps()
        .run(move || {
            let file = handle.file();
            if append {
                let written = append_to(file, &bytes)?;
                Ok((written, file.metadata()?.len()))
            } else {
                let written = file.write_at(&bytes, at)?;
                Ok((written, at + written as u64))
            }
        })
        .await
}

/// Writes at the end, wherever that is by then.
#[cfg(target_os = "linux")]
fn append_to(file: &std::fs::File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, pwritev2, retry_on_intr};
    Ok(retry_on_intr(|| pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND))?)
}

/// Writes at the end. Two that do so at once may meet.
#[cfg(not(target_os = "linux"))]
fn append_to(file: &std::fs::File, bytes: &[u8]) -> io::Result<usize> {
    file.write_at(bytes, file.metadata()?.len())
}
