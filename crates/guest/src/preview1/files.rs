//! Functions on descriptors, but for reading and writing.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use wasmtime::Caller;

use crate::preview1::errno::{Errno, Failure};
use crate::preview1::rights::Rights;
use crate::preview1::stat::{FileStat, FileType, NewTimes};
use crate::preview1::table::{Descriptor, File, Flags, Handle, Kind};
use crate::preview1::vectors::size;
use crate::preview1::{reach, table};
use crate::state::State;

/// Bytes that one call sets aside on the disk: one step, which nothing interrupts.
const ALLOCATED_BYTES_MAX: u64 = 1 << 30;

/// A position in a file, as the system counts.
pub(super) fn position(offset: u64) -> Result<u64, Failure> {
    if i64::try_from(offset).is_ok() { Ok(offset) } else { Err(Errno::Inval.into()) }
}

impl File {
    pub(super) fn demand_readable(&self, rights: Rights, needed: Rights) -> Result<(), Failure> {
        if !self.readable {
            return Err(Errno::Badf.into());
        }
        rights.demand(needed)
    }

    pub(super) fn demand_writable(&self, rights: Rights, needed: Rights) -> Result<(), Failure> {
        if !self.writable {
            return Err(Errno::Badf.into());
        }
        rights.demand(needed)
    }
}

pub(super) async fn seek(caller: &mut Caller<'_, State>, fd: u32, offset: i64, whence: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let (file, rights) = seekable(state, fd)?;
    let tells = offset == 0 && whence == 1;
    rights.demand(if tells { Rights::FD_TELL } else { Rights::FD_SEEK })?;
    let from = match whence {
        0 => 0,
        1 => file.position,
        2 => stat(&file.handle).await?.size,
        _ => return Err(Errno::Inval.into()),
    };
    file.position = position(from.checked_add_signed(offset).ok_or(Errno::Inval)?)?;
    Ok(memory.write_u64(to, file.position)?)
}

pub(super) fn tell(caller: &mut Caller<'_, State>, fd: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let (file, rights) = seekable(state, fd)?;
    rights.demand(Rights::FD_TELL)?;
    Ok(memory.write_u64(to, file.position)?)
}

fn seekable(state: &mut State, fd: u32) -> Result<(&mut File, Rights), Failure> {
    match state.core().preview1.table.get(fd)? {
        Descriptor { kind: Kind::File(file), rights, .. } => Ok((file, *rights)),
        Descriptor { kind: Kind::Input(_) | Kind::Output(_), .. } => Err(Errno::Spipe.into()),
        Descriptor { kind: Kind::Directory(_), .. } => Err(Errno::Badf.into()),
    }
}

pub(super) fn close(caller: &mut Caller<'_, State>, fd: u32) -> Result<(), Failure> {
    table(caller).close(fd)
}

pub(super) fn renumber(caller: &mut Caller<'_, State>, from: u32, to: u32) -> Result<(), Failure> {
    table(caller).renumber(from, to)
}

pub(super) fn fdstat(caller: &mut Caller<'_, State>, fd: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let descriptor = state.core().preview1.table.get(fd)?;
    let ty = match &descriptor.kind {
        Kind::Input(input) => input.file_type(),
        Kind::Output(output) => output.file_type(),
        Kind::Directory(_) => FileType::Directory,
        Kind::File(_) => FileType::RegularFile,
    };
    let mut bytes = [0; 24];
    bytes[0] = ty as u8;
    bytes[2..4].copy_from_slice(&descriptor.flags.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&descriptor.rights.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&descriptor.inheriting.0.to_le_bytes());
    Ok(memory.write(to, &bytes)?)
}

/// Whether writes reach the disk before they return was settled when the file was opened; the rest may change.
pub(super) fn set_flags(caller: &mut Caller<'_, State>, fd: u32, flags: u32) -> Result<(), Failure> {
    const SETTLED: u16 = Flags::DSYNC.0 | Flags::RSYNC.0 | Flags::SYNC.0;
    let flags = Flags::of(flags)?;
    let descriptor = table(caller).get(fd)?;
    descriptor.rights.demand(Rights::FD_FDSTAT_SET_FLAGS)?;
    let settled = descriptor.flags.0 & SETTLED;
    if flags.0 & SETTLED & !settled != 0 {
        return Err(Errno::Inval.into());
    }
    descriptor.flags = Flags(flags.0 | settled);
    Ok(())
}

/// Rights only become fewer.
pub(super) fn set_rights(caller: &mut Caller<'_, State>, fd: u32, base: u64, inheriting: u64) -> Result<(), Failure> {
    let descriptor = table(caller).get(fd)?;
    descriptor.rights.demand(Rights(base))?;
    descriptor.inheriting.demand(Rights(inheriting))?;
    descriptor.rights = Rights(base);
    descriptor.inheriting = Rights(inheriting);
    Ok(())
}

pub(super) fn prestat(caller: &mut Caller<'_, State>, fd: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    match &state.core().preview1.table.get(fd)?.kind {
        Kind::Directory(directory) => {
            let name = directory.preopened.as_ref().ok_or(Errno::Badf)?;
            // A directory is number 0 of the kinds of things that can be there from the start, and the only one.
            memory.write_u32(to, 0)?;
            Ok(memory.write_u32(to.checked_add(4).ok_or(Errno::Fault)?, size(name.len())?)?)
        }
        _ => Err(Errno::Badf.into()),
    }
}

pub(super) fn prestat_name(caller: &mut Caller<'_, State>, fd: u32, to: u32, len: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    match &state.core().preview1.table.get(fd)?.kind {
        Kind::Directory(directory) => {
            let name = directory.preopened.as_ref().ok_or(Errno::Notdir)?;
            if size(name.len())? > len {
                return Err(Errno::Nametoolong.into());
            }
            Ok(memory.write(to, name.as_bytes())?)
        }
        _ => Err(Errno::Notdir.into()),
    }
}

pub(super) async fn filestat(caller: &mut Caller<'_, State>, fd: u32, to: u32) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let Descriptor { kind, rights, .. } = state.core().preview1.table.get(fd)?;
    rights.demand(Rights::FD_FILESTAT_GET)?;
    let stat = match kind {
        Kind::Input(input) => FileStat::of_stream(input.file_type()),
        Kind::Output(output) => FileStat::of_stream(output.file_type()),
        Kind::Directory(directory) => stat(&directory.handle).await?,
        Kind::File(file) => stat(&file.handle).await?,
    };
    stat.write(&mut memory, to)
}

/// What is known of something that is open.
pub(super) async fn stat(handle: &Arc<Handle>) -> Result<FileStat, Failure> {
    let handle = Arc::clone(handle);
    handle.steps().run(move || FileStat::of_file(handle.file())).await
}

pub(super) async fn set_size(caller: &mut Caller<'_, State>, fd: u32, size: u64) -> Result<(), Failure> {
    let (file, rights) = table(caller).file(fd)?;
    if !file.writable {
        file.handle.demand_writable()?;
        return Err(Errno::Inval.into());
    }
    rights.demand(Rights::FD_FILESTAT_SET_SIZE)?;
    let handle = Arc::clone(&file.handle);
    let size = position(size)?;
    handle.steps().run(move || handle.file().set_len(size)).await
}

pub(super) async fn set_times(
    caller: &mut Caller<'_, State>,
    fd: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Result<(), Failure> {
    let times = NewTimes::of(accessed, modified, flags)?;
    let (handle, rights) = on_disk(table(caller).get(fd)?)?;
    rights.demand(Rights::FD_FILESTAT_SET_TIMES)?;
    handle.demand_writable()?;
    handle.steps().run(move || times.set(handle.file())).await
}

fn on_disk(descriptor: &Descriptor) -> Result<(Arc<Handle>, Rights), Failure> {
    match &descriptor.kind {
        Kind::Directory(directory) => Ok((Arc::clone(&directory.handle), descriptor.rights)),
        Kind::File(file) => Ok((Arc::clone(&file.handle), descriptor.rights)),
        Kind::Input(_) | Kind::Output(_) => Err(Errno::Badf.into()),
    }
}

pub(super) async fn sync(caller: &mut Caller<'_, State>, fd: u32) -> Result<(), Failure> {
    let (handle, rights) = on_disk(table(caller).get(fd)?)?;
    rights.demand(Rights::FD_SYNC)?;
    handle.steps().run(move || handle.file().sync_all()).await
}

pub(super) async fn datasync(caller: &mut Caller<'_, State>, fd: u32) -> Result<(), Failure> {
    let (handle, rights) = on_disk(table(caller).get(fd)?)?;
    rights.demand(Rights::FD_DATASYNC)?;
    handle.steps().run(move || handle.file().sync_data()).await
}

pub(super) async fn allocate(caller: &mut Caller<'_, State>, fd: u32, offset: u64, len: u64) -> Result<(), Failure> {
    let (file, rights) = table(caller).file(fd)?;
    file.demand_writable(rights, Rights::FD_ALLOCATE)?;
    if len == 0 {
        return Err(Errno::Inval.into());
    }
    let end = offset.checked_add(len).and_then(|end| i64::try_from(end).ok());
    end.filter(|_| len <= ALLOCATED_BYTES_MAX).ok_or(Errno::Fbig)?;
    let handle = Arc::clone(&file.handle);
    handle.steps().run(move || Ok(fallocate(handle.file(), FallocateFlags::empty(), offset, len)?)).await
}

pub(super) async fn advise(caller: &mut Caller<'_, State>, fd: u32, offset: u64, len: u64, advice: u32) -> Result<(), Failure> {
    let (file, rights) = table(caller).file(fd)?;
    rights.demand(Rights::FD_ADVISE)?;
    if advice > 5 {
        return Err(Errno::Inval.into());
    }
    let handle = Arc::clone(&file.handle);
    handle.steps().run(move || give_advice(handle.file(), offset, NonZeroU64::new(len), advice)).await
}

#[cfg(target_os = "linux")]
fn give_advice(file: &std::fs::File, offset: u64, len: Option<NonZeroU64>, advice: u32) -> io::Result<()> {
    use rustix::fs::{Advice, fadvise};
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        _ => Advice::NoReuse,
    };
    Ok(fadvise(file, offset, len, advice)?)
}

/// Advice is only that.
#[cfg(not(target_os = "linux"))]
fn give_advice(_: &std::fs::File, _: u64, _: Option<NonZeroU64>, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("preview 1: bytes that one `fd_allocate` sets aside", size(ALLOCATED_BYTES_MAX as usize));
    }
}
