//! Programs on this process's own standard streams. The process is this very test, started once more.

use std::env;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use crate::support::{Host, Start};
use base::Limits;

/// Set for the process whose streams a program gets.
const CHILD: &str = "PREVIEW1_STREAMS_CHILD";

/// Not a test: what the other process does.
#[test]
fn the_other_process() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let code = runtime.block_on(async {
        let host = Host::new();
        let start = Start { args: vec!["echo".into()], inherits: true, ..Start::default() };
        let version = host.prepare(&testkit::guest("preview1-stdio"), &start, Limits::default()).expect("a program");
        host.run(&version, &start).await.expect("it ends").code
    });
    // Not by returning: whoever holds the pipes must not hold this process.
    std::process::exit(i32::try_from(code).expect("a small number"));
}

fn other_process() -> Child {
    let mut command = Command::new(env::current_exe().expect("this test"));
    command.args(["--exact", "streams::the_other_process", "--nocapture"]).env(CHILD, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("another process")
}

/// Reads until `expected` came.
fn read_until(from: &mut impl std::io::Read, expected: &str) {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with(expected) {
        assert_eq!(from.read(&mut byte).expect("bytes"), 1, "it ended after {text:?}");
        text.push(byte[0] as char);
    }
}

#[test]
fn bytes_stream_both_ways_until_the_end() {
    let mut child = other_process();
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    for text in ["one", "two\n", "three"] {
        stdin.write_all(text.as_bytes()).expect("it reads");
        // Before more is written: nothing is held back.
        read_until(&mut stdout, &format!("<{text}>"));
    }
    drop(stdin);
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    assert!(stderr.ends_with("the end"), "{stderr}");
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
}

#[test]
fn nobody_who_reads_is_an_error_of_its_own() {
    let mut child = other_process();
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdin.write_all(b"one").expect("it reads");
    read_until(&mut stdout, "<one>");
    drop(stdout);
    stdin.write_all(b"two").expect("it reads");
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    assert!(stderr.ends_with("PIPE"), "{stderr}");
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
}
