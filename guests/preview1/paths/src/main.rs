//! Paths: `..`, absolute ones, links of both kinds, renaming, removing; in a directory that may be written, `3`, and one that may
//! not, `4`.

use preview1::{
    FOLLOW, close, create, entries, link, mkdir, oflags, open, open_to_read, put, readdir, readlink, rename, rights, rmdir, show,
    stat_at, symlink, text_of, tried, unlink,
};

const RW: u32 = 3;
const RO: u32 = 4;

fn main() {
    reading();
    opening();
    leaving();
    links();
    renaming();
    removing();
    read_only();
    oddities();
}

fn reading() {
    for path in ["file", "./file", "dir/../file", "dir/./inner", "dir//inner", "inside", "dir/back", "missing", "file/x", "file/"]
    {
        show(&format!("read {path}"), text_of(RW, path));
    }
    for path in ["dir", ".", "dir/", "dir/.", "dir/.."] {
        tried(&format!("open {path}"), open_to_read(RW, path).and_then(close));
    }
    show("stat file", stat_at(RW, 0, "file").map(|stat| (stat.ty, stat.size, stat.nlink)));
    show("stat dir", stat_at(RW, 0, "dir").map(|stat| stat.ty));
    show("stat link", stat_at(RW, 0, "inside").map(|stat| stat.ty));
    show("stat through link", stat_at(RW, FOLLOW, "inside").map(|stat| (stat.ty, stat.size)));
    show("stat missing", stat_at(RW, FOLLOW, "missing").map(|stat| stat.ty));
    show("stat dangling", stat_at(RW, FOLLOW, "dangling").map(|stat| stat.ty));
    show("stat of dangling itself", stat_at(RW, 0, "dangling").map(|stat| stat.ty));
}

fn opening() {
    let read = rights::FD_READ;
    let write = rights::FD_WRITE;
    for (what, lookup, path, flags, wanted) in [
        ("a new file", 0, "made", oflags::CREAT, read | write),
        ("what is there, exclusively", 0, "made", oflags::CREAT | oflags::EXCL, read | write),
        ("what is not there, exclusively", 0, "made2", oflags::CREAT | oflags::EXCL, read | write),
        ("exclusively without creating", 0, "made", oflags::EXCL, read),
        ("truncating", 0, "made", oflags::TRUNC, write),
        ("a directory as one", 0, "dir", oflags::DIRECTORY, read),
        ("a file as a directory", 0, "file", oflags::DIRECTORY, read),
        ("a new directory", 0, "made3", oflags::DIRECTORY | oflags::CREAT, read),
        ("a directory to write", 0, "dir", 0, read | write),
        ("a directory, truncating", 0, "dir", oflags::TRUNC, write),
        ("a link, not following", 0, "inside", 0, read),
        ("a link, following", FOLLOW, "inside", 0, read),
        ("a link to itself", FOLLOW, "loop", 0, read),
        ("a dangling link", FOLLOW, "dangling", 0, read),
        ("a dangling link, creating", FOLLOW, "dangling", oflags::CREAT, write),
        ("through a file", 0, "file/made", oflags::CREAT, write),
        ("in a missing directory", 0, "missing/made", oflags::CREAT, write),
    ] {
        tried(&format!("open {what}"), open(RW, lookup, path, flags, wanted, 0).and_then(close));
    }
    tried("open in a file", create(RW, "made").and_then(|fd| open(fd, 0, "x", 0, read, 0)));
    tried("open in stdin", open(0, 0, "x", 0, read, 0));
    tried("open in nothing", open(99, 0, "x", 0, read, 0));
    for path in ["made", "made2", "missing-yet"] {
        tried(&format!("unlink {path}"), unlink(RW, path));
    }
}

/// Nothing outside is reached.
fn leaving() {
    let read = rights::FD_READ;
    for path in [
        "..",
        "../",
        "../secret",
        "../secret/key",
        "dir/../../secret/key",
        "/",
        "/etc/passwd",
        "//etc/passwd",
        "outside",
        "absolute",
        "up/secret/key",
        "up",
        "dir/up/secret/key",
        "/proc/self/environ",
        "../ro/file",
        "./../rw/file",
        "dir/../../rw/file",
    ] {
        tried(&format!("leave by {path}"), open(RW, FOLLOW, path, 0, read, 0));
        tried(&format!("stat outside by {path}"), stat_at(RW, FOLLOW, path));
    }
    tried("create outside", open(RW, FOLLOW, "../made", oflags::CREAT, rights::FD_WRITE, 0));
    tried("create outside by a link", open(RW, FOLLOW, "up/made", oflags::CREAT, rights::FD_WRITE, 0));
    tried("mkdir outside", mkdir(RW, "../made"));
    tried("rmdir outside", rmdir(RW, "../secret"));
    tried("unlink outside", unlink(RW, "../secret/key"));
    tried("unlink outside by a link", unlink(RW, "up/secret/key"));
    tried("rename out", rename(RW, "file", RW, "../file"));
    tried("rename in", rename(RW, "../secret/key", RW, "key"));
    tried("link out", link(RW, 0, "file", RW, "../file"));
    tried("link in", link(RW, 0, "../secret/key", RW, "key"));
    tried("link in by a link", link(RW, 0, "up/secret/key", RW, "key"));
    tried("link an outward link, following", link(RW, FOLLOW, "outside", RW, "key"));
    show("readlink outside", readlink(RW, "../ro/link", 100));
    show("readlink absolute", readlink(RW, "absolute", 100));
}

fn links() {
    show("readlink", readlink(RW, "inside", 100));
    show("readlink short", readlink(RW, "inside", 2));
    show("readlink none", readlink(RW, "inside", 0));
    show("readlink of a file", readlink(RW, "file", 100));
    show("readlink of nothing", readlink(RW, "missing", 100));
    show("symlink", symlink("file", RW, "made"));
    show("read it", text_of(RW, "made"));
    show("symlink over it", symlink("file", RW, "made"));
    show("symlink absolute", symlink("/etc/passwd", RW, "made2"));
    show("symlink upwards", symlink("../secret/key", RW, "made3"));
    show("read upwards", text_of(RW, "made3"));
    show("symlink to nothing", symlink("nothing", RW, "made4"));
    show("symlink of no length", symlink("", RW, "made5"));
    show("symlink in a missing directory", symlink("file", RW, "missing/made"));
    show("link", link(RW, 0, "file", RW, "hard"));
    show("links", stat_at(RW, 0, "hard").map(|stat| stat.nlink));
    show("one file", stat_at(RW, 0, "hard").and_then(|a| Ok(a.ino == stat_at(RW, 0, "file")?.ino)));
    show("link over it", link(RW, 0, "file", RW, "hard"));
    show("link of a directory", link(RW, 0, "dir", RW, "hard2"));
    show("link of nothing", link(RW, 0, "missing", RW, "hard2"));
    show("link of a link", link(RW, 0, "inside", RW, "hard2"));
    show("it is one", stat_at(RW, 0, "hard2").map(|stat| stat.ty));
    for path in ["made", "made3", "made4", "hard", "hard2"] {
        show(&format!("unlink {path}"), unlink(RW, path));
    }
}

fn renaming() {
    show("put a", put(RW, "a", "a\n"));
    show("put b", put(RW, "b", "b\n"));
    show("mkdir d", mkdir(RW, "d"));
    show("mkdir e", mkdir(RW, "e"));
    show("put e/full", put(RW, "e/full", ""));
    show("rename a b", rename(RW, "a", RW, "b"));
    show("read b", text_of(RW, "b"));
    show("read a", text_of(RW, "a"));
    show("rename onto itself", rename(RW, "b", RW, "b"));
    show("rename a file onto a directory", rename(RW, "b", RW, "d"));
    show("rename a directory onto a file", rename(RW, "d", RW, "b"));
    show("rename onto a full directory", rename(RW, "d", RW, "e"));
    show("rename onto an empty directory", rename(RW, "e", RW, "d"));
    show("rename into itself", rename(RW, "d", RW, "d/d"));
    show("rename missing", rename(RW, "missing", RW, "x"));
    show("rename to a missing directory", rename(RW, "b", RW, "missing/x"));
    show("rename a file with a slash", rename(RW, "b/", RW, "c"));
    show("rename a directory with a slash", rename(RW, "d/", RW, "c/"));
    show("rename back", rename(RW, "c", RW, "d"));
    show("rename into read-only", rename(RW, "b", RO, "b"));
    show("rename out of read-only", rename(RO, "file", RW, "stolen"));
    show("read what moved", text_of(RW, "d/full"));
    show("unlink d/full", unlink(RW, "d/full"));
    show("rmdir d", rmdir(RW, "d"));
    show("unlink b", unlink(RW, "b"));
}

fn removing() {
    show("mkdir", mkdir(RW, "d"));
    show("mkdir again", mkdir(RW, "d"));
    show("mkdir with a slash", mkdir(RW, "d2/"));
    show("mkdir over a file", mkdir(RW, "file"));
    show("mkdir in a missing directory", mkdir(RW, "missing/d"));
    show("mkdir of no length", mkdir(RW, ""));
    show("mkdir .", mkdir(RW, "."));
    show("put d/x", put(RW, "d/x", ""));
    show("rmdir full", rmdir(RW, "d"));
    show("rmdir a file", rmdir(RW, "file"));
    show("rmdir missing", rmdir(RW, "missing"));
    show("rmdir .", rmdir(RW, "."));
    show("rmdir a link", rmdir(RW, "inside"));
    show("unlink a directory", unlink(RW, "d"));
    show("unlink missing", unlink(RW, "missing"));
    show("unlink with a slash", unlink(RW, "d/x/"));
    show("unlink", unlink(RW, "d/x"));
    show("rmdir", rmdir(RW, "d"));
    show("rmdir with a slash", rmdir(RW, "d2/"));
    let open = create(RW, "gone");
    show("unlink what is open", unlink(RW, "gone"));
    tried("it is still there for who has it", open.and_then(preview1::stat));
    show("and for nobody else", text_of(RW, "gone"));
}

fn read_only() {
    show("ro read", text_of(RO, "file"));
    tried("ro open to write", open(RO, 0, "file", 0, rights::FD_WRITE, 0));
    tried("ro create", open(RO, 0, "made", oflags::CREAT, rights::FD_READ, 0));
    tried("ro create what is there", open(RO, 0, "file", oflags::CREAT, rights::FD_READ, 0));
    tried("ro truncate", open(RO, 0, "file", oflags::TRUNC, rights::FD_READ, 0));
    show("ro mkdir", mkdir(RO, "made"));
    show("ro rmdir", rmdir(RO, "dir"));
    show("ro unlink", unlink(RO, "file"));
    show("ro unlink missing", unlink(RO, "missing"));
    show("ro symlink", symlink("file", RO, "made"));
    show("ro link", link(RO, 0, "file", RO, "made"));
    show("link out of read-only", link(RO, 0, "file", RW, "made"));
    show("link into read-only", link(RW, 0, "file", RO, "made"));
    show("ro rename", rename(RO, "file", RO, "made"));
    show("ro times", preview1::set_times_at(RO, 0, "file", 0, 0, 1));
    show("ro readlink", readlink(RO, "link", 100));
    let file = open_to_read(RO, "file");
    show("ro write", file.and_then(|fd| preview1::write(fd, &[b"x"])));
    show("ro pwrite", file.and_then(|fd| preview1::pwrite(fd, &[b"x"], 0)));
    show("ro size", file.and_then(|fd| preview1::set_size(fd, 0)));
    show("ro set times", file.and_then(|fd| preview1::set_times(fd, 0, 0, 1)));
    let dir = open_to_read(RO, "dir");
    tried("ro create below", dir.and_then(|fd| create(fd, "made")));
    show("ro mkdir below", dir.and_then(|fd| mkdir(fd, "made")));
    let mut buffer = [0; 256];
    show("ro list", dir.and_then(|fd| readdir(fd, &mut buffer, 0)).map(|used| entries(&buffer[..used]).len()));
}

fn oddities() {
    show("no path", text_of(RW, ""));
    show("a path with a zero byte", text_of(RW, "fi\0le"));
    show("a long path", text_of(RW, &"x".repeat(5000)));
    show("a long name", text_of(RW, &"x".repeat(256)));
    show("a path of many parts", text_of(RW, &format!("{}file", "./".repeat(1000))));
    // SAFETY: the path is only read; it is no text, which is the point.
    let errno = unsafe { preview1::raw::path_unlink_file(RW, [0xff_u8, 0xfe].as_ptr(), 2) };
    show("a path that is no text", preview1::number(errno));
    show("in a file", create(RW, "made").and_then(|fd| mkdir(fd, "x")));
    show("unlink made", unlink(RW, "made"));
    show("in stdin", mkdir(0, "x"));
    show("in nothing", mkdir(99, "x"));
}
