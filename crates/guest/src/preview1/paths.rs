//! Functions on paths.
//!
//! Every path begins at a directory the program holds and ends beneath it, which `cap-primitives` and the kernel see to: what
//! is absolute, climbs above, or goes through a link that does, is refused. What is no file, directory or link is never
//! opened: it is looked at before, since opening alone can wake somebody who waits at a pipe, and again afterwards, since it may
//! have been swapped; and it is opened so that nothing waits.

use std::fs::File as HostFile;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cap_fs_ext::{OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_primitives::fs::{self as beneath, DirOptions, FollowSymlinks, Metadata, OpenOptions, SystemTimeSpec};
use wasmtime::Caller;

use crate::memory::Memory;
use crate::preview1::errno::{Errno, Failure};
use crate::preview1::reach;
use crate::preview1::rights::Rights;
use crate::preview1::stat::{FileStat, NewTime, NewTimes};
use crate::preview1::table::{Descriptor, Directory, File, Flags, Handle, Kind};
use crate::preview1::vectors::size;
use crate::state::State;

/// Bytes of a path: as many as Linux takes.
const PATH_BYTES_MAX: u32 = 4096;

/// What a program wants opened.
#[derive(Clone, Copy, Debug)]
struct Request {
    follow: FollowSymlinks,
    create: bool,
    directory: bool,
    exclusive: bool,
    truncate: bool,
    read: bool,
    write: bool,
    flags: Flags,
}

impl Request {
    fn new(lookup: u32, flags: u32, rights: Rights, fdflags: u32) -> Result<Self, Failure> {
        if flags >> 4 != 0 {
            return Err(Errno::Inval.into());
        }
        let write = rights.contains(Rights::FD_WRITE);
        let request = Self {
            follow: follow(lookup)?,
            create: flags & 1 != 0,
            directory: flags & 2 != 0,
            exclusive: flags & 4 != 0,
            truncate: flags & 8 != 0,
            // Who asks for neither means to look.
            read: rights.contains(Rights::FD_READ) || !write,
            write,
            flags: Flags::of(fdflags)?,
        };
        if request.directory && (request.create || request.exclusive || request.truncate) {
            return Err(Errno::Inval.into());
        }
        Ok(request)
    }

    fn changes(&self) -> bool {
        self.create || self.truncate || self.write
    }

    /// What the directory must allow.
    fn needed(&self) -> Rights {
        let mut needed = Rights::PATH_OPEN;
        if self.create {
            needed = needed.or(Rights::PATH_CREATE_FILE);
        }
        if self.truncate {
            needed = needed.or(Rights::PATH_FILESTAT_SET_SIZE);
        }
        needed
    }

    /// What the directory must hand on.
    fn inherited(&self) -> Rights {
        let read = if self.read { Rights::FD_READ } else { Rights::NONE };
        let write = if self.write { Rights::FD_WRITE } else { Rights::NONE };
        read.or(write)
    }

    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(self.read).write(self.changes()).follow(self.follow);
        options.create(self.create && !self.exclusive).create_new(self.create && self.exclusive).truncate(self.truncate);
        options.sync(self.flags.contains(Flags::SYNC));
        options.dsync(self.flags.contains(Flags::DSYNC)).rsync(self.flags.contains(Flags::RSYNC));
        options
    }

    /// Opens it; the second is whether it is a directory.
    fn open(&self, start: &HostFile, path: &Path) -> io::Result<(HostFile, bool)> {
        let (file, metadata) = open_known(start, path, self.options(), self.follow)?;
        if self.directory && !metadata.is_dir() {
            return Err(rustix::io::Errno::NOTDIR.into());
        }
        Ok((file, metadata.is_dir()))
    }
}

/// Opens a file or a directory and nothing else.
fn open_known(
    start: &HostFile,
    path: &Path,
    mut options: OpenOptions,
    follow: FollowSymlinks,
) -> io::Result<(HostFile, Metadata)> {
    // What is not there, or not to be seen, is for the opening to say.
    if let Ok(metadata) = beneath::stat(start, path, follow) {
        demand_known(&metadata, true)?;
    }
    let file = beneath::open(start, path, options.nonblock(true))?;
    let metadata = Metadata::from_file(&file)?;
    demand_known(&metadata, false)?;
    Ok((file, metadata))
}

fn demand_known(metadata: &Metadata, or_link: bool) -> io::Result<()> {
    let known = metadata.is_file() || metadata.is_dir() || (or_link && metadata.is_symlink());
    if known { Ok(()) } else { Err(rustix::io::Errno::ACCESS.into()) }
}

#[expect(clippy::too_many_arguments, reason = "as many as preview 1 has")]
pub(super) async fn open(
    caller: &mut Caller<'_, State>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    flags: u32,
    rights: u64,
    _inheriting: u64,
    fdflags: u32,
    to: u32,
) -> Result<(), Failure> {
    let request = Request::new(lookup, flags, Rights(rights), fdflags)?;
    let (mut memory, state) = reach(caller)?;
    let path = read_path(&memory, path, len)?;
    memory.bytes(to, 4)?;
    let place = state.active().core.places.take().ok_or(Errno::Nfile)?;
    let table = &mut state.core().preview1.table;
    table.demand_room()?;
    let handle = Arc::clone(&table.directory(fd, request.needed())?.handle);
    let inheriting = table.get(fd)?.inheriting;
    if request.changes() {
        handle.demand_writable()?;
    }
    inheriting.demand(request.inherited())?;
    let (parent, steps) = (Arc::clone(&handle), handle.steps());
    let (file, is_directory) = steps.run(move || request.open(parent.file(), &path)).await?;
    let handle = Arc::new(handle.inner(file, place));
    let descriptor = if is_directory {
        let kind = Kind::Directory(Directory { handle, preopened: None, listing: None });
        Descriptor { kind, rights: Rights::DIRECTORY.and(inheriting), inheriting, flags: request.flags }
    } else {
        let mut rights = Rights::FILE.and(inheriting);
        if !request.read {
            rights = rights.without(Rights::FD_READ);
        }
        if !request.write {
            rights = rights.without(Rights::WRITING);
        }
        let kind = Kind::File(File { handle, position: 0, readable: request.read, writable: request.write });
        Descriptor { kind, rights, inheriting: Rights::NONE, flags: request.flags }
    };
    Ok(memory.write_u32(to, table.insert(descriptor)?)?)
}

/// Whether the last part of a path is followed if it is a link.
fn follow(lookup: u32) -> Result<FollowSymlinks, Failure> {
    match lookup {
        0 => Ok(FollowSymlinks::No),
        1 => Ok(FollowSymlinks::Yes),
        _ => Err(Errno::Inval.into()),
    }
}

fn read_path(memory: &Memory<'_>, at: u32, len: u32) -> Result<PathBuf, Failure> {
    let bytes = memory.bytes(at, len)?;
    if len > PATH_BYTES_MAX {
        return Err(Errno::Nametoolong.into());
    }
    let path = std::str::from_utf8(bytes).map_err(|_| Errno::Ilseq)?;
    if path.contains('\0') { Err(Errno::Inval.into()) } else { Ok(path.into()) }
}

/// The directory `fd`, which may be used for `needed`, and a path in it.
fn located(
    memory: &Memory<'_>,
    state: &mut State,
    fd: u32,
    needed: Rights,
    (at, len): (u32, u32),
) -> Result<(Arc<Handle>, PathBuf), Failure> {
    let handle = Arc::clone(&state.core().preview1.table.directory(fd, needed)?.handle);
    Ok((handle, read_path(memory, at, len)?))
}

/// The same for one that is to be changed.
fn located_to_change(
    caller: &mut Caller<'_, State>,
    fd: u32,
    needed: Rights,
    path: (u32, u32),
) -> Result<(Arc<Handle>, PathBuf), Failure> {
    let (memory, state) = reach(caller)?;
    let (handle, path) = located(&memory, state, fd, needed, path)?;
    handle.demand_writable()?;
    Ok((handle, path))
}

pub(super) async fn create_directory(caller: &mut Caller<'_, State>, fd: u32, path: u32, len: u32) -> Result<(), Failure> {
    let (handle, path) = located_to_change(caller, fd, Rights::PATH_CREATE_DIRECTORY, (path, len))?;
    handle.steps().run(move || beneath::create_dir(handle.file(), &path, &DirOptions::new())).await
}

pub(super) async fn remove_directory(caller: &mut Caller<'_, State>, fd: u32, path: u32, len: u32) -> Result<(), Failure> {
    let (handle, path) = located_to_change(caller, fd, Rights::PATH_REMOVE_DIRECTORY, (path, len))?;
    handle.steps().run(move || beneath::remove_dir(handle.file(), &path)).await
}

pub(super) async fn unlink_file(caller: &mut Caller<'_, State>, fd: u32, path: u32, len: u32) -> Result<(), Failure> {
    let (handle, path) = located_to_change(caller, fd, Rights::PATH_UNLINK_FILE, (path, len))?;
    handle.steps().run(move || beneath::remove_file(handle.file(), &path)).await
}

pub(super) async fn filestat(
    caller: &mut Caller<'_, State>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    to: u32,
) -> Result<(), Failure> {
    let follow = follow(lookup)?;
    let (mut memory, state) = reach(caller)?;
    let (handle, path) = located(&memory, state, fd, Rights::PATH_FILESTAT_GET, (path, len))?;
    let metadata = handle.steps().run(move || beneath::stat(handle.file(), &path, follow)).await?;
    FileStat::of(&metadata).write(&mut memory, to)
}

#[expect(clippy::too_many_arguments, reason = "as many as preview 1 has")]
pub(super) async fn set_times(
    caller: &mut Caller<'_, State>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Result<(), Failure> {
    let follow = follow(lookup)?;
    let times = NewTimes::of(accessed, modified, flags)?;
    let (handle, path) = located_to_change(caller, fd, Rights::PATH_FILESTAT_SET_TIMES, (path, len))?;
    handle
        .steps()
        .run(move || match follow {
            FollowSymlinks::Yes => times.set(&open_for_times(handle.file(), &path)?),
            FollowSymlinks::No => {
                beneath::set_times_nofollow(handle.file(), &path, new_time(times.accessed), new_time(times.modified))
            }
        })
        .await
}

/// Opens something to change its times, in whichever way it can be opened.
fn open_for_times(start: &HostFile, path: &Path) -> io::Result<HostFile> {
    let open = |options: &mut OpenOptions| open_known(start, path, options.clone(), FollowSymlinks::Yes);
    let opened = match open(OpenOptions::new().read(true)) {
        Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::ACCESS) => {
            open(OpenOptions::new().write(true))
        }
        opened => opened,
    };
    opened.map(|(file, _)| file)
}

fn new_time(time: NewTime) -> Option<SystemTimeSpec> {
    match time {
        NewTime::Kept => None,
        NewTime::Now => Some(SystemTimeSpec::SymbolicNow),
        NewTime::At(since) => {
            Some(SystemTimeSpec::Absolute(cap_primitives::time::SystemTime::from_std(SystemTime::UNIX_EPOCH + since)))
        }
    }
}

pub(super) async fn readlink(
    caller: &mut Caller<'_, State>,
    fd: u32,
    path: u32,
    len: u32,
    buffer: u32,
    room: u32,
    to: u32,
) -> Result<(), Failure> {
    let (mut memory, state) = reach(caller)?;
    let (handle, path) = located(&memory, state, fd, Rights::PATH_READLINK, (path, len))?;
    memory.bytes(buffer, room)?;
    let target = handle.steps().run(move || beneath::read_link(handle.file(), &path)).await?;
    let target = target.to_str().ok_or(Errno::Ilseq)?.as_bytes();
    let given = &target[..target.len().min(room as usize)];
    memory.write(buffer, given)?;
    Ok(memory.write_u32(to, size(given.len())?)?)
}

pub(super) async fn symlink(
    caller: &mut Caller<'_, State>,
    target: u32,
    target_len: u32,
    fd: u32,
    path: u32,
    len: u32,
) -> Result<(), Failure> {
    let target = read_path(&reach(caller)?.0, target, target_len)?;
    let (handle, path) = located_to_change(caller, fd, Rights::PATH_SYMLINK, (path, len))?;
    handle.steps().run(move || beneath::symlink(&target, handle.file(), &path)).await
}

#[expect(clippy::too_many_arguments, reason = "as many as preview 1 has")]
pub(super) async fn link(
    caller: &mut Caller<'_, State>,
    from: u32,
    lookup: u32,
    old: u32,
    old_len: u32,
    to: u32,
    new: u32,
    new_len: u32,
) -> Result<(), Failure> {
    // A link to a link is made as it is; what it leads to may lie elsewhere by the time it is linked.
    if follow(lookup)? == FollowSymlinks::Yes {
        return Err(Errno::Inval.into());
    }
    let (from, old) = located_to_change(caller, from, Rights::PATH_LINK_SOURCE, (old, old_len))?;
    let (to, new) = located_to_change(caller, to, Rights::PATH_LINK_TARGET, (new, new_len))?;
    from.steps().run(move || beneath::hard_link(from.file(), &old, to.file(), &new)).await
}

pub(super) async fn rename(
    caller: &mut Caller<'_, State>,
    from: u32,
    old: u32,
    old_len: u32,
    to: u32,
    new: u32,
    new_len: u32,
) -> Result<(), Failure> {
    let (from, mut old) = located_to_change(caller, from, Rights::PATH_RENAME_SOURCE, (old, old_len))?;
    let (to, new) = located_to_change(caller, to, Rights::PATH_RENAME_TARGET, (new, new_len))?;
    // Only a directory can become what ends in a slash.
    if new.as_os_str().as_encoded_bytes().ends_with(b"/") {
        old.push("");
    }
    from.steps().run(move || beneath::rename(from.file(), &old, to.file(), &new)).await
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, number};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("preview 1: a path", format!("{} bytes", number(PATH_BYTES_MAX as usize)));
    }
}
