//! What a path is made of: slashes at its end, nested and empty parts, links that are not followed, and names whose file is gone but open.

use preview1::{
    FOLLOW, close, create, fdflags, fdstat, link, list, mkdir, oflags, open, open_to_read, put, read, readlink, rename, rights,
    rmdir, set_rights, show, stat, stat_at, symlink, text, text_of, tried, unlink, write,
};

const RW: u32 = 3;

fn main() {
    show("mkdir", mkdir(RW, "n"));
    let dir = open_to_read(RW, "n").expect("a directory");
    nested(dir);
    not_followed(dir);
    made_with_slashes(dir);
    renamed_with_slashes(dir);
    removed_with_slashes(dir);
    linked(dir);
    gone(dir);
    itself();
    opened(dir);
    emptied(dir);
    show("close", close(dir));
    show("rmdir", rmdir(RW, "n"));
}

fn nested(dir: u32) {
    for path in ["a", "a/b"] {
        show(&format!("mkdir {path}"), mkdir(dir, path));
    }
    show("put", put(dir, "a/b/file", "nested\n"));
    for path in [
        "a/b/file",
        "/a/b/file",
        "a/b/../../a/b/../b///./file",
        "a//b/./file",
        "./a/b/file",
        "a/b/file/",
        "a/b/file///",
        "a/b/file/.",
        "a/b/file/..",
        "a/b/../../../n/a/b/file",
        "a/b/../../..",
        "a/missing/../b/file",
        "a/b/fi\0le",
        "\0a/b/file",
        "a/b/file\0",
        "/",
        "//",
        "",
        " ",
        "...",
        "..file",
        "a/...",
    ] {
        show(&format!("read {path:?}"), text_of(dir, path));
    }
    for path in ["a/b", "a/b/", "a/b///", "a/b/.", "a/b/..", "a/b/../", "a/./b/../../."] {
        let opened = open(dir, 0, path, oflags::DIRECTORY, rights::FD_READDIR, 0);
        show(
            &format!("list {path:?}"),
            opened.and_then(|fd| list(fd, 4096, 0).map(|all| all.len()).and_then(|len| close(fd).map(|()| len))),
        );
    }
    show("unlink", unlink(dir, "a/b/file"));
    show("rmdir", rmdir(dir, "a/b"));
    show("rmdir", rmdir(dir, "a"));
}

fn not_followed(dir: u32) {
    show("mkdir", mkdir(dir, "target"));
    for of in ["a directory", "a file", "nothing", "a loop"] {
        show(&format!("link to {of}"), symlink("target", dir, "link"));
        for (how, lookup, flags, wanted) in [
            ("not following", 0, 0, 0),
            ("to read", 0, 0, rights::FD_READ),
            ("as a directory", 0, oflags::DIRECTORY, 0),
            ("creating", 0, oflags::CREAT, rights::FD_WRITE),
            ("creating alone", 0, oflags::CREAT | oflags::EXCL, rights::FD_WRITE),
            ("emptying", 0, oflags::TRUNC, rights::FD_WRITE),
            ("following", FOLLOW, 0, 0),
            ("following to a directory", FOLLOW, oflags::DIRECTORY, 0),
            ("creating alone, following", FOLLOW, oflags::CREAT | oflags::EXCL, rights::FD_WRITE),
        ] {
            tried(&format!("open {of} {how}"), open(dir, lookup, "link", flags, wanted, 0).and_then(close));
        }
        show(&format!("stat {of}"), stat_at(dir, 0, "link").map(|stat| (stat.ty, stat.size)));
        show(&format!("stat {of} following"), stat_at(dir, FOLLOW, "link").map(|stat| stat.ty));
        show(&format!("stat {of} with a slash"), stat_at(dir, 0, "link/").map(|stat| stat.ty));
        show(&format!("where {of} is"), readlink(dir, "link", 100));
        show("unlink the link", unlink(dir, "link"));
        match of {
            "a directory" => show("a file now", rmdir(dir, "target").and_then(|()| put(dir, "target", "text\n"))),
            "a file" => show("nothing now", unlink(dir, "target")),
            "nothing" => show("a loop now", symlink("link", dir, "target")),
            _ => show("unlink", unlink(dir, "target")),
        }
    }
}

fn made_with_slashes(dir: u32) {
    show("symlink, a slash and nothing", symlink("source", dir, "target/"));
    show("symlink", symlink("source", dir, "target").and_then(|()| unlink(dir, "target")));
    show("mkdir", mkdir(dir, "target"));
    show("symlink, a slash and a directory", symlink("source", dir, "target/"));
    show("symlink and a directory", symlink("source", dir, "target"));
    show("mkdir, a slash and a directory", mkdir(dir, "target/"));
    show("rmdir", rmdir(dir, "target/"));
    show("put", put(dir, "target", ""));
    show("symlink, a slash and a file", symlink("source", dir, "target/"));
    show("symlink and a file", symlink("source", dir, "target"));
    show("mkdir, a slash and a file", mkdir(dir, "target/"));
    show("unlink", unlink(dir, "target"));
    tried("create with a slash", open(dir, 0, "target/", oflags::CREAT, rights::FD_WRITE, 0).and_then(close));
    show("link with a slash at the end", symlink("file/", dir, "link"));
    show("read it", put(dir, "file", "text\n").and_then(|()| text_of(dir, "link")));
    show("unlink", unlink(dir, "link").and_then(|()| unlink(dir, "file")));
}

fn renamed_with_slashes(dir: u32) {
    show("put", put(dir, "file", "text\n"));
    show("mkdir", mkdir(dir, "d").and_then(|()| mkdir(dir, "full")).and_then(|()| put(dir, "full/x", "")));
    // Whatever becomes of it, the rest finds the file where it was.
    show("rename file other/", rename(dir, "file", dir, "other/").and_then(|()| rename(dir, "other", dir, "file")));
    for (old, new) in [
        ("file/", "other"),
        ("file", "d/"),
        ("file", "d/other"),
        ("d/other", "file"),
        ("d", "e/"),
        ("e/", "d"),
        ("d/", "e/"),
        ("e", "full/"),
        ("full", "e/"),
        ("e", "full"),
        ("full/.", "e"),
        ("full", "."),
        ("full", "full/../e"),
        ("missing/", "x"),
    ] {
        show(&format!("rename {old} {new}"), rename(dir, old, dir, new));
    }
    let mut left: Vec<String> = list(dir, 4096, 0).expect("a listing").into_iter().map(|entry| entry.name).collect();
    left.sort();
    show("left", Ok(left));
    show("to another directory", open_to_read(dir, "e").and_then(|e| rename(dir, "file", e, "moved").and_then(|()| close(e))));
    show("read it", text_of(dir, "e/moved"));
    show("clean", unlink(dir, "e/moved").and_then(|()| unlink(dir, "e/x")).and_then(|()| rmdir(dir, "e")));
}

fn removed_with_slashes(dir: u32) {
    show("mkdir", mkdir(dir, "d"));
    for path in ["d", "d/", "d/.", "d/..", "missing", "missing/", ".", "..", "", "/"] {
        show(&format!("unlink {path:?}"), unlink(dir, path));
    }
    show("put", put(dir, "file", ""));
    for path in ["file", "file/", "missing", "missing/", "d/.", "d/..", ".", "..", "", "/"] {
        show(&format!("rmdir {path:?}"), rmdir(dir, path));
    }
    show("link", symlink("d", dir, "link"));
    for path in ["link", "link/"] {
        show(&format!("rmdir {path:?}"), rmdir(dir, path));
    }
    show("unlink a link with a slash", unlink(dir, "link/"));
    show("unlink a file with a slash", unlink(dir, "file/"));
    show("clean", unlink(dir, "link").and_then(|()| unlink(dir, "file")).and_then(|()| rmdir(dir, "d/")));
}

fn linked(dir: u32) {
    show("put", put(dir, "file", "text\n"));
    show("mkdir", mkdir(dir, "d"));
    show("symlink", symlink("nothing", dir, "dangling").and_then(|()| symlink("loop", dir, "loop")));
    for (old, new) in [
        ("file", "file"),
        ("file", "d"),
        ("file", "new/"),
        ("file", "d/"),
        ("file/", "new"),
        ("file", "dangling"),
        ("d", "new"),
        ("d/", "new"),
    ] {
        show(&format!("link {old} {new}"), link(dir, 0, old, dir, new));
    }
    for of in ["dangling", "loop"] {
        show(&format!("link {of}"), link(dir, 0, of, dir, "new"));
        show("it is", stat_at(dir, 0, "new").map(|stat| (stat.ty, stat.nlink)));
        show("unlink", unlink(dir, "new"));
        show(&format!("link {of}, following"), link(dir, FOLLOW, of, dir, "new"));
    }
    let below = open_to_read(dir, "d").expect("a directory");
    show("link below", link(dir, 0, "file", below, "hard"));
    let (a, b) = (stat_at(dir, 0, "file").expect("it is there"), stat_at(below, 0, "hard").expect("it is there"));
    show("the same", Ok((a.dev == b.dev, a.ino == b.ino, a.size == b.size, a.nlink, b.nlink, a.mtim == b.mtim)));
    let other = stat_at(dir, 0, "d").expect("it is there");
    show("another", Ok((a.dev == other.dev, a.ino == other.ino, a.ino != 0)));
    show("close", close(below));
    for path in ["d/hard", "file", "dangling", "loop"] {
        show(&format!("unlink {path}"), unlink(dir, path));
    }
    show("rmdir", rmdir(dir, "d"));
}

/// What is removed while it is open, and made again by the same name.
fn gone(dir: u32) {
    let fd = create(dir, "file").expect("a file");
    show("write", write(fd, &[b"old"]));
    show("unlink", unlink(dir, "file"));
    show("links", stat(fd).map(|stat| (stat.nlink, stat.size)));
    show("make it again", put(dir, "file", "new\n"));
    show("both", preview1::seek(fd, 0, 0).and_then(|_| text(fd)).and_then(|old| Ok((old, text_of(dir, "file")?))));
    show("close", close(fd));
    show("unlink", unlink(dir, "file"));
    show("mkdir", mkdir(dir, "d"));
    let fd = open_to_read(dir, "d").expect("a directory");
    show("rmdir", rmdir(dir, "d"));
    tried("make in it", create(fd, "x").and_then(close));
    show("mkdir in it", mkdir(fd, "x"));
    show("list it", list(fd, 4096, 0).map(|all| all.len()));
    show("make it again", mkdir(dir, "d"));
    tried("make in the old one", create(fd, "x").and_then(close));
    show("close", close(fd));
    show("rmdir", rmdir(dir, "d"));
}

/// A granted directory by its own name.
fn itself() {
    let granted = fdstat(RW).expect("a directory");
    for (how, flags, base, inheriting) in [
        ("as it is", 0, granted.base, granted.inheriting),
        ("without rights", 0, 0, 0),
        ("as a directory", oflags::DIRECTORY, 0, 0),
        ("to read", oflags::DIRECTORY, rights::FD_READ, 0),
        ("to read and write", oflags::DIRECTORY, rights::FD_READ | rights::FD_WRITE, 0),
        ("creating", oflags::CREAT, 0, 0),
        ("creating alone", oflags::CREAT | oflags::EXCL, 0, 0),
        ("emptying", oflags::TRUNC, 0, 0),
    ] {
        let mut fd = 0;
        // SAFETY: the path is read, and `fd` is written, before it returns.
        let errno = unsafe { preview1::raw::path_open(RW, 0, c".".as_ptr().cast(), 1, flags, base, inheriting, 0, &raw mut fd) };
        show(&format!("open itself {how}"), preview1::number(errno).and_then(|()| close(fd)));
    }
    for flag in [fdflags::NONBLOCK, fdflags::APPEND] {
        tried(&format!("open itself with {flag}"), open(RW, 0, ".", oflags::DIRECTORY, 0, flag).and_then(close));
    }
    for (name, bit) in [("seek", rights::FD_SEEK), ("tell", rights::FD_TELL), ("set its size", 1 << 22)] {
        show(&format!("right to {name}"), Ok(granted.base & bit != 0));
    }
    show("tell it", preview1::tell(RW));
    for whence in 0..3 {
        show(&format!("seek it {whence}"), preview1::seek(RW, 0, whence));
    }
    show("allocate it", preview1::allocate(RW, 0, 1));
}

fn opened(dir: u32) {
    show("put", put(dir, "file", ""));
    let mut bytes = [0; 8];
    for (how, wanted) in [
        ("to read", rights::FD_READ),
        ("to write", rights::FD_WRITE),
        ("for both", rights::FD_READ | rights::FD_WRITE | rights::FD_SEEK),
    ] {
        let fd = open(dir, 0, "file", 0, wanted, 0).expect("a file");
        let both = rights::FD_READ | rights::FD_WRITE;
        show(&format!("opened {how}"), fdstat(fd).map(|stat| (stat.ty, stat.flags, stat.base & both)));
        show("read", read(fd, &mut [&mut bytes]));
        show("write", write(fd, &[b"abc"]));
        // What one wrote the other sees at once.
        show("all", text_of(dir, "file"));
        show("close", close(fd));
    }
    for fd in 0..3 {
        show(
            &format!("stream {fd}"),
            fdstat(fd).map(|stat| (stat.ty, stat.flags, stat.base & (rights::FD_SEEK | rights::FD_TELL))),
        );
    }
    let nonblock = open(dir, 0, "file", 0, rights::FD_READ, fdflags::NONBLOCK);
    show(
        "without blocking",
        nonblock.and_then(|fd| fdstat(fd).map(|stat| stat.flags).and_then(|flags| close(fd).map(|()| flags))),
    );
    show("unlink", unlink(dir, "file"));
}

fn emptied(dir: u32) {
    show("put", put(dir, "file", "text\n"));
    tried("empty without rights", open(dir, 0, "file", oflags::TRUNC, 0, 0).and_then(close));
    show("size", stat_at(dir, 0, "file").map(|stat| stat.size));
    show("put", put(dir, "file", "text\n"));
    let given = open_to_read(RW, "n").expect("a directory");
    let before = fdstat(given).expect("a directory");
    show("hand on no size", set_rights(given, before.base, before.inheriting & !(1 << 22)));
    tried("empty all the same", open(given, 0, "file", oflags::TRUNC, 0, 0).and_then(close));
    show("give up emptying", set_rights(given, before.base & !(1 << 19), before.inheriting & !(1 << 22)));
    show("it is given up", fdstat(given).map(|stat| stat.base & (1 << 19)));
    show("put", put(dir, "file", "text\n"));
    tried("empty", open(given, 0, "file", oflags::TRUNC, 0, 0).and_then(close));
    show("size", stat_at(dir, 0, "file").map(|stat| stat.size));
    show("close", close(given));
    show("unlink", unlink(dir, "file"));
}
