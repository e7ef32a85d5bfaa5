//! Descriptors: their numbers, closing, renumbering, how many there may be.

use preview1::{close, create, fdstat, open_to_read, prestat, prestat_name, renumber, show, stat, stat_at, text, tried, write};

const RW: u32 = 3;
const RO: u32 = 4;

/// Where the first directory is after it was renumbered.
const MOVED: u32 = RO;

fn main() {
    granted();
    numbers();
    renumbering();
    many();
    streams();
}

fn granted() {
    for fd in [0, 1, 2, RW, RO, 5, u32::MAX] {
        show(&format!("prestat {fd}"), prestat(fd));
        show(&format!("name of {fd}"), prestat_name(fd, 3));
    }
    show("name too short", prestat_name(RW, 2));
    show("name into more room", prestat_name(RW, 8));
    let dir = open_to_read(RW, "dir").expect("a directory");
    show("prestat of an opened one", prestat(dir));
    show("name of an opened one", prestat_name(dir, 100));
    show("close it", close(dir));
}

fn numbers() {
    let open = || open_to_read(RW, "file");
    show("first", open());
    show("second", open());
    show("third", open());
    show("close the second", close(6));
    show("close it again", close(6));
    show("its number is given again", open());
    show("close the first", close(5));
    show("close the third", close(7));
    for fd in [6, 99, u32::MAX] {
        show(&format!("close {fd}"), close(fd));
    }
    show("all again", open());
    show("close", close(5));
}

fn renumbering() {
    let a = open_to_read(RW, "file").expect("a file");
    let b = create(RW, "made").expect("a file");
    show("onto itself", renumber(a, a));
    show("onto nothing", renumber(a, 50));
    show("nothing onto it", renumber(50, a));
    show("a over b", renumber(a, b));
    show("a is closed", fdstat(a).map(|stat| stat.ty));
    show("b is a", text(b));
    show("a's number is free", open_to_read(RW, "file"));
    show("a position moves along", preview1::tell(b));
    show("close", close(a));
    show("close", close(b));
    let file = open_to_read(RW, "file").expect("a file");
    show("over a granted directory", renumber(file, RO));
    show("it is no directory now", open_to_read(RO, "file"));
    show("nor granted", prestat(RO));
    show("a granted directory over that", renumber(RW, RO));
    show("it is granted still", prestat(RO));
    show("by another number", stat_at(RO, 0, "file").map(|stat| stat.size));
    show("the old number is free", open_to_read(RO, "file").and_then(|fd| close(fd).map(|()| fd)));
}

/// How many there may be differs from host to host; that there is an end does not, nor that it is survived.
fn many() {
    let mut open = Vec::new();
    let errno = loop {
        match open_to_read(MOVED, "file") {
            Ok(fd) => open.push(fd),
            Err(errno) => break errno.name(),
        }
        if open.len() == 100 {
            break "none";
        }
    };
    println!("too many: {errno}");
    println!("highest: {:?}", open.iter().max());
    let last = open.pop().expect("there are some");
    show("close one", close(last));
    show("open one", open_to_read(MOVED, "file").map(|fd| fd == last));
    show("close it", close(last));
    println!("closed: {}", open.into_iter().filter(|fd| close(*fd).is_ok()).count() > 20);
}

fn streams() {
    show("stat stdin", stat(0).map(|stat| (stat.ty, stat.size)));
    show("stat stdout", stat(1).map(|stat| (stat.ty, stat.size)));
    show("stat nothing", stat(99).map(|stat| stat.ty));
    tried("close stdin", close(0));
    show("read it", text(0));
    show("its number is given again", open_to_read(MOVED, "file"));
    show("and read", text(0));
    show("write it", write(0, &[b"x"]));
    tried("close stderr", close(2));
    show("write it", write(2, &[b"x"]));
    show("the lowest number", create(MOVED, "made"));
    show("write that", write(2, &[b"x"]));
    show("unlink", preview1::unlink(MOVED, "made"));
    show("close the directory", close(MOVED));
    show("use it", open_to_read(MOVED, "file"));
}
