//! The descriptors of one program.

use std::fs::File as HostFile;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use base::{Error, Kind as ErrorKind};
use rustix::process::{Resource, getrlimit};

use crate::preview1::errno::{Errno, Failure};
use crate::preview1::readdir::Listing;
use crate::preview1::rights::Rights;
use crate::preview1::stdio::{Input, Output};
use crate::preview1::work::Steps;
use crate::runtime::Directory as Granted;

/// Flags of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(pub(super) u16);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    pub(super) const APPEND: Self = Self(1);
    pub(super) const DSYNC: Self = Self(1 << 1);
    pub(super) const NONBLOCK: Self = Self(1 << 2);
    pub(super) const RSYNC: Self = Self(1 << 3);
    pub(super) const SYNC: Self = Self(1 << 4);

    /// The flags in a program's number.
    pub(super) fn of(number: u32) -> Result<Self, Failure> {
        u16::try_from(number).ok().filter(|bits| bits >> 5 == 0).map(Self).ok_or(Errno::Inval.into())
    }

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Something a program has open.
pub(super) struct Descriptor {
    pub(super) kind: Kind,
    /// What may be done with it.
    pub(super) rights: Rights,
    /// What may at most be done with what is opened in it.
    pub(super) inheriting: Rights,
    pub(super) flags: Flags,
}

/// What is open.
pub(super) enum Kind {
    Input(Input),
    Output(Output),
    Directory(Directory),
    File(File),
}

/// An open directory.
pub(super) struct Directory {
    pub(super) handle: Arc<Handle>,
    /// Its name, if it was there from the start.
    pub(super) preopened: Option<Arc<str>>,
    /// Where reading it has come to.
    pub(super) listing: Option<Box<Listing>>,
}

/// An open file. Its position is ours, not the system's.
pub(super) struct File {
    pub(super) handle: Arc<Handle>,
    pub(super) position: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// The system's descriptor behind a file or a directory.
#[derive(Debug)]
pub(crate) struct Handle {
    /// None only while it is dropped.
    open: Option<(HostFile, Option<Place>)>,
    /// Whether it lies in a directory that was granted for writing.
    pub(super) writable: bool,
    /// Who does what waits for the disk.
    steps: Steps,
}

impl Handle {
    /// What was opened in this directory.
    pub(super) fn inner(&self, file: HostFile, place: Place) -> Self {
        Self { open: Some((file, Some(place))), writable: self.writable, steps: self.steps.clone() }
    }

    /// Its tenant's turns to wait for the disk.
    pub(super) fn steps(&self) -> Steps {
        self.steps.clone()
    }

    pub(super) fn file(&self) -> &HostFile {
        &self.open.as_ref().expect("it is taken only when dropped").0
    }

    /// An error unless what it leads to may be changed.
    pub(super) fn demand_writable(&self) -> Result<(), Failure> {
        if self.writable { Ok(()) } else { Err(Errno::Perm.into()) }
    }
}

impl Drop for Handle {
    /// Closing a file that was written may write it out, and that waits for the disk.
    fn drop(&mut self) {
        let Some(open) = self.open.take().filter(|_| self.writable) else { return };
        self.steps.clone().drop_later(open);
    }
}

/// How many files and directories all programs of a runtime have open.
#[derive(Debug)]
pub(crate) struct Places {
    used: AtomicUsize,
    max: usize,
}

impl Places {
    /// Half of what this process may have open: the other half is for connections.
    pub(crate) fn new() -> Arc<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Arc::new(Self { used: AtomicUsize::new(0), max: usize::try_from(limit / 2).unwrap_or(usize::MAX) })
    }

    /// The permission, if there is one left.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let more = |used| (used < self.max).then_some(used + 1);
        self.used.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Place(Arc::clone(self)))
    }
}

/// The permission to have one file open.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
    }
}

/// A directory that a module was granted, opened when it was published: calls do not open it again, and one that is replaced
/// on the disk is followed by the next version.
#[derive(Clone, Debug)]
pub(crate) struct Preopen {
    name: Arc<str>,
    handle: Arc<Handle>,
}

/// Opens what a module is granted.
pub(crate) fn open_granted(directories: &[Granted], steps: &Steps) -> Result<Vec<Preopen>, Error> {
    let open = |granted: &Granted| {
        let file = open_directory(&granted.host).map_err(|error| {
            Error::new(ErrorKind::Unprocessable, format!("the directory for `{}` cannot be opened: {error}", granted.guest))
                .internal(granted.host.display().to_string())
        })?;
        let handle = Handle { open: Some((file, None)), writable: granted.writable, steps: steps.clone() };
        Ok(Preopen { name: granted.guest.as_str().into(), handle: Arc::new(handle) })
    };
    directories.iter().map(open).collect()
}

fn open_directory(path: &PathBuf) -> io::Result<HostFile> {
    let file = HostFile::open(path)?;
    if file.metadata()?.is_dir() { Ok(file) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// The table: numbers are positions in it.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Descriptor>>,
    max: u32,
}

impl Table {
    /// The standard streams as 0, 1 and 2, then the granted directories; at most `max` in all.
    pub(super) fn new(streams: [Descriptor; 3], granted: &[Preopen], max: u32) -> Self {
        let mut slots = Vec::with_capacity(streams.len() + granted.len());
        slots.extend(streams.map(Some));
        slots.extend(granted.iter().map(|preopen| {
            let directory =
                Directory { handle: Arc::clone(&preopen.handle), preopened: Some(Arc::clone(&preopen.name)), listing: None };
            Some(Descriptor {
                kind: Kind::Directory(directory),
                rights: Rights::DIRECTORY,
                inheriting: Rights::INHERITING,
                flags: Flags::NONE,
            })
        }));
        Self { slots, max }
    }

    pub(super) fn get(&mut self, fd: u32) -> Result<&mut Descriptor, Failure> {
        self.slots.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::Badf.into())
    }

    /// An open file.
    pub(super) fn file(&mut self, fd: u32) -> Result<(&mut File, Rights), Failure> {
        match self.get(fd)? {
            Descriptor { kind: Kind::File(file), rights, .. } => Ok((file, *rights)),
            _ => Err(Errno::Badf.into()),
        }
    }

    /// An open directory that may be used for `needed`.
    pub(super) fn directory(&mut self, fd: u32, needed: Rights) -> Result<&mut Directory, Failure> {
        match self.get(fd)? {
            Descriptor { kind: Kind::Directory(directory), rights, .. } => {
                rights.demand(needed)?;
                Ok(directory)
            }
            Descriptor { kind: Kind::File(_), .. } => Err(Errno::Notdir.into()),
            _ => Err(Errno::Badf.into()),
        }
    }

    /// An error if there is room for none more.
    pub(super) fn demand_room(&self) -> Result<(), Failure> {
        let used = self.slots.iter().flatten().count();
        if used < self.max as usize { Ok(()) } else { Err(Errno::Mfile.into()) }
    }

    /// Takes a descriptor in, under the lowest number that is free.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Failure> {
        self.demand_room()?;
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(descriptor);
        u32::try_from(free).map_err(|_| Errno::Mfile.into())
    }

    pub(super) fn close(&mut self, fd: u32) -> Result<(), Failure> {
        let slot = self.slots.get_mut(fd as usize).filter(|slot| slot.is_some()).ok_or(Errno::Badf)?;
        *slot = None;
        Ok(())
    }

    /// Closes `to` and gives its number to `from`. Both must be open.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Failure> {
        self.get(from)?;
        self.get(to)?;
        if from != to {
            self.slots[to as usize] = self.slots[from as usize].take();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno<T>(result: Result<T, Failure>) -> Option<Errno> {
        match result {
            Err(Failure::Errno(errno)) => Some(errno),
            _ => None,
        }
    }

    #[test]
    fn programs_together_have_no_more_open_than_there_are_places() {
        let places = Arc::new(Places { used: AtomicUsize::new(0), max: 2 });
        let first = places.take().expect("room");
        let second = places.take().expect("room");
        assert!(places.take().is_none());
        drop(first);
        let third = places.take().expect("room again");
        assert!(places.take().is_none());
        drop((second, third));
        assert_eq!(places.used.load(Relaxed), 0);
    }

    #[test]
    fn numbers_are_the_lowest_that_are_free_up_to_the_quota() {
        let descriptor = || Descriptor {
            kind: Kind::Input(Input::Bytes(bytes::Bytes::new())),
            rights: Rights::NONE,
            inheriting: Rights::NONE,
            flags: Flags::NONE,
        };
        let mut table = Table::new([descriptor(), descriptor(), descriptor()], &[], 64);
        for number in 3..64 {
            assert_eq!(table.insert(descriptor()).ok(), Some(number));
        }
        assert_eq!(errno(table.insert(descriptor())), Some(Errno::Mfile));
        table.close(40).expect("it is open");
        table.close(7).expect("it is open");
        assert_eq!(errno(table.close(7)), Some(Errno::Badf));
        assert_eq!(table.insert(descriptor()).ok(), Some(7));
        table.renumber(63, 0).expect("both are open");
        assert_eq!(errno(table.get(63).map(|_| ())), Some(Errno::Badf));
        assert_eq!(table.insert(descriptor()).ok(), Some(40));
        assert_eq!(table.insert(descriptor()).ok(), Some(63));
        assert_eq!(errno(table.renumber(3, 64)), Some(Errno::Badf));
        assert_eq!(errno(table.renumber(u32::MAX, 3)), Some(Errno::Badf));
    }
}
