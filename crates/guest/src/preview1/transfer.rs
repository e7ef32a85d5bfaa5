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
use crate::preview1::table::{Descriptor, File, Flags, Handle, Kind};
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
    let active = Arc::clone(&state.active);
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
                Output::Log(log) => write_log(log, vectors, &memory, &active).await?,
                Output::Inherited(writer) => write_out(writer, vectors, &memory, &active).await?,
            }
        }
        Kind::File(file) => {
            file.demand_writable(*rights, Rights::FD_WRITE)?;
            let vectors = Vectors::new(&memory, iovs, count, WRITTEN_BYTES_MAX)?;
            let append = flags.contains(Flags::APPEND);
            let (written, end) = write_file(file, vectors, &memory, file.position, append, &active).await?;
            file.position = end;
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
    let active = Arc::clone(&state.active);
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
    let (written, _) = write_file(file, vectors, &memory, position(offset)?, append, &active).await?;
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

/// Writes to a file, piece by piece: many programs do not go on after a write that was short. Returns how many bytes, and where the
/// next would go.
async fn write_file(
    file: &File,
    vectors: Vectors,
    memory: &Memory<'_>,
    at: u64,
    append: bool,
    active: &Arc<Active>,
) -> Result<(usize, u64), Failure> {
    let (mut written, mut end) = (0, at);
    while written < vectors.len {
        let bytes = vectors.gather(memory, written, MOVED_BYTES_MAX)?;
        let len = bytes.len();
        let now = match write_at(&file.handle, bytes, end, append).await {
            Ok((now, next)) => {
                end = next;
                now
            }
            Err(failure) => before_that(written, failure)?,
        };
        written += now;
        if now < len {
            break;
        }
        breathe(active).await?;
    }
    Ok((written, end))
}

/// The same to one of this process's own streams.
async fn write_out(writer: &Writer, vectors: Vectors, memory: &Memory<'_>, active: &Arc<Active>) -> Result<usize, Failure> {
    let mut written = 0;
    while written < vectors.len {
        let bytes = vectors.gather(memory, written, MOVED_BYTES_MAX)?;
        let len = bytes.len();
        let now = writer.write(bytes).await.or_else(|error| before_that(written, error.into()))?;
        written += now;
        if now < len {
            break;
        }
        breathe(active).await?;
    }
    Ok(written)
}

/// The same to the log. Each byte may be a line, and lines are written without looking at the clock: so it is small pieces.
async fn write_log(log: &mut LogWriter, vectors: Vectors, memory: &Memory<'_>, active: &Arc<Active>) -> Result<usize, Failure> {
    let mut written = 0;
    while written < vectors.len {
        let bytes = vectors.gather(memory, written, WRITE_BYTES)?;
        log.push(&bytes);
        written += bytes.len();
        if written < vectors.len {
            breathe(active).await?;
        }
    }
    Ok(written)
}

/// A failure behind bytes that are written: those are what the program is told, and the next write fails again.
fn before_that(written: usize, failure: Failure) -> Result<usize, Failure> {
    match failure {
        Failure::Errno(_) if written > 0 => Ok(0),
        failure => Err(failure),
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
