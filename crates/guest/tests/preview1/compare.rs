//! Programs of ours, one for a group of functions, print what they see, under our own and under wasmtime's. Where the
//! two differ, the reason is in a table.

use std::collections::BTreeSet;

use crate::reference;
use crate::support::{Ground, Host, Start};
use bytes::Bytes;

/// Where we differ: the program, what it tried, what we answer, what wasmtime answers.
type Difference = (&'static str, &'static str, &'static str, &'static str);

/// Why we differ, and where.
const DIFFERENCES: &[(&str, &[Difference])] = &[
    (
        "A new descriptor gets the lowest free number, as POSIX has it and as the standard streams are replaced; theirs the highest that was freed.",
        &[
            ("preview1-descriptors", "a's number is free", "5", "6"),
            ("preview1-descriptors", "all again", "5", "7"),
            ("preview1-descriptors", "close", "()", "BADF"),
            ("preview1-descriptors", "the old number is free", "3", "6"),
            ("preview1-descriptors", "its number is given again", "0", "104"),
            ("preview1-descriptors", "and read", r#""content\n""#, "BADF"),
            ("preview1-descriptors", "the lowest number", "2", "103"),
            ("preview1-descriptors", "write that", "1", "BADF"),
        ],
    ),
    (
        "A program has at most 64 descriptors.",
        &[("preview1-descriptors", "too many", "MFILE", "none"), ("preview1-descriptors", "highest", "Some(63)", "Some(104)")],
    ),
    (
        "Space is allocated where the file system can.",
        &[
            ("preview1-files", "allocate", "()", "NOTSUP"),
            ("preview1-files", "allocate nothing", "INVAL", "NOTSUP"),
            ("preview1-files", "allocate too far", "FBIG", "NOTSUP"),
            ("preview1-files", "allocated", "100", "6"),
        ],
    ),
    (
        "Files can be opened so that writes reach the disk before they return.",
        &[
            ("preview1-files", "opened with 16", "16", "NOTSUP"),
            ("preview1-files", "opened with 2", "2", "NOTSUP"),
            ("preview1-files", "write", "1", "NOTSUP"),
        ],
    ),
    (
        "A directory can be written out, and its times set, as on Linux: databases do the first.",
        &[
            ("preview1-files", "sync a directory", "()", "BADF"),
            ("preview1-files", "datasync a directory", "()", "BADF"),
            ("preview1-times", "of a directory", "()", "BADF"),
            ("preview1-times", "they are", "(true, true)", "(false, false)"),
        ],
    ),
    (
        "Any descriptor takes flags; where one means nothing, it does nothing.",
        &[("preview1-files", "set on a directory", "()", "BADF"), ("preview1-files", "set on stdin", "()", "BADF")],
    ),
    (
        "The number POSIX has for the wrong kind of thing, which programs print as words.",
        &[
            ("preview1-files", "read a directory", "ISDIR", "BADF"),
            ("preview1-files", "pread a directory", "ISDIR", "BADF"),
            ("preview1-readdir", "of a file", "NOTDIR", "BADF"),
            ("preview1-paths", "in a file", "NOTDIR", "BADF"),
        ],
    ),
    (
        "A file that was opened for reading is not written, though it was created.",
        &[("preview1-files", "maker that reads writes", "BADF", "1")],
    ),
    ("Positions are those a system's file can have.", &[("preview1-files", "seek 1 1", "INVAL", "9223372036854775808")]),
    (
        "There are clocks of what the program has computed.",
        &[
            ("preview1-poll", "resolution of 2", "true", "BADF"),
            ("preview1-poll", "time of 2", "()", "BADF"),
            ("preview1-poll", "resolution of 3", "true", "BADF"),
            ("preview1-poll", "time of 3", "()", "BADF"),
        ],
    ),
    (
        "What is wrong with one subscription is said in its event, as preview 1 has it; the others go on.",
        &[
            ("preview1-poll", "by a clock of computing", r#"[(0, "INVAL", 0)]"#, "INVAL"),
            ("preview1-poll", "read a directory", r#"[(0, "BADF", 1)]"#, "BADF"),
            ("preview1-poll", "read nothing", r#"[(0, "BADF", 1)]"#, "BADF"),
            ("preview1-poll", "read stdout", r#"[(0, "BADF", 1)]"#, "BADF"),
            ("preview1-poll", "write stdin", r#"[(0, "BADF", 2)]"#, "BADF"),
            ("preview1-poll", "write nothing, and a time", r#"[(0, "BADF", 2), (1, "SUCCESS", 0)]"#, "BADF"),
        ],
    ),
    ("At most 4,096 subscriptions at once.", &[("preview1-poll", "for very much", "INVAL", "5000")]),
    ("At most 1,024 buffers at once, as on Linux.", &[("preview1-stdio", "1025 buffers", "INVAL", "()")]),
    (
        "All buffers of a list are used; theirs only the first that is not empty.",
        &[
            ("c-files", "writev", "3", "1"),
            ("c-files", "position", "10", "8"),
            ("preview1-files", "pread into two", "(6, \"345678\")", "(4, \"3456\")"),
            ("preview1-files", "pwrite from two", "3", "1"),
            ("preview1-files", "after that", "\"0abc456789\"", "\"0a23456789\""),
        ],
    ),
    (
        "What is there all the time is listed once, whatever is removed meanwhile; theirs counts anew in what is left.",
        &[
            ("preview1-readdir", "while others come and go", "(1200, 1200)", "(1138, 1138)"),
            ("c-directories", "removed", "1500", "772"),
            ("c-directories", "rmdir", "0", "Directory not empty"),
            ("c-directories", "rmdir again", "No such file or directory", "Directory not empty"),
        ],
    ),
    (
        "Rights can be given up, and are gone then.",
        &[
            ("preview1-rights", "give up writing", "()", "NOTSUP"),
            ("preview1-rights", "write", "NOTCAPABLE", "1"),
            ("preview1-rights", "reported", "0", "64"),
            ("preview1-rights", "take it back", "NOTCAPABLE", "NOTSUP"),
            ("preview1-rights", "give up seeking", "()", "NOTSUP"),
            ("preview1-rights", "seek", "NOTCAPABLE", "0"),
            ("preview1-rights", "tell by seeking", "4", "0"),
            ("preview1-rights", "tell", "4", "0"),
            ("preview1-rights", "pread", "NOTCAPABLE", "4"),
            ("preview1-rights", "stat", "NOTCAPABLE", "5"),
            ("preview1-rights", "give up all", "()", "NOTSUP"),
            ("preview1-rights", "read", "NOTCAPABLE", "4"),
            ("preview1-rights", "hand on no writing", "()", "NOTSUP"),
            ("preview1-rights", "make below", "NOTCAPABLE", "()"),
            ("preview1-rights", "give up opening", "()", "NOTSUP"),
            ("preview1-rights", "open below", "NOTCAPABLE", "()"),
            ("preview1-names", "hand on no size", "()", "NOTSUP"),
            ("preview1-names", "give up emptying", "()", "NOTSUP"),
            ("preview1-names", "empty", "NOTCAPABLE", "()"),
            ("preview1-names", "size", "5", "0"),
        ],
    ),
];

async fn compare(program: &str, args: &[&str], stdin: &'static str) {
    let file = testkit::guest(program);
    let start = |ground: &Ground| Start {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec![("NAME".into(), "value".into()), ("EMPTY".into(), String::new())],
        stdin: Bytes::from_static(stdin.as_bytes()),
        dirs: ground.directories(),
        inherits: false,
    };
    let (ground, other) = (Ground::new(), Ground::new());
    let (ours, code) = Host::new().output(&file, &start(&ground)).await;
    let (theirs, their_code) = reference::output(&file, &start(&other)).await;
    assert_eq!(code, their_code, "{ours}");
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.lines().collect(), theirs.lines().collect());
    assert!(ours.len() > 10, "{program} printed {ours:#?}");
    let split = |line: &str| {
        line.split_once(": ").map_or((line.to_owned(), String::new()), |(what, saw)| (what.to_owned(), saw.to_owned()))
    };
    let differences: Vec<_> = DIFFERENCES.iter().flat_map(|(_, differences)| *differences).collect();
    let mut unexplained = BTreeSet::new();
    let mut explained = BTreeSet::new();
    for (mine, other) in ours.iter().zip(&theirs).filter(|(mine, other)| mine != other) {
        let ((what, saw), (other_what, other_saw)) = (split(mine), split(other));
        assert_eq!(what, other_what, "{program} took another way");
        let known = differences
            .iter()
            .position(|(of, tried, here, there)| *of == program && *tried == what && *here == saw && *there == other_saw);
        match known {
            Some(index) => drop(explained.insert(index)),
            None => drop(unexplained.insert(format!("(\"{program}\", \"{what}\", \"{saw}\", \"{other_saw}\"),"))),
        }
    }
    let unexplained = Vec::from_iter(unexplained).join("\n");
    assert!(unexplained.is_empty(), "no reason is known for:\n{unexplained}");
    assert_eq!(ours.len(), theirs.len(), "{program} printed more under one:\n{ours:#?}\n{theirs:#?}");
    for (index, difference) in differences.iter().enumerate().filter(|(_, difference)| difference.0 == program) {
        assert!(explained.contains(&index), "there is no such difference any more: {difference:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_are_as_in_wasmtime() {
    compare("preview1-paths", &[], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_as_in_wasmtime() {
    compare("preview1-names", &[], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_directories_is_as_in_wasmtime() {
    compare("preview1-readdir", &[], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_as_in_wasmtime() {
    compare("preview1-files", &[], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_as_in_wasmtime() {
    compare("preview1-times", &[], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_are_as_in_wasmtime() {
    compare("preview1-descriptors", &[], "input\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_and_waiting_are_as_in_wasmtime() {
    compare("preview1-poll", &[], "input\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_as_in_wasmtime() {
    compare("preview1-rights", &[], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_streams_are_as_in_wasmtime() {
    compare("preview1-stdio", &["one", "two words", "drei ß"], "hello and goodbye\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_by_a_c_library_are_as_in_wasmtime() {
    compare("c-files", &[], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_by_a_c_library_are_as_in_wasmtime() {
    compare("c-directories", &[], "").await;
}
