//! Standard streams: buffers, log lines, or this process's own.
//!
//! This process's own may block for as long as whoever is at the other end likes. They are read and written on threads of their
//! own, not on those for files: a program that is ended while somebody holds its pipe must not hold up the end of this process.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::{Buf as _, Bytes};
use tokio::sync::oneshot;
use wasmtime_wasi::cli::StdinStream as _;
use wasmtime_wasi::p2::{InputStream, StreamError};

use crate::logs::{LogStream, LogWriter, WRITE_BYTES};
use crate::preview1::errno::{Errno, Failure};
use crate::preview1::rights::Rights;
use crate::preview1::stat::FileType;
use crate::preview1::table::{Descriptor, Flags, Kind};
use crate::preview1::vectors::MOVED_BYTES_MAX;
use crate::program::{Capture, Stdin, Stdout};
use crate::state::Active;

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
pub(super) fn descriptors(stdin: Stdin, stdout: Stdout, active: &Arc<Active>) -> [Descriptor; 3] {
    let log = |stream| Output::Log(LogStream::new(active, stream).writer());
    let stdin = match stdin {
        Stdin::Bytes(bytes) => Input::Bytes(bytes),
        Stdin::Inherited => Input::Inherited(Reader { stream: None }),
    };
    let (stdout, stderr) = match stdout {
        Stdout::Log => (log("stdout"), log("stderr")),
        Stdout::Captured(capture) => (Output::Captured(capture), log("stderr")),
        Stdout::Inherited => (Output::Inherited(Writer::new(Standard::Output)), Output::Inherited(Writer::new(Standard::Error))),
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
            Self::Inherited(_) if io::stdin().is_terminal() => FileType::CharacterDevice,
            Self::Bytes(_) | Self::Inherited(_) => FileType::Unknown,
        }
    }
}

impl Output {
    pub(super) fn file_type(&self) -> FileType {
        match self {
            Self::Inherited(writer) if writer.standard.is_terminal() => FileType::CharacterDevice,
            Self::Log(_) | Self::Captured(_) | Self::Inherited(_) => FileType::Unknown,
        }
    }

    /// How many bytes one call may write. Each byte of a log may be a line, and lines are written without looking at the clock.
    pub(super) fn bytes_max(&self) -> usize {
        match self {
            Self::Log(_) => WRITE_BYTES,
            Self::Captured(_) | Self::Inherited(_) => MOVED_BYTES_MAX,
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

/// One of this process's own streams.
#[derive(Clone, Copy, Debug)]
enum Standard {
    Output,
    Error,
}

impl Standard {
    fn is_terminal(self) -> bool {
        match self {
            Self::Output => io::stdout().is_terminal(),
            Self::Error => io::stderr().is_terminal(),
        }
    }

    fn write(self, bytes: &[u8]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| match self {
            Self::Output => rustix::io::write(io::stdout(), bytes),
            Self::Error => rustix::io::write(io::stderr(), bytes),
        })
    }
}

/// Writes to one of this process's own streams, unbuffered.
pub(super) struct Writer {
    standard: Standard,
    /// The thread that writes, once there was something to write. It ends with this.
    thread: Option<mpsc::Sender<Written>>,
}

/// Bytes to write, and who waits for what became of them.
struct Written {
    bytes: Vec<u8>,
    result: oneshot::Sender<rustix::io::Result<usize>>,
}

impl Writer {
    fn new(standard: Standard) -> Self {
        Self { standard, thread: None }
    }

    /// Writes some of the bytes; returns how many.
    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<usize, Failure> {
        let (result, written) = oneshot::channel();
        let lost = |_| Failure::Errno(Errno::Io);
        self.thread()?.send(Written { bytes, result }).map_err(|_| Errno::Io)?;
        Ok(written.await.map_err(lost)??)
    }

    fn thread(&mut self) -> Result<&mpsc::Sender<Written>, Failure> {
        if self.thread.is_none() {
            let (sender, jobs) = mpsc::channel::<Written>();
            let standard = self.standard;
            thread::Builder::new().name("fornax-stdio".into()).spawn(move || {
                for Written { bytes, result } in jobs {
                    // A program that was ended meanwhile does not ask.
                    let _ = result.send(standard.write(&bytes));
                }
            })?;
            self.thread = Some(sender);
        }
        self.thread.as_ref().ok_or(Errno::Io.into())
    }
}
