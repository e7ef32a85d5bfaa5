//! Misuses preview 1, in the way its first argument says.

use std::collections::BTreeMap;

use preview1::raw::{self, Iovec};
use preview1::{
    Answer, FOLLOW, Wait, create, link, mkdir, number, oflags, open, open_to_read, poll, put, readdir, readlink, rename, rights,
    rmdir, set_times_at, show, stat_at, symlink, text_of, tried, unlink,
};

const RW: u32 = 3;

fn main() {
    let mode = std::env::args().nth(1).expect("a mode");
    match mode.as_str() {
        "sleep" => tried("slept", poll(&[Wait::Clock(1, 3_600_000_000_000, false)])),
        "random" => random(),
        "lengths" => lengths(),
        "flood-log" => flood(2),
        "flood-file" => flood(create(RW, "made").expect("a file")),
        "read" => read_all(),
        "far" => far(),
        "pipes" => pipes(),
        "swap" => swap(),
        "keep" => keep(),
        other => panic!("no mode {other}"),
    }
}

/// Random bytes for all the memory there is, again and again.
fn random() {
    let mut bytes = vec![0_u8; 100 << 20];
    loop {
        // SAFETY: the bytes are borrowed for writing.
        unsafe { raw::random_get(bytes.as_mut_ptr(), bytes.len()) };
        if bytes.iter().all(|byte| *byte == 0) {
            println!("nothing came");
        }
    }
}

/// Addresses and lengths that lead out of the memory.
fn lengths() {
    let far = usize::MAX as *mut u8;
    let edge = (usize::MAX - 3) as *mut u8;
    let mut to = 0_usize;
    let mut ok = [0_u8; 64];
    let iov = |at, len| Iovec { at, len };
    let show = |what: &str, errno| show(what, number(errno));
    // SAFETY: what is given lies outside of the memory, and the host must refuse it; the rest outlives the calls.
    unsafe {
        show("random far", raw::random_get(far, 10));
        show("random of everything", raw::random_get(ok.as_mut_ptr(), usize::MAX));
        show("list far", raw::fd_read(0, far.cast(), 1, &raw mut to));
        show("list of 2^31", raw::fd_read(0, ok.as_ptr().cast(), 1 << 31, &raw mut to));
        show("list of 2^32 - 1", raw::fd_write(2, ok.as_ptr().cast(), usize::MAX, &raw mut to));
        show("buffer far", raw::fd_read(0, &raw const *[iov(far, 4)].as_ptr(), 1, &raw mut to));
        show("buffer of everything", raw::fd_read(0, [iov(ok.as_mut_ptr(), usize::MAX)].as_ptr(), 1, &raw mut to));
        show("write from far", raw::fd_write(2, [iov(far, 4)].as_ptr(), 1, &raw mut to));
        show("count far", raw::fd_write(2, [iov(ok.as_mut_ptr(), 1)].as_ptr(), 1, edge.wrapping_add(1).cast()));
        show("path far", raw::path_unlink_file(RW, far, 10));
        show("path of everything", raw::path_unlink_file(RW, ok.as_ptr(), usize::MAX));
        show("stat far", raw::path_filestat_get(RW, 0, b"file".as_ptr(), 4, far));
        show("open to far", raw::path_open(RW, 0, b"file".as_ptr(), 4, 0, rights::FD_READ, 0, 0, edge.wrapping_add(2).cast()));
        show("list a directory far", raw::fd_readdir(RW, far, 100, 0, &raw mut to));
        show("list a directory over everything", raw::fd_readdir(RW, ok.as_mut_ptr(), usize::MAX, 0, &raw mut to));
        show("readlink far", raw::path_readlink(RW, b"inside".as_ptr(), 6, far, 100, &raw mut to));
        show("arguments far", raw::args_get(far.cast(), far));
        show("argument sizes far", raw::args_sizes_get(far.cast(), far.cast()));
        show("environment far", raw::environ_get(far.cast(), far));
        show("clock far", raw::clock_time_get(0, 0, far.cast()));
        show("stat to far", raw::fd_filestat_get(RW, far));
        show("rights to far", raw::fd_fdstat_get(RW, far));
        show("name far", raw::fd_prestat_dir_name(RW, far, 100));
        show("poll far", raw::poll_oneoff(far, ok.as_mut_ptr(), 1, &raw mut to));
        show("poll of everything", raw::poll_oneoff(ok.as_ptr(), ok.as_mut_ptr(), usize::MAX, &raw mut to));
        show("poll to far", raw::poll_oneoff(ok.as_ptr(), far, 1, &raw mut to));
    }
    unknown();
    // Nothing of it opened anything.
    show_next();
}

/// Flags and choices that do not exist.
fn unknown() {
    let read = rights::FD_READ;
    show("unknown flags to open", open(RW, 0, "file", 1 << 8, read, 0));
    show("unknown flags of a path", open(RW, 2, "file", 0, read, 0));
    show("unknown flags of a descriptor", open(RW, 0, "file", 0, read, 1 << 9));
    show("unknown flags to set", preview1::set_flags(0, 1 << 9));
    show("unknown times", set_times_at(RW, 0, "file", 0, 0, 1 << 4));
    let fd = open_to_read(RW, "file").expect("a file");
    show("unknown whence", preview1::seek(fd, 0, 3));
    show("unknown advice", preview1::advise(fd, 0, 0, 6));
    preview1::close(fd).expect("it is open");
    show("unknown clock", preview1::now(4));
    show("unknown resolution", preview1::resolution(4));
    let events = poll(&[Wait::Clock(4, 0, false)]).expect("an event");
    println!("unknown clock to wait by: {}", events[0].errno);
}

fn show_next() {
    show("next descriptor", open_to_read(RW, "file"));
}

/// Buffers that are more together than anyone could hold: the same one over and over.
fn overlapping() -> (Vec<u8>, Vec<Iovec>) {
    let mut bytes = vec![b'\n'; 3 << 20];
    let iovs = vec![Iovec { at: bytes.as_mut_ptr(), len: bytes.len() }; 1024];
    (bytes, iovs)
}

/// Three gigabytes of line feeds, again and again.
fn flood(fd: u32) {
    let (_bytes, iovs) = overlapping();
    let mut to = 0_usize;
    loop {
        // SAFETY: the buffers overlap, and are only read.
        unsafe { raw::fd_write(fd, iovs.as_ptr(), iovs.len(), &raw mut to) };
    }
}

/// As much as a file has, and more.
fn read_all() {
    let (bytes, iovs) = overlapping();
    let fd = create(RW, "made").expect("a file");
    let mut to = 0_usize;
    // SAFETY: the buffers overlap; what they hold afterwards is bytes, whatever they are.
    let errno = unsafe {
        raw::fd_write(fd, iovs.as_ptr(), 1, &raw mut to);
        raw::fd_pread(fd, iovs.as_ptr(), iovs.len(), 0, &raw mut to)
    };
    println!("read: {:?}, little: {}", number(errno), to <= 1 << 20 && bytes.iter().all(|byte| *byte == b'\n'));
}

/// Cookies behind the directory's end and far into it, and more of a file than there is disk.
fn far() {
    let many = open_to_read(RW, "many").expect("a directory");
    let mut buffer = [0; 4096];
    for cookie in [u64::MAX, 10_002, 10_001, 4_500, 0, 10_003] {
        show(&format!("from {cookie}"), readdir(many, &mut buffer, cookie).map(|used| used > 0));
    }
    let fd = create(RW, "made").expect("a file");
    // SAFETY: no memory is touched.
    show("allocate", number(unsafe { raw::fd_allocate(fd, 0, 1 << 40) }));
}

/// What is neither file nor directory.
fn pipes() {
    for path in ["fifo", "socket", "device", "link-to-fifo"] {
        for (how, flags, wanted) in [
            ("read", 0, rights::FD_READ),
            ("write", 0, rights::FD_WRITE),
            ("both", 0, rights::FD_READ | rights::FD_WRITE),
            ("look", 0, 0),
            ("create", oflags::CREAT, rights::FD_WRITE),
            ("truncate", oflags::TRUNC, rights::FD_WRITE),
            ("list", oflags::DIRECTORY, rights::FD_READDIR),
        ] {
            tried(&format!("{how} {path}"), open(RW, FOLLOW, path, flags, wanted, 0));
        }
        tried(&format!("times of {path}"), set_times_at(RW, FOLLOW, path, 0, 0, 1));
        tried(&format!("stat {path}"), stat_at(RW, FOLLOW, path));
    }
}

/// Counts answers by what they were.
#[derive(Default)]
struct Seen(BTreeMap<String, u64>);

impl Seen {
    fn note<T: std::fmt::Debug>(&mut self, what: &str, answer: Answer<T>) {
        let saw = match answer {
            Ok(value) => format!("{what}: {value:?}"),
            Err(errno) => format!("{what}: {}", errno.name()),
        };
        *self.0.entry(saw).or_default() += 1;
    }
}

/// Uses paths through `swap`, which somebody else keeps changing from a directory to a link that leads out.
fn swap() {
    let mut seen = Seen::default();
    for round in 0..400 {
        seen.note("read", text_of(RW, "swap/key"));
        seen.note("read deeper", text_of(RW, "swap/../swap/key"));
        seen.note(
            "list",
            open_to_read(RW, "swap").and_then(|fd| {
                let names =
                    preview1::list(fd, 4096, 0).map(|all| all.into_iter().filter(|entry| entry.name == "secret-name").count());
                preview1::close(fd)?;
                names
            }),
        );
        seen.note("readlink", readlink(RW, "swap/link", 100));
        seen.note("put", put(RW, "swap/put", "x"));
        seen.note("mkdir", mkdir(RW, "swap/dir"));
        seen.note("rmdir", rmdir(RW, "swap/dir"));
        seen.note("symlink", symlink("x", RW, "swap/symlink"));
        seen.note("link out", link(RW, 0, "file", RW, "swap/linked"));
        seen.note("link in", link(RW, 0, "swap/key", RW, &format!("stolen-{round}")));
        seen.note("rename in", rename(RW, "swap/secret-name", RW, "moved"));
        seen.note("rename out", rename(RW, "file2", RW, "swap/renamed"));
        seen.note("times", set_times_at(RW, FOLLOW, "swap/key", 0, 0, 1));
        seen.note("unlink", unlink(RW, "swap/secret-name"));
        seen.note("stolen", text_of(RW, &format!("stolen-{round}")));
        seen.note("stat", stat_at(RW, FOLLOW, "swap/secret-name").map(|_| ()));
    }
    for (saw, count) in seen.0 {
        println!("{saw} {count}");
    }
}

/// Opens as much as it can and keeps it while it waits.
fn keep() {
    while open_to_read(RW, "file").is_ok() {}
    tried("slept", poll(&[Wait::Clock(1, 3_600_000_000_000, false)]));
}
