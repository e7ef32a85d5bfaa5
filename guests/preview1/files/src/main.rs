//! Files: positions, appending, reading and writing anywhere, sizes.

use preview1::{
    advise, allocate, close, create, datasync, fdflags, fdstat, oflags, open, open_to_read, pread, pwrite, read, rights, seek,
    set_flags, set_size, show, stat, sync, tell, text, text_of, unlink, write,
};

const RW: u32 = 3;

fn main() {
    positions();
    anywhere();
    appending();
    buffers();
    sizes();
    modes();
    advice();
    flags();
}

fn fresh(text: &str) -> u32 {
    let fd = create(RW, "made").expect("a file");
    write(fd, &[text.as_bytes()]).expect("written");
    fd
}

fn positions() {
    let fd = fresh("0123456789");
    show("tell after writing", tell(fd));
    show("read at the end", text(fd));
    for (offset, whence) in
        [(3, 0), (2, 1), (-1, 1), (-4, 2), (0, 1), (5, 2), (-1, 0), (-100, 1), (-100, 2), (i64::MAX, 0), (1, 1), (i64::MIN, 2)]
    {
        show(&format!("seek {offset} {whence}"), seek(fd, offset, whence));
    }
    show("read far behind the end", seek(fd, 1 << 40, 0).and_then(|_| text(fd)));
    show("back", seek(fd, 4, 0));
    show("read", text(fd));
    show("tell", tell(fd));
    show("write behind the end", seek(fd, 12, 0).and_then(|_| write(fd, &[b"!"])));
    show("all", text_of(RW, "made"));
    show("two of one file", open_to_read(RW, "made").and_then(|other| Ok((text(other)?, tell(other)?, tell(fd)?))));
    show("seek stdin", seek(0, 0, 0));
    show("tell stdout", tell(1));
    show("seek a directory", seek(RW, 0, 0));
    show("tell nothing", tell(99));
    show("close", close(fd));
    show("seek closed", seek(fd, 0, 0));
}

fn anywhere() {
    let fd = fresh("0123456789");
    let mut bytes = [0; 4];
    show("pread", pread(fd, &mut [&mut bytes], 3).map(|len| (len, bytes)));
    show("pread over the end", pread(fd, &mut [&mut bytes], 8).map(|len| (len, bytes)));
    show("pread behind the end", pread(fd, &mut [&mut bytes], 80));
    show("pread at the largest position", pread(fd, &mut [&mut bytes], u64::MAX));
    let mut more = [0; 2];
    let both = pread(fd, &mut [&mut bytes, &mut more], 3).map(|len| {
        let all = [&bytes[..], &more[..]].concat();
        (len, String::from_utf8_lossy(&all[..len]).into_owned())
    });
    show("pread into two", both);
    show("pwrite from two", pwrite(fd, &[b"a", b"bc"], 1));
    show("after that", text_of(RW, "made"));
    show("back again", pwrite(fd, &[b"123"], 1));
    show("pwrite", pwrite(fd, &[b"ab"], 2));
    show("pwrite over the end", pwrite(fd, &[b"cdef"], 8));
    show("pwrite at the largest position", pwrite(fd, &[b"x"], u64::MAX));
    show("position stays", tell(fd));
    show("all", text_of(RW, "made"));
    show("pread stdin", pread(0, &mut [&mut bytes], 0));
    show("pread stdout", pread(1, &mut [&mut bytes], 0));
    show("pwrite stdin", pwrite(0, &[b"x"], 0));
    show("pwrite stdout", pwrite(1, &[b"x"], 0));
    show("pread a directory", pread(RW, &mut [&mut bytes], 0));
    show("pwrite a directory", pwrite(RW, &[b"x"], 0));
    show("read a directory", read(RW, &mut [&mut bytes]));
    show("write a directory", write(RW, &[b"x"]));
}

fn appending() {
    let _ = fresh("0123");
    let all = rights::FD_READ | rights::FD_WRITE | rights::FD_SEEK | rights::FD_TELL;
    let fd = open(RW, 0, "made", 0, all, fdflags::APPEND).expect("a file");
    show("flags", fdstat(fd).map(|stat| stat.flags));
    show("position", tell(fd));
    show("append", write(fd, &[b"45"]));
    show("position after", tell(fd));
    show("seek to the start", seek(fd, 0, 0));
    show("append still", write(fd, &[b"67"]));
    show("pwrite appends too", pwrite(fd, &[b"89"], 0));
    show("position after that", tell(fd));
    show("all", text_of(RW, "made"));
    show("no more", set_flags(fd, 0));
    show("from the start", seek(fd, 0, 0).and_then(|_| write(fd, &[b"ab"])));
    show("again", set_flags(fd, fdflags::APPEND));
    show("at the end", write(fd, &[b"."]));
    show("all", text_of(RW, "made"));
    let other = open(RW, 0, "made", 0, all, fdflags::APPEND).expect("a file");
    show("two who append", write(fd, &[b"x"]).and_then(|_| write(other, &[b"y"])).and_then(|_| write(fd, &[b"z"])));
    show("all", text_of(RW, "made"));
}

fn buffers() {
    let fd = fresh("");
    show("write none", write(fd, &[]));
    show("write empty ones", write(fd, &[b"", b""]));
    show("write one behind an empty one", write(fd, &[b"", b"ab"]));
    show("all", text_of(RW, "made"));
    show("to the start", seek(fd, 0, 0));
    let (mut a, mut b) = ([0; 0], [0; 8]);
    show("read behind an empty one", read(fd, &mut [&mut a, &mut b]).map(|len| (len, b)));
    show("read none", read(fd, &mut []));
}

fn sizes() {
    let fd = fresh("0123456789");
    show("shrink", set_size(fd, 4));
    show("position stays", tell(fd));
    show("size", stat(fd).map(|stat| stat.size));
    show("grow", set_size(fd, 6));
    show("all", text_of(RW, "made"));
    show("too far", set_size(fd, u64::MAX));
    show("of a directory", set_size(RW, 0));
    show("of stdin", set_size(0, 0));
    show("allocate", allocate(fd, 0, 100));
    show("allocate nothing", allocate(fd, 0, 0));
    show("allocate too far", allocate(fd, u64::MAX, 1));
    show("allocate stdin", allocate(0, 0, 1));
    show("allocated", stat(fd).map(|stat| stat.size));
    show("sync", sync(fd));
    show("datasync", datasync(fd));
    show("sync a directory", sync(RW));
    show("datasync a directory", datasync(RW));
    show("sync stdout", sync(1));
    show("sync nothing", sync(99));
}

fn modes() {
    let mut bytes = [0; 4];
    let _ = fresh("0123");
    let reader = open(RW, 0, "made", 0, rights::FD_READ | rights::FD_SEEK, 0).expect("a file");
    show("reader writes", write(reader, &[b"x"]));
    show("reader pwrites", pwrite(reader, &[b"x"], 0));
    show("reader sets the size", set_size(reader, 0));
    let writer = open(RW, 0, "made", 0, rights::FD_WRITE | rights::FD_SEEK, 0).expect("a file");
    show("writer reads", read(writer, &mut [&mut bytes]));
    show("writer preads", pread(writer, &mut [&mut bytes], 0));
    show("writer writes", write(writer, &[b"ab"]));
    let neither = open(RW, 0, "made", 0, 0, 0).expect("a file");
    show("neither reads", read(neither, &mut [&mut bytes]).map(|len| (len, bytes)));
    let maker = open(RW, 0, "made2", oflags::CREAT, rights::FD_READ, 0).expect("a file");
    show("maker that reads writes", write(maker, &[b"x"]));
    show("unlink", unlink(RW, "made2"));
    show("all", text_of(RW, "made"));
    show("write stdin", write(0, &[b"x"]));
    show("read stdout", read(1, &mut [&mut bytes]));
}

fn advice() {
    let fd = fresh("0123");
    for advice in 0..=5 {
        show(&format!("advise {advice}"), advise(fd, 0, 2, advice));
    }
    show("advise too far", advise(fd, u64::MAX, 2, 0));
    show("advise a directory", advise(RW, 0, 0, 0));
    show("advise stdin", advise(0, 0, 0, 0));
}

fn flags() {
    let all = rights::FD_READ | rights::FD_WRITE;
    let fd = fresh("");
    show("set nonblock", set_flags(fd, fdflags::NONBLOCK).and_then(|()| fdstat(fd)).map(|stat| stat.flags));
    show("set sync", set_flags(fd, fdflags::SYNC));
    show("set on a directory", set_flags(RW, 0));
    show("set on stdin", set_flags(0, 0));
    show("set on nothing", set_flags(99, 0));
    for flag in [fdflags::SYNC, fdflags::DSYNC] {
        let fd = open(RW, 0, "made", 0, all, flag);
        show(&format!("opened with {flag}"), fd.and_then(fdstat).map(|stat| stat.flags));
        show("write", fd.and_then(|fd| write(fd, &[b"x"])));
    }
    show("unlink", unlink(RW, "made"));
}
