//! What a function answers.

use std::io;

use crate::memory::OutOfBounds;

/// WASI preview 1's error numbers, as many as are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Errno {
    Acces = 2,
    Again = 6,
    Badf = 8,
    Busy = 10,
    Dquot = 19,
    Exist = 20,
    Fault = 21,
    Fbig = 22,
    Ilseq = 25,
    Intr = 27,
    Inval = 28,
    Io = 29,
    Isdir = 31,
    Loop = 32,
    Mfile = 33,
    Mlink = 34,
    Nametoolong = 37,
    Nfile = 41,
    Nodev = 43,
    Noent = 44,
    Nomem = 48,
    Nospc = 51,
    Notdir = 54,
    Notempty = 55,
    Notsock = 57,
    Notsup = 58,
    Nxio = 60,
    Overflow = 61,
    Perm = 63,
    Pipe = 64,
    Rofs = 69,
    Spipe = 70,
    Stale = 72,
    Txtbsy = 74,
    Xdev = 75,
    Notcapable = 76,
}

/// Why a function does not do what it was asked for.
#[derive(Debug)]
pub(super) enum Failure {
    /// The program is told, and goes on.
    Errno(Errno),
    /// The program ends.
    Trap(wasmtime::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<OutOfBounds> for Failure {
    fn from(_: OutOfBounds) -> Self {
        Self::Errno(Errno::Fault)
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Errno(Errno::of(&error))
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Errno(Errno::of_system(errno))
    }
}

impl Errno {
    /// The number for what the system or a path's check said.
    pub(super) fn of(error: &io::Error) -> Self {
        match rustix::io::Errno::from_io_error(error) {
            Some(errno) => Self::of_system(errno),
            None => match error.kind() {
                // A path that leads out of its directory.
                io::ErrorKind::PermissionDenied => Self::Perm,
                io::ErrorKind::NotFound => Self::Noent,
                io::ErrorKind::InvalidInput => Self::Inval,
                io::ErrorKind::InvalidData => Self::Ilseq,
                io::ErrorKind::AlreadyExists => Self::Exist,
                io::ErrorKind::NotADirectory => Self::Notdir,
                io::ErrorKind::IsADirectory => Self::Isdir,
                io::ErrorKind::Unsupported => Self::Notsup,
                _ => Self::Io,
            },
        }
    }

    fn of_system(errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno as System;
        match errno {
            System::ACCESS => Self::Acces,
            System::AGAIN => Self::Again,
            System::BADF => Self::Badf,
            System::BUSY => Self::Busy,
            System::DQUOT => Self::Dquot,
            System::EXIST => Self::Exist,
            System::FBIG => Self::Fbig,
            System::ILSEQ => Self::Ilseq,
            System::INTR => Self::Intr,
            System::INVAL => Self::Inval,
            System::ISDIR => Self::Isdir,
            System::LOOP => Self::Loop,
            System::MFILE | System::NFILE => Self::Nfile,
            System::MLINK => Self::Mlink,
            System::NAMETOOLONG => Self::Nametoolong,
            System::NODEV => Self::Nodev,
            System::NOENT => Self::Noent,
            System::NOMEM => Self::Nomem,
            System::NOSPC => Self::Nospc,
            System::NOTDIR => Self::Notdir,
            System::NOTEMPTY => Self::Notempty,
            System::NOTSUP | System::NOSYS => Self::Notsup,
            System::NXIO => Self::Nxio,
            System::OVERFLOW => Self::Overflow,
            System::PERM => Self::Perm,
            System::PIPE => Self::Pipe,
            System::ROFS => Self::Rofs,
            System::SPIPE => Self::Spipe,
            System::STALE => Self::Stale,
            System::TXTBSY => Self::Txtbsy,
            System::XDEV => Self::Xdev,
            _ => Self::Io,
        }
    }
}

/// What the program gets: 0 or an error number.
pub(super) fn answer(result: Result<(), Failure>) -> wasmtime::Result<u32> {
    match result {
        Ok(()) => Ok(0),
        Err(Failure::Errno(errno)) => Ok(errno as u32),
        Err(Failure::Trap(error)) => Err(error),
    }
}
