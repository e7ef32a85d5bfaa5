//! Standard streams: buffers, log lines, or this process's own.
//!
//! This process's own are read by wasmtime's thread for that, and written by [`terminal`](crate::terminal)'s.

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use wasmtime_wasi::cli::{IsTerminal as _, StdinStream as _};
use wasmtime_wasi::p2::{InputStream, StreamError};

use crate::instance::Equipment;
use crate::logs::{LogStream, LogWriter};
use crate::preview1::errno::{Errno, Failure};
use crate::preview1::rights::Rights;
use crate::preview1::stat::FileType;
use crate::preview1::table::{Descriptor, Flags, Kind};
use crate::program::{Capture, Stdin, Stdout};
use crate::state::Serving;
use crate::terminal::Writer;

/// Where a program reads.
pub(super) enum Input {
    Bytes(Bytes),
    Inherited(Reader),
}

/// Where a program writes.
pub(super) enum Output {
    Log(LogWriter),
    Captured(Capture),
    Inherited(Writer),
}

/// The descriptors 0, 1 and 2.
pub(super) fn descriptors(stdin: Stdin, stdout: Stdout, equipment: &Arc<Equipment>, serving: &Serving) -> [Descriptor; 3] {
    let log = |stream| Output::Log(LogStream::new(equipment, serving, stream).writer());
    let stdin = match stdin {
        Stdin::Bytes(bytes) => Input::Bytes(bytes),
        Stdin::Inherited => Input::Inherited(Reader { stream: None }),
    };
    let (stdout, stderr) = match stdout {
        Stdout::Log => (log("stdout"), log("stderr")),
        Stdout::Captured(capture) => (Output::Captured(capture), log("stderr")),
        Stdout::Inherited { out, err } => (Output::Inherited(out), Output::Inherited(err)),
    };
    let stream = |kind, right: Rights| {
        let rights = Rights::STREAM.or(right);
        Descriptor { kind, rights, inheriting: rights, flags: Flags::NONE }
    };
    [
        stream(Kind::Input(stdin), Rights::FD_READ),
        stream(Kind::Output(stdout), Rights::FD_WRITE),
        stream(Kind::Output(stderr), Rights::FD_WRITE),
    ]
}

impl Input {
    pub(super) fn file_type(&self) -> FileType {
        match self {
            Self::Inherited(_) if io::IsTerminal::is_terminal(&io::stdin()) => FileType::CharacterDevice,
            Self::Bytes(_) | Self::Inherited(_) => FileType::Unknown,
        }
    }
}

impl Output {
    pub(super) fn file_type(&self) -> FileType {
        match self {
            Self::Inherited(writer) if writer.is_terminal() => FileType::CharacterDevice,
            Self::Log(_) | Self::Captured(_) | Self::Inherited(_) => FileType::Unknown,
        }
    }
}

/// Takes from what is left of a buffer.
pub(super) fn take(bytes: &mut Bytes, to: &mut [u8]) -> usize {
    let len = bytes.remaining().min(to.len());
    bytes.copy_to_slice(&mut to[..len]);
    len
}

/// This process's standard input.
pub(super) struct Reader {
    /// Made when it is first asked for: that begins to read.
    stream: Option<Box<dyn InputStream>>,
}

impl Reader {
    fn stream(&mut self) -> &mut dyn InputStream {
        &mut **self.stream.get_or_insert_with(|| wasmtime_wasi::cli::stdin().p2_stream())
    }

    /// Returns when there is something to read, or its end.
    pub(super) async fn ready(&mut self) {
        self.stream().ready().await;
    }

    /// Reads up to `len` bytes; none at the end. Where it shall not wait and there is nothing, that is an error.
    pub(super) async fn read(&mut self, len: usize, waits: bool) -> Result<Bytes, Failure> {
        loop {
            match self.stream().read(len) {
                Ok(bytes) if bytes.is_empty() && waits => self.ready().await,
                Ok(bytes) if bytes.is_empty() => return Err(Errno::Again.into()),
                Ok(bytes) => return Ok(bytes),
                Err(StreamError::Closed) => return Ok(Bytes::new()),
                Err(StreamError::LastOperationFailed(_)) => return Err(Errno::Io.into()),
                Err(StreamError::Trap(error)) => return Err(Failure::Trap(error)),
            }
        }
    }
}
