//! Rights and flags: what is reported, what can be given up, and that it is gone then.

use preview1::{
    create, fdstat, list, mkdir, oflags, open, open_to_read, pread, read, rights, seek, set_rights, show, stat, tell, write,
};

const RW: u32 = 3;
const RO: u32 = 4;

fn main() {
    reported();
    given_up();
    inherited();
}

fn reported() {
    for fd in 0..3 {
        let wanted = if fd == 0 { rights::FD_READ } else { rights::FD_WRITE };
        let stat = fdstat(fd).expect("a stream");
        let seeks = stat.base & (rights::FD_SEEK | rights::FD_TELL);
        println!("stream {fd}: {} {} {} {}", stat.ty, stat.flags, stat.base & wanted != 0, seeks);
    }
    for (fd, what) in [(RW, "rw"), (RO, "ro")] {
        let stat = fdstat(fd).expect("a directory");
        let path = stat.base & (rights::PATH_OPEN | rights::FD_READDIR) == rights::PATH_OPEN | rights::FD_READDIR;
        let hands_on = rights::FD_READ | rights::FD_WRITE | rights::FD_SEEK | rights::PATH_OPEN;
        println!("{what}: {} {} {path} {}", stat.ty, stat.flags, stat.inheriting & hands_on == hands_on);
        println!("{what} seeks: {}", stat.base & rights::FD_SEEK != 0);
    }
    let modes = rights::FD_READ | rights::FD_WRITE;
    for (what, wanted) in [("reader", rights::FD_READ), ("writer", rights::FD_WRITE), ("both", modes), ("neither", 0)] {
        let stat = open(RW, 0, "file", 0, wanted, 0).and_then(fdstat);
        show(what, stat.map(|stat| (stat.ty, stat.base & modes, stat.base & rights::FD_SEEK != 0)));
    }
    let dir = open(RW, 0, "dir", oflags::DIRECTORY, rights::FD_READDIR, 0).and_then(fdstat);
    show("dir", dir.map(|stat| (stat.ty, stat.base & rights::PATH_OPEN != 0)));
    show("nothing", fdstat(99).map(|stat| stat.ty));
}

fn given_up() {
    let fd = create(RW, "made").expect("a file");
    let mut bytes = [0; 4];
    let before = fdstat(fd).expect("a file");
    show("write", write(fd, &[b"0123"]));
    show("give up writing", set_rights(fd, before.base & !rights::FD_WRITE, 0));
    show("write", write(fd, &[b"x"]));
    show("reported", fdstat(fd).map(|stat| stat.base & rights::FD_WRITE));
    show("take it back", set_rights(fd, before.base, 0));
    show("read", pread(fd, &mut [&mut bytes], 0));
    show("give up seeking", set_rights(fd, rights::FD_READ | rights::FD_TELL, 0));
    show("seek", seek(fd, 0, 0));
    show("tell by seeking", seek(fd, 0, 1));
    show("tell", tell(fd));
    show("pread", pread(fd, &mut [&mut bytes], 0));
    show("stat", stat(fd).map(|stat| stat.size));
    show("give up all", set_rights(fd, 0, 0));
    show("read", read(fd, &mut [&mut bytes]));
    show("on nothing", set_rights(99, 0, 0));
    show("unlink", preview1::unlink(RW, "made"));
}

fn inherited() {
    let dir = open(RW, 0, "dir", oflags::DIRECTORY, rights::FD_READDIR, 0).expect("a directory");
    show("make below", create(dir, "made").and_then(preview1::close));
    let stat = fdstat(dir).expect("a directory");
    show("hand on no writing", set_rights(dir, stat.base, stat.inheriting & !rights::FD_WRITE));
    show("make below", create(dir, "made").map(|_| ()));
    show("read below", open_to_read(dir, "made").map(|_| ()));
    show("give up opening", set_rights(dir, stat.base & !rights::PATH_OPEN, 0));
    show("open below", open_to_read(dir, "made").map(|_| ()));
    show("list", list(dir, 1000, 0).map(|all| all.len()));
    show("mkdir below", mkdir(dir, "d"));
    show("rmdir below", preview1::rmdir(dir, "d"));
    show("unlink below", preview1::unlink(dir, "made"));
}
