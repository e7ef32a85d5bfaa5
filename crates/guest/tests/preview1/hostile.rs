//! Programs that mean harm, and directories that change under them: nothing is reached that was not given, nothing waits beyond
//! the deadline, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command as HostCommand;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::{Ground, Host, Start};
use base::{Kind, Limits};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(ground: &Ground, mode: &str) -> Start {
    Start { args: vec![mode.to_owned()], dirs: ground.directories(), ..Start::default() }
}

async fn output(ground: &Ground, mode: &str) -> String {
    let run = async { Host::new().output(&testkit::guest("hostile-preview1"), &start(ground, mode)).await };
    let (text, code) = tokio::time::timeout(PATIENCE, run).await.expect("it ends by itself");
    assert_eq!(code, 0, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_waits_for_an_hour_ends_at_its_deadline() {
    let ground = Ground::new();
    let host = Host::new();
    let limits = Limits { wall: Duration::from_millis(200), ..Limits::default() };
    for mode in ["sleep", "keep"] {
        let start = start(&ground, mode);
        let version = host.prepare(&testkit::guest("hostile-preview1"), &start, limits.clone()).expect("a program");
        let began = Instant::now();
        let error = host.run(&version, &start).await.expect_err("it has no answer");
        assert_eq!(error.kind, Kind::Deadline, "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{mode} took {:?}", began.elapsed());
        assert_eq!(Arc::strong_count(&version), 1, "{mode} left something behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_waits_ends_with_its_call() {
    let ground = Ground::new();
    let host = Host::new();
    let start = start(&ground, "keep");
    let version = host.prepare(&testkit::guest("hostile-preview1"), &start, Limits::default()).expect("a program");
    let file = ground.path("rw/file");
    let opened = || {
        let descriptors = fs::read_dir("/proc/self/fd").expect("a list").flatten();
        descriptors.filter(|entry| fs::read_link(entry.path()).is_ok_and(|of| of == file)).count()
    };
    let run = host.run(&version, &start);
    tokio::select! {
        ended = run => panic!("it ended by itself: {ended:?}"),
        () = async { while opened() < 59 { tokio::task::yield_now().await } } => {}
    }
    assert_eq!(Arc::strong_count(&version), 1, "the call is gone");
    // Files of writable directories are closed elsewhere.
    testkit::wait_until("its files are closed", testkit::DEADLINE, || opened() == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_without_end_end_at_the_limit() {
    let ground = Ground::new();
    let host = Host::new();
    let start = start(&ground, "random");
    let limits = Limits { cpu: Duration::from_millis(300), ..Limits::default() };
    let version = host.prepare(&testkit::guest("hostile-preview1"), &start, limits).expect("a program");
    let began = Instant::now();
    let error = host.run(&version, &start).await.expect_err("it never answers");
    assert_eq!(error.kind, Kind::CpuLimit, "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_lead_out_of_the_memory_are_errors() {
    let text = output(&Ground::new(), "lengths").await;
    assert!(text.lines().count() > 25, "{text}");
    for line in text.lines() {
        let (what, saw) = line.split_once(": ").expect("a line");
        let expected: &[&str] = match what {
            "list of 2^31" | "list of 2^32 - 1" | "poll of everything" => &["INVAL"],
            // There are none, so nothing is written.
            "environment far" => &["()"],
            // The descriptor after the granted ones.
            "next descriptor" => &["5"],
            _ if what.starts_with("unknown") => &["INVAL"],
            _ => &["FAULT"],
        };
        assert!(expected.contains(&saw), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_reads_a_bounded_number_of_bytes() {
    assert_eq!(output(&Ground::new(), "read").await, "read: Ok(()), little: true\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_end_ends_at_the_limit() {
    let ground = Ground::new();
    let host = Host::new();
    let limits = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    for mode in ["flood-log", "flood-file"] {
        let start = start(&ground, mode);
        let version = host.prepare(&testkit::guest("hostile-preview1"), &start, limits.clone()).expect("a program");
        let began = Instant::now();
        let error = host.run(&version, &start).await.expect_err("it never ends");
        assert_eq!(error.kind, Kind::Deadline, "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{mode} took {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_far_is_reached_step_by_step_or_refused() {
    let ground = Ground::new();
    fs::create_dir(ground.path("rw/many")).expect("a directory");
    for index in 0..10_000 {
        fs::write(ground.path(&format!("rw/many/{index}")), "").expect("a file");
    }
    let expected = "from 18446744073709551615: false\nfrom 10002: false\nfrom 10001: true\nfrom 4500: true\nfrom 0: true\n\
                    from 10003: false\nallocate: FBIG\n";
    assert_eq!(output(&ground, "far").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outside_is_reached_by_any_path() {
    let ground = Ground::new();
    let before = snapshot(&ground.path("secret"));
    let (text, _) = Host::new().output(&testkit::guest("preview1-paths"), &start(&ground, "")).await;
    let outside = |line: &&str| {
        let what =
            ["leave by", "stat outside", "create outside", "mkdir outside", "rmdir outside", "unlink outside", "rename out:"];
        what.iter().any(|what| line.starts_with(what)) || line.starts_with("rename in:") || line.starts_with("link ")
    };
    // Except within what is granted.
    let tried: Vec<&str> = text.lines().filter(outside).filter(|line| !line.starts_with("link of a link")).collect();
    assert!(tried.len() > 40, "{text}");
    assert!(!tried.iter().any(|line| line.ends_with("()")), "{tried:#?}");
    assert!(!text.contains("SECRET") && !text.contains("root:"), "{text}");
    assert_eq!(snapshot(&ground.path("secret")), before);
    let names: BTreeSet<_> =
        fs::read_dir(ground.path("")).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 3, "nothing was made beside what is granted: {names:?}");
    assert_eq!(fs::read_to_string(ground.path("ro/file")).expect("it is there"), "read me\n");
}

/// Makes a device, if this process may.
fn make_device(at: &Path) -> bool {
    mknodat(CWD, at, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, rustix::fs::makedev(1, 5)).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_sockets_and_devices_are_refused_at_once() {
    let ground = Ground::new();
    let made = HostCommand::new("mkfifo").arg(ground.path("rw/fifo")).status().expect("mkfifo");
    assert!(made.success());
    let _socket = UnixListener::bind(ground.path("rw/socket")).expect("a socket");
    symlink("fifo", ground.path("rw/link-to-fifo")).expect("a link");
    let device = make_device(&ground.path("rw/device"));
    let text = output(&ground, "pipes").await;
    for line in text.lines().filter(|line| device || !line.contains(" device")) {
        let (what, saw) = line.split_once(": ").expect("a line");
        let expected = if what.starts_with("stat") { "()" } else { "ACCES" };
        assert_eq!(saw, expected, "{what}");
    }
}

/// Keeps changing `rw/swap` between a directory of its own and a link to one that is not granted.
fn keep_swapping(ground: &Ground, stop: &AtomicBool) {
    let (swap, aside, link) = (ground.path("rw/swap"), ground.path("rw/aside"), ground.path("rw/link-aside"));
    let mut rounds = 0_u64;
    while !stop.load(Relaxed) {
        // Each step is atomic: `swap` is there as one or the other, or for a moment not at all.
        let _ = fs::rename(&swap, &aside);
        let _ = symlink("../secret", &link);
        let _ = fs::rename(&link, &swap);
        std::thread::yield_now();
        let _ = fs::remove_file(&swap);
        let _ = fs::rename(&aside, &swap);
        let _ = fs::write(swap.join("key"), "mine\n");
        rounds += 1;
    }
    assert!(rounds > 10, "it was hardly swapped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_swapped_for_a_link_leads_nowhere() {
    let ground = Arc::new(Ground::new());
    fs::create_dir(ground.path("rw/swap")).expect("a directory");
    fs::write(ground.path("rw/swap/key"), "mine\n").expect("a file");
    fs::write(ground.path("rw/file2"), "file2\n").expect("a file");
    fs::write(ground.path("secret/secret-name"), "SECRET\n").expect("a file");
    symlink("target-of-secret", ground.path("secret/link")).expect("a link");
    let before = snapshot(&ground.path("secret"));
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let (ground, stop) = (Arc::clone(&ground), Arc::clone(&stop));
        move || keep_swapping(&ground, &stop)
    });
    let text = output(&ground, "swap").await;
    stop.store(true, Relaxed);
    swapping.join().expect("the swapping thread");
    assert!(!text.contains("SECRET") && !text.contains("target-of-secret"), "{text}");
    assert!(text.contains("read: \"mine\\n\""), "it never saw its own:\n{text}");
    assert!(text.contains("read: PERM"), "it never met the link:\n{text}");
    for line in text.lines().filter(|line| line.starts_with("list: ") || line.starts_with("stat: (")) {
        assert!(line.starts_with("list: 0 ") || line.starts_with("list: PERM") || line.starts_with("list: NO"), "{line}");
    }
    assert_eq!(snapshot(&ground.path("secret")), before, "it was changed:\n{text}");
}

/// Names, contents and times of what lies in a directory.
fn snapshot(dir: &Path) -> BTreeSet<(String, Vec<u8>, Option<std::time::SystemTime>, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let metadata = entry.path().symlink_metadata().expect("it is there");
            let content = fs::read(entry.path()).unwrap_or_default();
            (entry.file_name().to_string_lossy().into_owned(), content, metadata.modified().ok(), metadata.nlink())
        })
        .collect()
}

/// A module in bytes: imports of functions `(module, name, parameters)` that return one number, all of them 32 bits wide, and a
/// `_start` that calls the first with zeros and forgets the number.
fn module(imports: &[(&str, &str, u8)]) -> Vec<u8> {
    fn section(id: u8, content: Vec<u8>) -> Vec<u8> {
        let mut bytes = vec![id];
        let mut len = content.len();
        while len >= 0x80 {
            bytes.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend(content);
        bytes
    }
    fn text(of: &str) -> Vec<u8> {
        let mut bytes = vec![of.len() as u8];
        bytes.extend(of.bytes());
        bytes
    }
    let count = imports.len() as u8;
    let mut types = vec![count + 1];
    for (_, _, params) in imports {
        types.extend([0x60, *params]);
        types.extend(std::iter::repeat_n(0x7f, *params as usize));
        types.extend([1, 0x7f]);
    }
    types.extend([0x60, 0, 0]);
    let mut imported = vec![count];
    for (index, (from, name, _)) in (0_u8..).zip(imports) {
        imported.extend(text(from));
        imported.extend(text(name));
        imported.extend([0, index]);
    }
    let mut exported = vec![1];
    exported.extend(text("_start"));
    exported.extend([0, count]);
    let mut body = vec![0];
    for _ in 0..imports[0].2 {
        body.extend([0x41, 0]);
    }
    body.extend([0x10, 0, 0x1a, 0x0b]);
    let mut code = vec![1, body.len() as u8];
    code.extend(body);
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in [(1, types), (2, imported), (3, vec![1, count]), (7, exported), (10, code)] {
        bytes.extend(section(id, content));
    }
    bytes
}

const PREVIEW1: &str = "wasi_snapshot_preview1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_without_memory_is_told_what_it_lacks() {
    let host = Host::new();
    let artifact = module(&[(PREVIEW1, "fd_write", 4)]);
    let start = Start::default();
    let version = host.prepare_bytes(&artifact, "bare", &start, Limits::default()).expect("it links");
    let error = host.run(&version, &start).await.expect_err("it has no memory");
    assert_eq!(error.kind, Kind::Trap, "{error}");
    assert!(error.detail().contains("exports no memory called `memory`"), "{}", error.detail());
    let artifact = module(&[(PREVIEW1, "fd_close", 1)]);
    let version = host.prepare_bytes(&artifact, "bare", &start, Limits::default()).expect("it links");
    assert_eq!(host.run(&version, &start).await.expect("it needs none").code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_that_do_not_fit_are_named() {
    let host = Host::new();
    let refusal = |imports: &[(&str, &str, u8)]| {
        let prepared = host.prepare_bytes(&module(imports), "misfit", &Start::default(), Limits::default());
        prepared.err().unwrap_or_else(|| panic!("{imports:?} was accepted")).to_string()
    };
    let text = refusal(&[(PREVIEW1, "fd_read", 1)]);
    assert!(text.contains("fd_read") && text.contains("(param i32)"), "{text}");
    let text = refusal(&[(PREVIEW1, "sock_open", 2)]);
    assert!(text.contains("sock_open"), "{text}");
    let text = refusal(&[(PREVIEW1, "fd_fork", 1)]);
    assert!(text.contains("fd_fork"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sockets_of_wasmedge_link() {
    let host = Host::new();
    let imports = [
        ("sock_accept", 2),
        ("sock_accept", 3),
        ("sock_bind", 3),
        ("sock_connect", 3),
        ("sock_getaddrinfo", 8),
        ("sock_getlocaladdr", 4),
        ("sock_getpeeraddr", 4),
        ("sock_getsockopt", 5),
        ("sock_listen", 2),
        ("sock_open", 3),
        ("sock_recv", 6),
        ("sock_recv_from", 8),
        ("sock_send", 5),
        ("sock_send_to", 7),
        ("sock_setsockopt", 5),
        ("sock_shutdown", 2),
    ];
    for import in imports {
        let artifact = module(&[(PREVIEW1, import.0, import.1)]);
        let start = Start::default();
        let version = host.prepare_bytes(&artifact, "sockets", &start, Limits::default());
        let version = version.unwrap_or_else(|error| panic!("{import:?}: {error}"));
        assert_eq!(host.run(&version, &start).await.expect("it goes on").code, 0, "{import:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_not_there_is_found_when_publishing() {
    let ground = Ground::new();
    fs::remove_dir_all(ground.path("ro")).expect("it was there");
    let prepared = Host::new().prepare(&testkit::guest("preview1-stdio"), &start(&ground, ""), Limits::default());
    let Err(error) = prepared else { panic!("published without its directory") };
    assert_eq!(error.kind, Kind::Unprocessable);
    assert!(error.to_string().contains("`/ro`") && !error.to_string().contains("tmp"), "{error}");
}
