//! `fornax run PROGRAM`: a program on the terminal, as if it were one of the system's own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testkit::{App, Finished, Fornax, guest, run_to_end, run_to_end_with, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(60);

/// One program as a module of preview 1 and as components of both generations.
const KINDS: [&str; 3] = ["p1-command", "cli-component", "cli-component3"];

fn command(file: impl Into<PathBuf>, args: &[&str]) -> Command {
    let mut command = Command::new(FORNAX);
    command.arg("run").arg(file.into()).args(args);
    command
}

fn run(name: &str, args: &[&str]) -> Finished {
    run_to_end(&mut command(guest(name), args))
}

/// A core module, by hand.
fn module(app: &App, name: &str, text: &str) -> PathBuf {
    app.file(name, &wat::parse_str(format!("(module {text})")).expect("a module"))
}

/// A program that someone talks to. Killed when it is dropped.
struct Dialogue {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Dialogue {
    fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = piped.spawn().expect("the program starts");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        Self { child, stdin, lines: read_lines(stdout) }
    }

    fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("not closed");
        stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).expect("it reads");
    }

    #[track_caller]
    fn hears(&self, line: &str) {
        assert_eq!(self.lines.recv_timeout(SOON).as_deref(), Ok(line));
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("it is there");
    }

    /// Standard input ends, and then the program.
    fn wait(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.wait_open()
    }

    fn wait_open(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program ends", SOON, || {
            status = self.child.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("just seen")
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

#[test]
fn standard_streams_flow_both_ways_while_it_runs() {
    for (name, answer) in KINDS.into_iter().zip(["input: ", "input: ", ""]) {
        let mut dialogue = Dialogue::start(&mut command(guest(name), &["--", "now"]));
        dialogue.hears("argument: now");
        for line in ["first", "second", "third"] {
            dialogue.say(&format!("{line}\n"));
            dialogue.hears(&format!("{answer}{line}"));
        }
        assert_eq!(dialogue.wait().code(), Some(0), "{name}");
    }
}

#[test]
fn arguments_environment_and_input_arrive_whole() {
    for name in KINDS {
        let mut long = command(guest(name), &["--env", "A=1", "--env", "EMPTY=", "--", "--env", "", "ä b", "--"]);
        let ended = run_to_end_with(long.env("SECRET", "of the host"), "x".repeat(300_000).as_bytes());
        let printed = "argument: --env\nargument: \nargument: ä b\nargument: --\nvariable: A=1\nvariable: EMPTY=\n";
        assert!(ended.stdout.starts_with(printed), "{name}: {:?}", ended.stdout.get(..200));
        assert!(!ended.stdout.contains("SECRET"), "{name}");
        assert_eq!(ended.stdout.matches('x').count(), 300_000, "{name}");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), "command: done\n"), "{name}");
    }
}

#[test]
fn exit_codes_pass_through() {
    assert_eq!(run("p1-command", &["--", "exit=7"]).code, Some(7));
    assert_eq!(run("p1-command", &["--", "exit=255"]).code, Some(255));
    assert_eq!(run("cli-component", &["--", "exit=7"]).code, Some(1));
    assert_eq!(run("cli-component3", &["--", "fail"]).code, Some(1));
    let app = App::new();
    // A process has eight bits for its code, and what failed must not look like success.
    for (code, seen) in [(0, 0), (1, 1), (125, 125), (256, 1), (263, 7), (512, 1), (-1, 255)] {
        let exits = format!(
            "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
             (memory (export \"memory\") 1) (func (export \"_start\") (call $exit (i32.const {code})))"
        );
        let ended = run_to_end(&mut command(module(&app, "exits.wasm", &exits), &[]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(seen), ""), "{code}");
    }
}

#[test]
fn a_trap_shows_the_guests_functions() {
    for name in ["p1-command", "cli-component"] {
        let ended = run(name, &["--", "trap"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(134), "argument: trap\n"), "{name}: {}", ended.stderr);
        let at = |part| ended.stderr.find(part).unwrap_or_else(|| panic!("{name}: {part} is missing in\n{}", ended.stderr));
        assert!(at("error: the guest trapped") < at("inner_trap"), "{name}");
        assert!(at("inner_trap") < at("middle_function") && at("middle_function") < at("outer_function"), "{name}");
    }
    let ended = run("hostile-run-recursion", &[]);
    assert!(ended.code == Some(134) && ended.stderr.contains("error: the guest used up its stack"), "{ended:?}");
}

#[test]
fn directories_are_what_was_granted() {
    let app = App::new();
    fs::create_dir(app.folder().join("data")).expect("a directory");
    app.file("data/a.txt", b"content");
    app.file("outside.txt", b"outside");
    let grant = format!("{}::/data", app.folder().join("data").display());
    for name in ["p1-command", "cli-component"] {
        for (access, args, expected) in [
            ("", &["file=/data/a.txt"][..], "file: content\n"),
            (":ro", &["file=/data/a.txt"], "file: content\n"),
            (":rw", &["file=/data/a.txt"], "file: content\n"),
        ] {
            let grant = format!("{grant}{access}");
            let ended = run(name, &[&["--dir", &grant, "--"], args].concat());
            assert!(ended.code == Some(0) && ended.stdout.ends_with(expected), "{name}{access}: {ended:?}");
        }
        for path in ["/data/../outside.txt", "/outside.txt", "/etc/passwd", "../outside.txt"] {
            let ended = run(name, &["--dir", &grant, "--", &format!("file={path}")]);
            assert!(!ended.stdout.contains("outside\n") && !ended.stdout.contains("root:"), "{name} {path}: {ended:?}");
        }
    }
    let creates = module(&app, "creates.wasm", CREATES);
    for (access, code, exists) in [("", PERM, false), (":ro", PERM, false), (":rw", 0, true)] {
        let grant = format!("{grant}{access}");
        let ended = run_to_end(&mut command(&creates, &["--dir", &grant]));
        assert_eq!((ended.code, app.folder().join("data/new").exists()), (Some(code), exists), "{access:?}: {}", ended.stderr);
    }
}

/// The number of `EPERM` in preview 1.
const PERM: i32 = 63;

/// Creates `new` in its first directory and ends with the error's number.
const CREATES: &str = r#"
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "path_open"
      (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 64) "new")
    (func (export "_start")
      (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 3) (i32.const 1)
        (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 0))))"#;

#[test]
fn limits_end_it_with_a_sentence() {
    for (name, args, code, sentence) in [
        ("hostile-run-loop", &["--timeout", "300ms"][..], 1, "error: the guest "),
        ("hostile-run-sleeper", &["--timeout", "300ms"], 1, "error: the guest did not answer in time"),
        ("hostile-run-memory-bomb", &["--memory", "16MiB"], 134, "error: the guest wanted more memory than its limit"),
    ] {
        let ended = run(name, args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{name}: {}", ended.stderr);
        assert!(ended.stderr.lines().any(|line| line.starts_with(sentence)), "{name}: {}", ended.stderr);
    }
    for (size, wrong) in [
        ("8GiB", "is over its cap of 1 GiB"),
        ("0", "must be more than 0"),
        ("much", "is no size; write a number and a unit, such as `64MiB`"),
    ] {
        let ended = run("p1-command", &["--memory", size]);
        assert_eq!((ended.code, ended.stderr), (Some(1), format!("error: --memory `{size}` {wrong}\n")));
    }
    // One that waits for its input is no loop.
    let mut waits = Dialogue::start(&mut command(guest("p1-command"), &["--timeout", "300ms", "--", "now"]));
    waits.hears("argument: now");
    assert_eq!(waits.wait_open().code(), Some(1));
}

#[test]
fn without_a_limit_it_may_take_longer_than_any_call() {
    // A call may compute for a second; this one computes for two.
    let app = App::new();
    let burns = "(import \"wasi_snapshot_preview1\" \"clock_time_get\" (func $clock (param i32 i64 i32) (result i32)))
         (memory (export \"memory\") 1)
         (func (export \"_start\")
           (loop $again
             (drop (call $clock (i32.const 2) (i64.const 1) (i32.const 0)))
             (br_if $again (i64.lt_u (i64.load (i32.const 0)) (i64.const 2000000000)))))";
    let ended = run_to_end(&mut command(module(&app, "burns.wasm", burns), &[]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_leaves_ends_a_flood() {
    let mut flood =
        command(guest("hostile-run-flood"), &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut stdout = flood.stdout.take().expect("a pipe");
    let mut some = [0; 1000];
    stdout.read_exact(&mut some).expect("it floods");
    assert!(some.iter().all(|byte| *byte == b'x'));
    drop(stdout);
    let mut flood = Dialogue { child: flood, stdin: None, lines: channel().1 };
    // Its write fails, and it ends as it likes to.
    let status = flood.wait();
    assert!(status.code().is_some(), "{status:?}, signal {:?}", status.signal());
}

/// A program that prints the names of the directories it has, each in brackets.
const LISTS_DIRECTORIES: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $name (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 64) "[") (data (i32.const 65) "]")
    (func $print (param i32 i32)
      (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
    (func (export "_start") (local $fd i32)
      (local.set $fd (i32.const 3))
      (loop $next
        (if (i32.eqz (call $get (local.get $fd) (i32.const 16)))
          (then
            (drop (call $name (local.get $fd) (i32.const 128) (i32.load (i32.const 20))))
            (call $print (i32.const 64) (i32.const 1))
            (call $print (i32.const 128) (i32.load (i32.const 20)))
            (call $print (i32.const 65) (i32.const 1))
            (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
            (br $next)))))"#;

#[test]
fn directories_have_the_names_they_were_given() {
    let app = App::new();
    fs::create_dir(app.folder().join("sub")).expect("a directory");
    app.file("sub/hello.txt", b"hello");
    let grants: Vec<_> =
        [".", "fs-tests.dir", "a/b", "/", "/data"].iter().map(|name| format!("{}/sub::{name}", app.folder().display())).collect();
    let dirs: Vec<_> = grants.iter().flat_map(|grant| ["--dir", grant]).collect();
    let ended = run_to_end(&mut command(module(&app, "lists.wasm", LISTS_DIRECTORIES), &dirs));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "[.][fs-tests.dir][a/b][/][/data]"), "{}", ended.stderr);
    for name in ["p1-command", "cli-component"] {
        for path in ["hello.txt", "fs-tests.dir/hello.txt", "a/b/hello.txt"] {
            let ended = run_to_end(&mut command(guest(name), &[&dirs[..6], &["--", &format!("file={path}")]].concat()));
            assert!(ended.stdout.contains("file: hello\n"), "{name}, {path}: {}", ended.stdout);
        }
    }
}

/// A program that writes three megabytes with one call: to standard output, or to a file; and ends with 0 if all of it was taken.
const WRITES_AT_ONCE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pwrite" (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "path_open"
      (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 64) (data (i32.const 64) "new")
    (func $all (param i32)
      (drop (call $write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.ne (i32.load (i32.const 8)) (i32.const 3000000)) (then (call $exit (i32.const 1)))))
    (func (export "_start")
      (i32.store (i32.const 0) (i32.const 128)) (i32.store (i32.const 4) (i32.const 3000000))
      (call $all (i32.const 1))
      (call $all (i32.const 2))
      (drop (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 3) (i32.const 1)
        (i64.const 68) (i64.const 0) (i32.const 0) (i32.const 12)))
      (call $all (i32.load (i32.const 12)))
      (drop (call $pwrite (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i64.const 2000000) (i32.const 8)))
      (call $exit (i32.ne (i32.load (i32.const 8)) (i32.const 3000000))))"#;

#[test]
fn one_write_takes_all_that_it_gives() {
    let app = App::new();
    let dir = format!("{}::/:rw", app.folder().display());
    let ended = run_to_end(&mut command(module(&app, "writes.wasm", WRITES_AT_ONCE), &["--dir", &dir]));
    assert_eq!((ended.code, ended.stdout.len(), ended.stderr.len()), (Some(0), 3_000_000, 3_000_000));
    assert_eq!(fs::metadata(app.folder().join("new")).expect("a file").len(), 5_000_000);
}

#[test]
fn what_it_has_not_flushed_is_out_when_it_has_ended() {
    let text = "x".repeat(300_000);
    let ended = run_to_end_with(&mut command(guest("cli-unflushed"), &[]), text.as_bytes());
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), text.len()), "{}", ended.stderr);
}

/// A program that writes to somebody who does not read waits, and so does nobody else.
#[test]
fn nobody_who_reads_holds_neither_a_signal_nor_the_time_it_may_take() {
    // More than a pipe holds.
    let long = "x".repeat(100_000);
    let flood = |name: &str, args: &[&str]| {
        let mut command = command(guest(name), args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        (Dialogue { child, stdin: None, lines: channel().1 }, stdout)
    };
    for (name, args) in [
        ("hostile-run-flood", &["--"][..]),
        ("cli-unflushed", &["--", "flood"]),
        ("cli-component", &["--", &long]),
        ("cli-component3", &["--", &long]),
    ] {
        let (mut signalled, mut stdout) = flood(name, args);
        // It has begun.
        stdout.read_exact(&mut [0]).expect("a byte");
        signalled.terminate();
        assert_eq!(signalled.wait_open().code(), Some(143), "{name}");
        let (mut timed, _stdout) = flood(name, &[&["--timeout", "300ms"], args].concat());
        assert_eq!(timed.wait_open().code(), Some(1), "{name}");
    }
}

#[test]
fn a_signal_ends_it() {
    for (name, args) in
        [("p1-command", &["--", "now"][..]), ("cli-component", &["--", "now"]), ("cli-component3", &["--", "now"])]
    {
        let mut dialogue = Dialogue::start(&mut command(guest(name), args));
        dialogue.hears("argument: now");
        dialogue.terminate();
        assert_eq!(dialogue.wait_open().code(), Some(143), "{name}");
    }
}

#[test]
fn a_loop_ends_at_a_signal_too() {
    let app = App::new();
    let says_and_loops = r#"
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\06\00\00\00") (data (i32.const 16) "ready\n")
        (func (export "_start")
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
          (loop $again (br $again)))"#;
    let mut dialogue = Dialogue::start(&mut command(module(&app, "loops.wasm", says_and_loops), &[]));
    dialogue.hears("ready");
    dialogue.terminate();
    assert_eq!(dialogue.wait_open().code(), Some(143));
}

#[test]
fn one_entry_of_several_is_chosen_by_its_name() {
    let ended = run("multi", &["--entry", "run"]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "run entry\n", ""));
    let fornax = Fornax::run(FORNAX, guest("multi"), &[]);
    assert_eq!(fornax.client().get("/").text(), "http entry\n");
}

#[test]
fn what_serves_is_refused_for_a_program() {
    let sentence = "error: a program runs once: --watch, --listen and --tls-cert are for services. To serve it over HTTP, name a codec: \
                    --codec wasio, cgi or ignis\n";
    for args in [&["--watch"][..], &["--listen", "127.0.0.1:0"]] {
        let ended = run("p1-command", args);
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(1), "", sentence));
    }
}

#[test]
fn a_codec_serves_it() {
    for (name, codec, target, expected) in [
        ("wasio-fibonacci", "wasio", "/any/path?n=10", "55"),
        ("cgi-echo", "cgi", "/?a=b", "QUERY_STRING=a=b"),
        ("ignis-hello", "ignis", "/", "Hello from Fornax!"),
    ] {
        let fornax = Fornax::run(FORNAX, guest(name), &["--codec", codec]);
        let response = fornax.client().get(target);
        assert!(response.status == 200 && response.text().contains(expected), "{name}: {response:?}");
    }
    let fornax = Fornax::run(FORNAX, guest("plugin-rot13"), &[]);
    assert_eq!(fornax.client().get("/?input=Hello").text(), "Result = Uryyb");
}
