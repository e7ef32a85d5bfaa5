//! What is known of a file, and its times.

use std::fs::File as HostFile;
use std::io;
use std::time::Duration;

use cap_primitives::fs::{FileTypeExt as _, Metadata, MetadataExt as _};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};

use crate::memory::Memory;
use crate::preview1::errno::{Errno, Failure};

/// What kind of thing something is, with preview 1's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FileType {
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SymbolicLink = 7,
}

impl FileType {
    fn of(ty: cap_primitives::fs::FileType) -> Self {
        match ty {
            _ if ty.is_dir() => Self::Directory,
            _ if ty.is_file() => Self::RegularFile,
            _ if ty.is_symlink() => Self::SymbolicLink,
            _ if ty.is_block_device() => Self::BlockDevice,
            _ if ty.is_char_device() => Self::CharacterDevice,
            _ => Self::Unknown,
        }
    }

    pub(super) fn of_entry(ty: rustix::fs::FileType) -> Self {
        use rustix::fs::FileType as System;
        match ty {
            System::Directory => Self::Directory,
            System::RegularFile => Self::RegularFile,
            System::Symlink => Self::SymbolicLink,
            System::BlockDevice => Self::BlockDevice,
            System::CharacterDevice => Self::CharacterDevice,
            _ => Self::Unknown,
        }
    }
}

/// What programs are told of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileStat {
    device: u64,
    inode: u64,
    pub(super) ty: FileType,
    links: u64,
    pub(super) size: u64,
    accessed_ns: u64,
    modified_ns: u64,
    changed_ns: u64,
}

impl FileStat {
    /// What there is to say of a stream.
    pub(super) fn of_stream(ty: FileType) -> Self {
        Self { device: 0, inode: 0, ty, links: 0, size: 0, accessed_ns: 0, modified_ns: 0, changed_ns: 0 }
    }

    pub(super) fn of_file(file: &HostFile) -> io::Result<Self> {
        Metadata::from_file(file).map(|metadata| Self::of(&metadata))
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        // Times before 1970 have no number here.
        let ns = |seconds: i64, ns: i64| {
            let seconds_ns = u64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
            seconds_ns.zip(u64::try_from(ns).ok()).and_then(|(a, b)| a.checked_add(b)).unwrap_or(0)
        };
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            ty: FileType::of(metadata.file_type()),
            links: metadata.nlink(),
            size: metadata.len(),
            accessed_ns: ns(metadata.atime(), metadata.atime_nsec()),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) fn write(&self, memory: &mut Memory<'_>, to: u32) -> Result<(), Failure> {
        let mut bytes = [0; 64];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0, self.device);
        put(8, self.inode);
        put(16, u64::from(self.ty as u8));
        put(24, self.links);
        put(32, self.size);
        put(40, self.accessed_ns);
        put(48, self.modified_ns);
        put(56, self.changed_ns);
        Ok(memory.write(to, &bytes)?)
    }
}

/// What becomes of one time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewTime {
    Kept,
    Now,
    /// Since 1970.
    At(Duration),
}

/// What becomes of the times of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewTimes {
    pub(super) accessed: NewTime,
    pub(super) modified: NewTime,
}

impl NewTimes {
    pub(super) fn of(accessed_ns: u64, modified_ns: u64, flags: u32) -> Result<Self, Failure> {
        if flags >> 4 != 0 {
            return Err(Errno::Inval.into());
        }
        let time = |ns, given: u32, now: u32| match (flags & given != 0, flags & now != 0) {
            (true, true) => Err(Errno::Inval),
            (true, false) => Ok(NewTime::At(Duration::from_nanos(ns))),
            (false, true) => Ok(NewTime::Now),
            (false, false) => Ok(NewTime::Kept),
        };
        Ok(Self { accessed: time(accessed_ns, 1, 2)?, modified: time(modified_ns, 4, 8)? })
    }

    pub(super) fn set(self, file: &HostFile) -> io::Result<()> {
        let time = |time: NewTime| match time {
            NewTime::Kept => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            NewTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            NewTime::At(since) => Timespec { tv_sec: since.as_secs().cast_signed(), tv_nsec: i64::from(since.subsec_nanos()) },
        };
        let times = Timestamps { last_access: time(self.accessed), last_modification: time(self.modified) };
        Ok(futimens(file, &times)?)
    }
}
