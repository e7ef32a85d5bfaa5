//! Reading directories: more entries than fit, buffers that cut them, cookies while files come and go.

use std::collections::BTreeSet;

use preview1::{Entry, close, entries, list, mkdir, oflags, open, open_to_read, put, readdir, rights, rmdir, show, unlink};

const RW: u32 = 3;

/// More than one buffer takes.
const FILES: usize = 1200;

fn name(index: usize) -> String {
    format!("file-{index:04}-with-a-name-of-some-length")
}

fn names(all: &[Entry]) -> BTreeSet<&str> {
    all.iter().map(|entry| entry.name.as_str()).collect()
}

fn main() {
    show("mkdir", mkdir(RW, "many"));
    let empty = open_to_read(RW, "many").expect("a directory");
    show(
        "empty",
        list(empty, 4096, 0).map(|all| all.into_iter().map(|entry| (entry.name, entry.next, entry.ty)).collect::<Vec<_>>()),
    );
    for index in 0..FILES {
        put(RW, &format!("many/{}", name(index)), "").expect("a file");
    }
    show("mkdir below", mkdir(RW, "many/dir"));
    show("link below", preview1::symlink("dir", RW, "many/link"));
    let fd = open_to_read(RW, "many").expect("a directory");
    sizes(fd);
    cut(fd);
    cookies(fd);
    changes(fd);
    errors(fd);
    clean(fd);
}

fn sizes(fd: u32) {
    for room in [300, 1024, 4096, 65536, 1 << 20] {
        let all = list(fd, room, 0).expect("a listing");
        show(&format!("entries by {room}"), Ok((all.len(), names(&all).len())));
    }
    let all = list(fd, 4096, 0).expect("a listing");
    show("first", Ok((all[0].name.as_str(), all[1].name.as_str(), all[0].ty, all[1].ty)));
    show("the same directory", preview1::stat(fd).map(|stat| (stat.ino == all[0].ino, stat.ino == all[1].ino)));
    let of = |name: &str| all.iter().find(|entry| entry.name == name).expect("an entry");
    show("kinds", Ok((of("dir").ty, of("link").ty, of(&name(7)).ty)));
    let stat = preview1::stat_at(RW, 0, &format!("many/{}", name(7)));
    show("the same file", stat.map(|stat| stat.ino == of(&name(7)).ino));
    show("cookies in order", Ok(all.windows(2).all(|two| two[0].next < two[1].next)));
}

fn cut(fd: u32) {
    let mut buffer = [0; 100];
    for room in [0, 1, 23, 24, 25, 48, 49, 51, 60] {
        let used = readdir(fd, &mut buffer[..room], 0).expect("a part of a listing");
        show(&format!("bytes in {room}"), Ok((used, entries(&buffer[..used]).len())));
    }
}

fn cookies(fd: u32) {
    let all = list(fd, 4096, 0).expect("a listing");
    for at in [1, 2, 3, 600, FILES, FILES + 2] {
        let rest = list(fd, 4096, all[at].next).expect("the rest");
        show(&format!("the rest from {at}"), Ok((rest.len(), rest.as_slice() == &all[at + 1..])));
    }
    show("from the end", list(fd, 4096, all.last().expect("an entry").next).map(|rest| rest.len()));
    show("from far behind the end", list(fd, 4096, 1 << 40).map(|rest| rest.len()));
    show("from the largest number", list(fd, 4096, u64::MAX).map(|rest| rest.len()));
    show("from the start again", list(fd, 4096, 0).map(|again| again == all));
}

/// What is there all the time comes exactly once, though others come and go meanwhile.
fn changes(fd: u32) {
    let mut buffer = vec![0; 4096];
    let used = readdir(fd, &mut buffer, 0).expect("a part of a listing");
    let some = entries(&buffer[..used]);
    let cookie = some.last().expect("an entry").next;
    // What was read already, and a few that were not.
    let mut removed = BTreeSet::new();
    for entry in some.iter().filter(|entry| entry.ty == 4) {
        unlink(fd, &entry.name).expect("it is there");
        removed.insert(entry.name.clone());
    }
    for index in 0..50 {
        put(RW, &format!("many/added-{index}"), "").expect("a file");
    }
    let rest = list(fd, 4096, cookie).expect("the rest");
    let seen: Vec<&str> =
        some.iter().chain(&rest).map(|entry| entry.name.as_str()).filter(|name| name.starts_with("file")).collect();
    let once: BTreeSet<&str> = seen.iter().copied().collect();
    show("while others come and go", Ok((seen.len(), once.len())));
    show("afterwards", list(fd, 4096, 0).map(|all| all.len() + removed.len()));
}

fn errors(fd: u32) {
    let mut buffer = [0; 256];
    let file = open(RW, 0, "file", 0, rights::FD_READ, 0).expect("a file");
    show("of a file", readdir(file, &mut buffer, 0));
    show("of stdin", readdir(0, &mut buffer, 0));
    show("of nothing", readdir(99, &mut buffer, 0));
    let known = open(fd, 0, "dir", oflags::DIRECTORY, rights::FD_READDIR, 0);
    show("without reading", known.and_then(|fd| readdir(fd, &mut buffer, 0)));
    show("remove it", rmdir(fd, "dir"));
    show("of what is removed", known.and_then(|fd| readdir(fd, &mut buffer, 2)));
}

fn clean(fd: u32) {
    let all = list(fd, 4096, 0).expect("a listing");
    for entry in all.iter().filter(|entry| entry.ty != 3) {
        unlink(fd, &entry.name).expect("it is there");
    }
    show("nothing left", list(fd, 4096, 0).map(|all| all.len()));
    show("close", close(fd));
    show("rmdir", rmdir(RW, "many"));
}
