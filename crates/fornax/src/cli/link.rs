//! Between a supervisor and its worker: one socket, which is the worker's standard input.
//!
//! Descriptors cross it once, with the first byte; no number of one is ever guessed, so nothing here is unsafe. After that each side
//! says single bytes. A supervisor that is gone is an end of file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::journal::{ModuleName, Past, Suspicion};
use base::{Error, Kind};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::orders::Orderer;

/// To a worker: here is all you need.
const HELLO: u8 = b'h';
/// To a worker: it is known that you have started.
const GO: u8 = b'g';
/// To a worker: read the configuration again.
const RELOAD: u8 = b'r';
/// To a worker: end in order.
const DRAIN: u8 = b'd';
/// From a worker: requests are taken.
const STARTED: u8 = b's';
/// From a worker: what the files say is in service.
const RELOADED: u8 = b'R';
/// From a worker: what the files say is wrong, and what was in service stays.
const REFUSED: u8 = b'F';

/// What a worker is given: the listening socket, the journal, what is in service, and what there is to say.
const GIVEN: usize = 4;

/// What an order to stop is worth as an exit code: a worker that was asked to end has ended well.
const ASKED: u8 = 0;

#[derive(Serialize, Deserialize)]
struct Hello {
    /// The data directory, as bytes: paths need not be text.
    data: Vec<u8>,
    /// Whether the files are to be read also where a worker before has left what it served.
    reads_files: bool,
    grace_ms: u64,
    restarts: u64,
    modules: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    tenant: String,
    module: String,
    quarantined: bool,
    alone: bool,
    left_ms: u64,
}

impl Hello {
    fn of(data: &Path, grace: Duration, reads_files: bool, past: &Past) -> Self {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let row = |((tenant, module), suspicion): (&ModuleName, &Suspicion)| {
            let (quarantined, alone, left) = match suspicion {
                Suspicion::Quarantined => (true, false, Duration::ZERO),
                Suspicion::Suspect { alone, left } => (false, *alone, *left),
            };
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            Row { tenant: tenant.to_string(), module: module.to_string(), quarantined, alone, left_ms }
        };
        let data = data.as_os_str().as_encoded_bytes().to_vec();
        Self { data, reads_files, grace_ms, restarts: past.restarts, modules: past.modules.iter().map(row).collect() }
    }

    fn past(self) -> Past {
        let module = |row: Row| {
            let suspicion = match row.quarantined {
                true => Suspicion::Quarantined,
                false => Suspicion::Suspect { alone: row.alone, left: Duration::from_millis(row.left_ms) },
            };
            ((row.tenant.into(), row.module.into()), suspicion)
        };
        Past { restarts: self.restarts, modules: self.modules.into_iter().map(module).collect() }
    }
}

/// A worker, as its supervisor has it. Dropped, it is killed.
pub(super) struct Worker {
    child: Child,
    /// Which modules have calls in flight, also when the worker is gone.
    pub(super) journal: File,
    says: UnixStream,
    /// The same socket. What is as short as all that is said here is written at once, or the other side has heard nothing for long.
    told: Socket,
}

/// What a worker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Started,
    Reloaded,
    Refused,
    /// Nothing any more: it is ending.
    Nothing,
}

impl Worker {
    /// Starts this program again with these arguments, to serve on `listener` with this data directory what is `kept`; or what the
    /// files say, if it `reads_files` and they are right.
    pub(super) fn start(
        args: &[OsString],
        listener: &TcpListener,
        (data, kept, grace): (&Path, &File, Duration),
        reads_files: bool,
        past: &Past,
    ) -> io::Result<Self> {
        let journal = file_in_memory("fornax-journal")?;
        let mut hello = file_in_memory("fornax-hello")?;
        serde_json::to_writer(&mut hello, &Hello::of(data, grace, reads_files, past))?;
        hello.rewind()?;
        let (socket, others) = Socket::pair()?;
        let given = [listener.as_fd(), journal.as_fd(), kept.as_fd(), hello.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&given));
        sendmsg(&socket, &[IoSlice::new(&[HELLO])], &mut control, SendFlags::empty())?;
        socket.set_nonblocking(true)?;
        let told = socket.try_clone()?;
        let says = UnixStream::from_std(socket)?;
        let name = std::env::args_os().next().unwrap_or_else(|| "fornax".into());
        let child = Command::new(super::this_program().ok_or(io::ErrorKind::NotFound)?)
            .arg0(name)
            .args(args)
            .stdin(Stdio::from(OwnedFd::from(others)))
            .spawn()?;
        Ok(Self { child, journal, says, told })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    /// The next thing it says.
    pub(super) async fn says(&mut self) -> Said {
        loop {
            match self.says.read_u8().await.ok().map(Said::of) {
                Some(Some(said)) => return said,
                Some(None) => {}
                None => return Said::Nothing,
            }
        }
    }

    /// What it has said so far and nobody has heard.
    pub(super) fn has_said(&mut self) -> Vec<Said> {
        let mut bytes = Vec::new();
        // It ends with what would have to be waited for, or with the end.
        let _ = self.told.read_to_end(&mut bytes);
        bytes.into_iter().filter_map(Said::of).collect()
    }

    pub(super) fn go(&self) {
        self.tell(GO);
    }

    pub(super) fn reload(&self) {
        self.tell(RELOAD);
    }

    pub(super) fn drain(&self) {
        self.tell(DRAIN);
    }

    /// Ends it, whatever it does.
    pub(super) fn kill(&mut self) {
        // Fails only for one that has ended.
        let _ = self.child.kill();
    }

    /// A worker that hears nothing is ending, which is noticed by itself.
    fn tell(&self, what: u8) {
        let _ = (&self.told).write_all(&[what]);
    }
}

impl Said {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            STARTED => Some(Self::Started),
            RELOADED => Some(Self::Reloaded),
            REFUSED => Some(Self::Refused),
            _ => None,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        // As well.
        let _ = self.child.wait();
    }
}

/// What a worker was handed.
pub(super) struct Inherited {
    pub(super) listener: TcpListener,
    pub(super) journal: File,
    pub(super) past: Past,
    pub(super) data: PathBuf,
    /// What is in service.
    pub(super) kept: File,
    pub(super) reads_files: bool,
    /// How long the supervisor lets calls go on: one for all workers, whatever the files say by now.
    pub(super) grace: Duration,
    socket: Socket,
}

/// A supervisor, as its worker has it.
pub(super) struct Supervisor {
    told: Socket,
    go: Arc<Notify>,
}

impl Supervisor {
    /// Requests are taken from now on. Returns when the supervisor has said so where it has to be said.
    pub(super) async fn started(&self) {
        self.tell(STARTED);
        self.go.notified().await;
    }

    /// The files were read: whether what they say is in service.
    pub(super) fn reloaded(&self, is_in_service: bool) {
        self.tell(if is_in_service { RELOADED } else { REFUSED });
    }

    /// A supervisor that hears nothing is gone, which ends this process.
    fn tell(&self, what: u8) {
        let _ = (&self.told).write_all(&[what]);
    }
}

/// Takes what the supervisor handed over; and from now on this process ends with it, however it ends.
pub(super) fn inherit() -> Result<Inherited, Error> {
    let failed = || Error::new(Kind::Internal, "--worker is for `fornax serve`, which starts its own: leave it out");
    let inherited = (|| {
        end_with_parent()?;
        let socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty())?;
        let given = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(given) => <[OwnedFd; GIVEN]>::try_from(given.collect::<Vec<_>>()).ok(),
            _ => None,
        });
        let [listener, journal, kept, hello] = given.filter(|_| byte == [HELLO]).ok_or(io::ErrorKind::InvalidData)?;
        for given in [&listener, &journal, &kept] {
            // Programs this one may start have no business with them.
            fcntl_setfd(given, FdFlags::CLOEXEC)?;
        }
        let mut hello: Hello = serde_json::from_reader(File::from(hello))?;
        let data = PathBuf::from(OsString::from_vec(std::mem::take(&mut hello.data)));
        let (reads_files, grace, kept) = (hello.reads_files, Duration::from_millis(hello.grace_ms), kept.into());
        let (listener, journal) = (listener.into(), journal.into());
        Ok(Inherited { listener, journal, past: hello.past(), data, kept, reads_files, grace, socket })
    })();
    inherited.map_err(|error: io::Error| failed().caused_by(error))
}

impl Inherited {
    /// From now on the supervisor is heard.
    pub(super) fn listen(&self, orderer: Orderer) -> Result<Supervisor, Error> {
        let failed = |error: io::Error| Error::new(Kind::Internal, "the supervisor cannot be heard").caused_by(error);
        self.socket.set_nonblocking(true).map_err(failed)?;
        let (says, told) = (self.socket.try_clone().map_err(failed)?, self.socket.try_clone().map_err(failed)?);
        let mut says = UnixStream::from_std(says).map_err(failed)?;
        let go = Arc::<Notify>::default();
        let heard = Arc::clone(&go);
        tokio::spawn(async move {
            loop {
                match says.read_u8().await {
                    Ok(GO) => heard.notify_one(),
                    Ok(RELOAD) => orderer.reload(),
                    Ok(DRAIN) => orderer.stop(ASKED),
                    Ok(_) => {}
                    // It died before it could take this process with it.
                    Err(_) => std::process::exit(1),
                }
            }
        });
        Ok(Supervisor { told, go })
    }
}

/// A file that nobody else sees and no disk has.
#[cfg(target_os = "linux")]
pub(super) fn file_in_memory(name: &str) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn file_in_memory(_: &str) -> io::Result<File> {
    tempfile::tempfile()
}

/// The kernel kills this process when the one that started it has ended.
#[cfg(target_os = "linux")]
fn end_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// It is noticed by the end of file.
#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> io::Result<()> {
    Ok(())
}
