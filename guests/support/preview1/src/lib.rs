//! Preview 1 as it is, for programs that test it: every function by its own name, every error by its number's name, and a line
//! on standard output for each thing that was tried. The standard library hides what a host really answered.

pub mod raw;

use raw::Iovec;

/// What a function answered when it was not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// A function's answer.
pub type Answer<T = ()> = Result<T, Errno>;

/// Names of the error numbers, from 0 on.
const NAMES: [&str; 77] = [
    "SUCCESS",
    "2BIG",
    "ACCES",
    "ADDRINUSE",
    "ADDRNOTAVAIL",
    "AFNOSUPPORT",
    "AGAIN",
    "ALREADY",
    "BADF",
    "BADMSG",
    "BUSY",
    "CANCELED",
    "CHILD",
    "CONNABORTED",
    "CONNREFUSED",
    "CONNRESET",
    "DEADLK",
    "DESTADDRREQ",
    "DOM",
    "DQUOT",
    "EXIST",
    "FAULT",
    "FBIG",
    "HOSTUNREACH",
    "IDRM",
    "ILSEQ",
    "INPROGRESS",
    "INTR",
    "INVAL",
    "IO",
    "ISCONN",
    "ISDIR",
    "LOOP",
    "MFILE",
    "MLINK",
    "MSGSIZE",
    "MULTIHOP",
    "NAMETOOLONG",
    "NETDOWN",
    "NETRESET",
    "NETUNREACH",
    "NFILE",
    "NOBUFS",
    "NODEV",
    "NOENT",
    "NOEXEC",
    "NOLCK",
    "NOLINK",
    "NOMEM",
    "NOMSG",
    "NOPROTOOPT",
    "NOSPC",
    "NOSYS",
    "NOTCONN",
    "NOTDIR",
    "NOTEMPTY",
    "NOTRECOVERABLE",
    "NOTSOCK",
    "NOTSUP",
    "NOTTY",
    "NXIO",
    "OVERFLOW",
    "OWNERDEAD",
    "PERM",
    "PIPE",
    "PROTO",
    "PROTONOSUPPORT",
    "PROTOTYPE",
    "RANGE",
    "ROFS",
    "SPIPE",
    "SRCH",
    "STALE",
    "TIMEDOUT",
    "TXTBSY",
    "XDEV",
    "NOTCAPABLE",
];

impl Errno {
    /// Its name.
    pub fn name(self) -> &'static str {
        usize::try_from(self.0).ok().and_then(|number| NAMES.get(number)).copied().unwrap_or("?")
    }
}

/// Prints a line: what was tried, and what came of it.
pub fn show<T: std::fmt::Debug>(what: &str, answer: Answer<T>) {
    match answer {
        Ok(value) => println!("{what}: {value:?}"),
        Err(errno) => println!("{what}: {}", errno.name()),
    }
}

/// The same where the value differs from run to run: only whether there is one.
pub fn tried<T>(what: &str, answer: Answer<T>) {
    show(what, answer.map(|_| ()));
}

fn answer<T>(errno: i32, value: T) -> Answer<T> {
    if errno == 0 { Ok(value) } else { Err(Errno(errno)) }
}

/// Rights.
pub mod rights {
    #![expect(missing_docs, reason = "their names are preview 1's")]
    pub const FD_DATASYNC: u64 = 1;
    pub const FD_READ: u64 = 1 << 1;
    pub const FD_SEEK: u64 = 1 << 2;
    pub const FD_TELL: u64 = 1 << 5;
    pub const FD_WRITE: u64 = 1 << 6;
    pub const PATH_OPEN: u64 = 1 << 13;
    pub const FD_READDIR: u64 = 1 << 14;
    pub const FD_FILESTAT_GET: u64 = 1 << 21;
}

/// How a path is opened.
pub mod oflags {
    #![expect(missing_docs, reason = "their names are preview 1's")]
    pub const CREAT: i32 = 1;
    pub const DIRECTORY: i32 = 2;
    pub const EXCL: i32 = 4;
    pub const TRUNC: i32 = 8;
}

/// Flags of a descriptor.
pub mod fdflags {
    #![expect(missing_docs, reason = "their names are preview 1's")]
    pub const APPEND: i32 = 1;
    pub const DSYNC: i32 = 2;
    pub const NONBLOCK: i32 = 4;
    pub const SYNC: i32 = 16;
}

/// The last part of a path is followed if it is a link.
pub const FOLLOW: i32 = 1;

/// Opens a path. The rights that are asked for are those of a directory or a file, with reading and writing as given.
pub fn open(dir: u32, lookup: i32, path: &str, flags: i32, rights: u64, fdflags: i32) -> Answer<u32> {
    let mut fd = 0;
    // SAFETY: the path is read, and `fd` is written, before it returns.
    let errno =
        unsafe { raw::path_open(dir, lookup, path.as_ptr(), path.len(), flags, rights, (1 << 30) - 1, fdflags, &raw mut fd) };
    answer(errno, fd)
}

/// Opens for reading, following links.
pub fn open_to_read(dir: u32, path: &str) -> Answer<u32> {
    open(dir, FOLLOW, path, 0, rights::FD_READ | rights::FD_SEEK | rights::FD_TELL | rights::FD_READDIR, 0)
}

/// Makes a new file for reading and writing.
pub fn create(dir: u32, path: &str) -> Answer<u32> {
    open(dir, FOLLOW, path, oflags::CREAT | oflags::TRUNC, (1 << 29) - 1, 0)
}

/// `fd_close`
pub fn close(fd: u32) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_close(fd) }, ())
}

fn buffers(parts: &mut [&mut [u8]]) -> Vec<Iovec> {
    parts.iter_mut().map(|part| Iovec { at: part.as_mut_ptr(), len: part.len() }).collect()
}

fn constant(parts: &[&[u8]]) -> Vec<Iovec> {
    parts.iter().map(|part| Iovec { at: part.as_ptr().cast_mut(), len: part.len() }).collect()
}

/// `fd_read`
pub fn read(fd: u32, parts: &mut [&mut [u8]]) -> Answer<usize> {
    let (iovs, mut len) = (buffers(parts), 0);
    // SAFETY: the buffers are borrowed for writing and outlive the call.
    answer(unsafe { raw::fd_read(fd, iovs.as_ptr(), iovs.len(), &raw mut len) }, ()).map(|()| len)
}

/// `fd_pread`
pub fn pread(fd: u32, parts: &mut [&mut [u8]], offset: u64) -> Answer<usize> {
    let (iovs, mut len) = (buffers(parts), 0);
    // SAFETY: the buffers are borrowed for writing and outlive the call.
    answer(unsafe { raw::fd_pread(fd, iovs.as_ptr(), iovs.len(), offset, &raw mut len) }, ()).map(|()| len)
}

/// `fd_write`
pub fn write(fd: u32, parts: &[&[u8]]) -> Answer<usize> {
    let (iovs, mut len) = (constant(parts), 0);
    // SAFETY: the buffers are only read, and outlive the call.
    answer(unsafe { raw::fd_write(fd, iovs.as_ptr(), iovs.len(), &raw mut len) }, ()).map(|()| len)
}

/// `fd_pwrite`
pub fn pwrite(fd: u32, parts: &[&[u8]], offset: u64) -> Answer<usize> {
    let (iovs, mut len) = (constant(parts), 0);
    // SAFETY: the buffers are only read, and outlive the call.
    answer(unsafe { raw::fd_pwrite(fd, iovs.as_ptr(), iovs.len(), offset, &raw mut len) }, ()).map(|()| len)
}

/// Reads up to 4 KiB from where the file is, as text.
pub fn text(fd: u32) -> Answer<String> {
    let mut bytes = vec![0; 4096];
    let len = read(fd, &mut [&mut bytes])?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// The text of the file at a path.
pub fn text_of(dir: u32, path: &str) -> Answer<String> {
    let fd = open_to_read(dir, path)?;
    let text = text(fd);
    close(fd)?;
    text
}

/// Writes a new file with this text.
pub fn put(dir: u32, path: &str, text: &str) -> Answer {
    let fd = create(dir, path)?;
    write(fd, &[text.as_bytes()])?;
    close(fd)
}

/// `fd_seek`
pub fn seek(fd: u32, offset: i64, whence: i32) -> Answer<u64> {
    let mut to = 0;
    // SAFETY: `to` is written before it returns.
    answer(unsafe { raw::fd_seek(fd, offset, whence, &raw mut to) }, ()).map(|()| to)
}

/// `fd_tell`
pub fn tell(fd: u32) -> Answer<u64> {
    let mut to = 0;
    // SAFETY: `to` is written before it returns.
    answer(unsafe { raw::fd_tell(fd, &raw mut to) }, ()).map(|()| to)
}

/// `fd_renumber`
pub fn renumber(from: u32, to: u32) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_renumber(from, to) }, ())
}

/// What `fd_fdstat_get` says.
#[derive(Clone, Copy, Debug)]
pub struct FdStat {
    /// The kind of thing.
    pub ty: u8,
    /// Its flags.
    pub flags: u16,
    /// What may be done with it.
    pub base: u64,
    /// What may be done with what is opened in it.
    pub inheriting: u64,
}

/// `fd_fdstat_get`
pub fn fdstat(fd: u32) -> Answer<FdStat> {
    let mut bytes = [0; 24];
    // SAFETY: as many bytes as it writes.
    answer(unsafe { raw::fd_fdstat_get(fd, bytes.as_mut_ptr()) }, ())?;
    Ok(FdStat {
        ty: bytes[0],
        flags: u16::from_le_bytes([bytes[2], bytes[3]]),
        base: word(&bytes, 8),
        inheriting: word(&bytes, 16),
    })
}

/// `fd_fdstat_set_flags`
pub fn set_flags(fd: u32, flags: i32) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_fdstat_set_flags(fd, flags) }, ())
}

/// `fd_fdstat_set_rights`
pub fn set_rights(fd: u32, base: u64, inheriting: u64) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_fdstat_set_rights(fd, base, inheriting) }, ())
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "their names are preview 1's")]
pub struct FileStat {
    pub dev: u64,
    pub ino: u64,
    pub ty: u8,
    pub nlink: u64,
    pub size: u64,
    pub atim: u64,
    pub mtim: u64,
    pub ctim: u64,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl FileStat {
    fn of(bytes: &[u8; 64]) -> Self {
        let [dev, ino, ty, nlink, size, atim, mtim, ctim] = [0, 8, 16, 24, 32, 40, 48, 56].map(|at| word(bytes, at));
        Self { dev, ino, ty: ty as u8, nlink, size, atim, mtim, ctim }
    }
}

/// `fd_filestat_get`
pub fn stat(fd: u32) -> Answer<FileStat> {
    let mut bytes = [0; 64];
    // SAFETY: as many bytes as it writes.
    answer(unsafe { raw::fd_filestat_get(fd, bytes.as_mut_ptr()) }, ()).map(|()| FileStat::of(&bytes))
}

/// `path_filestat_get`
pub fn stat_at(dir: u32, lookup: i32, path: &str) -> Answer<FileStat> {
    let mut bytes = [0; 64];
    // SAFETY: the path is read, and as many bytes as it writes are there.
    let errno = unsafe { raw::path_filestat_get(dir, lookup, path.as_ptr(), path.len(), bytes.as_mut_ptr()) };
    answer(errno, ()).map(|()| FileStat::of(&bytes))
}

/// `fd_filestat_set_times`
pub fn set_times(fd: u32, accessed: u64, modified: u64, flags: i32) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_filestat_set_times(fd, accessed, modified, flags) }, ())
}

/// `path_filestat_set_times`
pub fn set_times_at(dir: u32, lookup: i32, path: &str, accessed: u64, modified: u64, flags: i32) -> Answer {
    // SAFETY: the path is only read.
    answer(unsafe { raw::path_filestat_set_times(dir, lookup, path.as_ptr(), path.len(), accessed, modified, flags) }, ())
}

/// `fd_filestat_set_size`
pub fn set_size(fd: u32, size: u64) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_filestat_set_size(fd, size) }, ())
}

/// `fd_allocate`
pub fn allocate(fd: u32, offset: u64, len: u64) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_allocate(fd, offset, len) }, ())
}

/// `fd_advise`
pub fn advise(fd: u32, offset: u64, len: u64, advice: i32) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_advise(fd, offset, len, advice) }, ())
}

/// `fd_sync`
pub fn sync(fd: u32) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_sync(fd) }, ())
}

/// `fd_datasync`
pub fn datasync(fd: u32) -> Answer {
    // SAFETY: no memory is touched.
    answer(unsafe { raw::fd_datasync(fd) }, ())
}

/// `fd_prestat_get`: the length of the name.
pub fn prestat(fd: u32) -> Answer<u64> {
    let mut bytes = [0; 8];
    // SAFETY: as many bytes as it writes.
    answer(unsafe { raw::fd_prestat_get(fd, bytes.as_mut_ptr()) }, ()).map(|()| word(&bytes, 0) >> 32)
}

/// `fd_prestat_dir_name`
pub fn prestat_name(fd: u32, len: usize) -> Answer<String> {
    let mut bytes = vec![0; len];
    // SAFETY: as many bytes as it may write.
    answer(unsafe { raw::fd_prestat_dir_name(fd, bytes.as_mut_ptr(), len) }, ())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `path_create_directory`
pub fn mkdir(dir: u32, path: &str) -> Answer {
    // SAFETY: the path is only read.
    answer(unsafe { raw::path_create_directory(dir, path.as_ptr(), path.len()) }, ())
}

/// `path_remove_directory`
pub fn rmdir(dir: u32, path: &str) -> Answer {
    // SAFETY: the path is only read.
    answer(unsafe { raw::path_remove_directory(dir, path.as_ptr(), path.len()) }, ())
}

/// `path_unlink_file`
pub fn unlink(dir: u32, path: &str) -> Answer {
    // SAFETY: the path is only read.
    answer(unsafe { raw::path_unlink_file(dir, path.as_ptr(), path.len()) }, ())
}

/// `path_symlink`
pub fn symlink(target: &str, dir: u32, path: &str) -> Answer {
    // SAFETY: both are only read.
    answer(unsafe { raw::path_symlink(target.as_ptr(), target.len(), dir, path.as_ptr(), path.len()) }, ())
}

/// `path_readlink`
pub fn readlink(dir: u32, path: &str, room: usize) -> Answer<String> {
    let (mut bytes, mut len) = (vec![0; room], 0);
    // SAFETY: the path is only read, and as many bytes as it may write are there.
    let errno = unsafe { raw::path_readlink(dir, path.as_ptr(), path.len(), bytes.as_mut_ptr(), room, &raw mut len) };
    answer(errno, ()).map(|()| String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// `path_link`
pub fn link(from: u32, lookup: i32, old: &str, to: u32, new: &str) -> Answer {
    // SAFETY: both are only read.
    answer(unsafe { raw::path_link(from, lookup, old.as_ptr(), old.len(), to, new.as_ptr(), new.len()) }, ())
}

/// `path_rename`
pub fn rename(from: u32, old: &str, to: u32, new: &str) -> Answer {
    // SAFETY: both are only read.
    answer(unsafe { raw::path_rename(from, old.as_ptr(), old.len(), to, new.as_ptr(), new.len()) }, ())
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where reading goes on behind it.
    pub next: u64,
    /// Its number in the file system.
    pub ino: u64,
    /// The kind of thing.
    pub ty: u8,
    /// Its name.
    pub name: String,
}

/// `fd_readdir`: how many bytes of the buffer were used.
pub fn readdir(fd: u32, buffer: &mut [u8], cookie: u64) -> Answer<usize> {
    let mut used = 0;
    // SAFETY: as many bytes as it may write.
    answer(unsafe { raw::fd_readdir(fd, buffer.as_mut_ptr(), buffer.len(), cookie, &raw mut used) }, ()).map(|()| used)
}

/// The whole entries in what was read; one that was cut off is left out.
pub fn entries(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while bytes.len() >= 24 {
        let len = u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")) as usize;
        let Some(name) = bytes.get(24..24 + len) else { break };
        let name = String::from_utf8_lossy(name).into_owned();
        entries.push(Entry { next: word(bytes, 0), ino: word(bytes, 8), ty: bytes[20], name });
        bytes = &bytes[24 + len..];
    }
    entries
}

/// Reads a directory from `cookie` to its end, with a buffer of `room` bytes.
pub fn list(fd: u32, room: usize, mut cookie: u64) -> Answer<Vec<Entry>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
    loop {
        let used = readdir(fd, &mut buffer, cookie)?;
        let some = entries(&buffer[..used]);
        if some.is_empty() {
            return Ok(all);
        }
        cookie = some.last().expect("there are some").next;
        all.extend(some);
        if used < room {
            return Ok(all);
        }
    }
}

/// `clock_time_get`
pub fn now(clock: i32) -> Answer<u64> {
    let mut to = 0;
    // SAFETY: `to` is written before it returns.
    answer(unsafe { raw::clock_time_get(clock, 1, &raw mut to) }, ()).map(|()| to)
}

/// `clock_res_get`
pub fn resolution(clock: i32) -> Answer<u64> {
    let mut to = 0;
    // SAFETY: `to` is written before it returns.
    answer(unsafe { raw::clock_res_get(clock, &raw mut to) }, ()).map(|()| to)
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// A clock, nanoseconds, and whether they are a point in time.
    Clock(u32, u64, bool),
    /// A descriptor that can be read.
    Read(u32),
    /// A descriptor that can be written.
    Write(u32),
}

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The mark of the subscription: its index.
    pub userdata: u64,
    /// Its error.
    pub errno: &'static str,
    /// The kind of subscription.
    pub ty: u8,
    /// How many bytes there are.
    pub bytes: u64,
    /// Whether there will be no more.
    pub flags: u16,
}

/// `poll_oneoff`
pub fn poll(waits: &[Wait]) -> Answer<Vec<Event>> {
    let mut subscriptions = vec![0_u8; waits.len() * 48];
    for (index, (wait, bytes)) in waits.iter().zip(subscriptions.chunks_exact_mut(48)).enumerate() {
        bytes[0..8].copy_from_slice(&(index as u64).to_le_bytes());
        let (ty, what) = match wait {
            Wait::Clock(clock, _, _) => (0, *clock),
            Wait::Read(fd) => (1, *fd),
            Wait::Write(fd) => (2, *fd),
        };
        bytes[8] = ty;
        bytes[16..20].copy_from_slice(&what.to_le_bytes());
        if let Wait::Clock(_, ns, is_absolute) = wait {
            bytes[24..32].copy_from_slice(&ns.to_le_bytes());
            bytes[40] = u8::from(*is_absolute);
        }
    }
    let (mut events, mut count) = (vec![0_u8; waits.len() * 32], 0);
    // SAFETY: there is a subscription and room for an event for each.
    let errno = unsafe { raw::poll_oneoff(subscriptions.as_ptr(), events.as_mut_ptr(), waits.len(), &raw mut count) };
    answer(errno, ())?;
    let event = |bytes: &[u8]| Event {
        userdata: word(bytes, 0),
        errno: Errno(i32::from(u16::from_le_bytes([bytes[8], bytes[9]]))).name(),
        ty: bytes[10],
        bytes: word(bytes, 16),
        flags: u16::from_le_bytes([bytes[24], bytes[25]]),
    };
    Ok(events.chunks_exact(32).take(count).map(event).collect())
}

/// A function that answers with its error number only.
pub fn number(errno: i32) -> Answer {
    answer(errno, ())
}
