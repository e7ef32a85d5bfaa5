//! Times of files.

use preview1::{FOLLOW, create, now, open_to_read, set_times, set_times_at, show, stat, stat_at, text, unlink, write};

const RW: u32 = 3;

const ATIM: i32 = 1;
const ATIM_NOW: i32 = 2;
const MTIM: i32 = 4;
const MTIM_NOW: i32 = 8;

/// Long ago, with nanoseconds.
const THEN: u64 = 1_000_000_000_123_456_789;

fn main() {
    let fd = create(RW, "made").expect("a file");
    show("both", set_times(fd, THEN, THEN + 1, ATIM | MTIM));
    show("they are", stat(fd).map(|stat| (stat.atim, stat.mtim)));
    show("one", set_times(fd, THEN + 5, 0, ATIM));
    show("they are", stat(fd).map(|stat| (stat.atim, stat.mtim)));
    show("none", set_times(fd, 1, 1, 0));
    show("they are", stat(fd).map(|stat| (stat.atim, stat.mtim)));
    show("zero", set_times(fd, 0, 0, ATIM | MTIM));
    show("they are", stat(fd).map(|stat| (stat.atim, stat.mtim)));
    show("now", set_times(fd, 0, 0, ATIM_NOW | MTIM_NOW));
    show("they are", stat(fd).and_then(|stat| Ok((near(stat.atim)?, near(stat.mtim)?))));
    show("given and now", set_times(fd, THEN, THEN, ATIM | ATIM_NOW));
    show("given and now", set_times(fd, THEN, THEN, MTIM | MTIM_NOW));
    show("one given, one now", set_times(fd, THEN, 0, ATIM | MTIM_NOW));
    show("they are", stat(fd).and_then(|stat| Ok((stat.atim, near(stat.mtim)?))));
    by_path();
    by_use(fd);
    show("of stdin", set_times(0, 0, 0, ATIM));
    show("of nothing", set_times(99, 0, 0, ATIM));
    show("of a directory", set_times(RW, THEN, THEN, ATIM | MTIM));
    show("they are", stat(RW).map(|stat| (stat.atim == THEN, stat.mtim == THEN)));
    show("unlink", unlink(RW, "made"));
}

fn near(time: u64) -> preview1::Answer<bool> {
    now(0).map(|now| now.abs_diff(time) < 60_000_000_000)
}

fn by_path() {
    show("by path", set_times_at(RW, 0, "made", THEN, THEN + 2, ATIM | MTIM));
    show("they are", stat_at(RW, 0, "made").map(|stat| (stat.atim, stat.mtim)));
    show("of a link", set_times_at(RW, 0, "inside", THEN, THEN + 3, ATIM | MTIM));
    show("they are", stat_at(RW, 0, "inside").map(|stat| (stat.atim, stat.mtim)));
    show("through a link", set_times_at(RW, FOLLOW, "inside", THEN, THEN + 4, ATIM | MTIM));
    show("they are", stat_at(RW, 0, "file").map(|stat| (stat.atim, stat.mtim)));
    show("of a directory by path", set_times_at(RW, FOLLOW, "dir", THEN, THEN, ATIM | MTIM));
    show("they are", stat_at(RW, 0, "dir").map(|stat| (stat.atim, stat.mtim)));
    show("of missing", set_times_at(RW, 0, "missing", THEN, THEN, ATIM));
    show("of a dangling link", set_times_at(RW, FOLLOW, "dangling", THEN, THEN, ATIM));
    show("given and now by path", set_times_at(RW, 0, "made", THEN, THEN, ATIM | ATIM_NOW));
    show("outside", set_times_at(RW, FOLLOW, "../secret/key", THEN, THEN, ATIM));
    show("outside by a link", set_times_at(RW, FOLLOW, "outside", THEN, THEN, ATIM));
}

/// Writing and changing set the time, as they do outside.
fn by_use(fd: u32) {
    let before = stat(fd).expect("it is there");
    show("write", write(fd, &[b"x"]));
    show("it was modified now", stat(fd).and_then(|stat| near(stat.mtim)));
    show("changed is no older", stat(fd).map(|stat| stat.ctim >= before.ctim));
    show("changed now", stat(fd).and_then(|stat| near(stat.ctim)));
    show("read", open_to_read(RW, "made").and_then(text));
}
