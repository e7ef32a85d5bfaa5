//! What a component writes on the terminal's streams: who holds it, and who is told of what fails.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use testkit::guest;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.arg("run").arg(guest("cli-unflushed")).args(args);
    command
}

/// How much waits for a reader is bounded for all streams of a component together, not for each.
#[test]
fn streams_that_are_dropped_hold_no_more_than_one() {
    let mut command = command(&["--", "streams"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (mut stdout, mut stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let mut said = Vec::new();
    // Nobody reads what it writes until it has written what it may.
    while said.last() != Some(&b'\n') {
        let mut byte = [0];
        stderr.read_exact(&mut byte).expect("a line");
        said.push(byte[0]);
    }
    let written: usize = String::from_utf8_lossy(&said).trim().parse().expect("a number");
    assert!((64 << 10..2 << 20).contains(&written), "{written}");
    let mut out = Vec::new();
    stdout.read_to_end(&mut out).expect("all of it");
    assert_eq!(out.len(), written);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_it_wrote_last_and_could_not_be_written_is_its_failure() {
    for args in [&[][..], &["--", "streams"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let mut command = command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()).spawn().expect("it starts");
        // One piece: it is not told before it ends.
        child.stdin.take().expect("a pipe").write_all(b"text").expect("it reads");
        let ended = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let sentence = "error: what the program wrote last could not be written: No space left on device (os error 28)\n";
        assert!(ended.status.code() == Some(1) && stderr.ends_with(sentence), "{args:?}: {:?}, {stderr}", ended.status);
    }
}
