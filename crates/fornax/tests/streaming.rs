//! Bodies larger than memory should be, clients that leave, guests that work on, and readers that do not read.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{App, Body, Client, Fornax, Upstream, alone, note, wait_until, wire};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

const MB: usize = 1_000_000;

/// What a hundred times the bytes may cost.
const MORE_RSS_BYTES_MAX: u64 = 16 << 20;

const PIECE_BYTES: usize = 64 << 10;

/// No power of two, so that a piece which is lost, doubled or moved does not look like another.
const PERIOD_BYTES: usize = 1_000_003;

/// How long a client may refuse to take bytes.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// Between two looks whether more bytes are taken.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes without visible order, repeated once so that every piece of a period is a slice.
fn pattern() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    let period: Vec<u8> = (0..PERIOD_BYTES).map(|_| next()).collect();
    [period.as_slice(), period.as_slice()].concat()
}

/// The pieces of a body of `bytes` bytes.
fn pieces(pattern: &[u8], bytes: usize) -> impl Iterator<Item = &[u8]> {
    (0..bytes).step_by(PIECE_BYTES).map(move |at| {
        let from = at % PERIOD_BYTES;
        &pattern[from..from + PIECE_BYTES.min(bytes - at)]
    })
}

fn echo_app(guest: &str) -> App {
    App::new().module("echo", guest, "limits = { body = \"1GiB\", cpu = \"30s\", wall = \"60s\" }")
}

/// Sends `bytes` bytes and compares what comes back, meanwhile. Returns how much the peak of memory grew over what the process
/// had after compiling, which differs from run to run.
fn echo(guest: &str, path: &str, chunked: bool, bytes: usize) -> u64 {
    let app = echo_app(guest);
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    assert_eq!(client.request("POST", path, &[], Body::Length(b"warm".to_vec())).text(), "warm");
    server.forget_rss_peak();
    let before = server.rss_peak_bytes();

    let pattern = pattern();
    let framing = match chunked {
        true => "transfer-encoding: chunked".to_owned(),
        false => format!("content-length: {bytes}"),
    };
    client.send(format!("POST {path} HTTP/1.1\r\nhost: test\r\n{framing}\r\n\r\n").as_bytes()).expect("a head is taken");
    let mut writer = client.stream().try_clone().expect("a second handle");
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            for piece in pieces(&pattern, bytes) {
                match chunked {
                    true => writer.write_all(&wire::chunk(piece)),
                    false => writer.write_all(piece),
                }
                .expect("the body is taken");
            }
            if chunked {
                writer.write_all(b"0\r\n\r\n").expect("the end is taken");
            }
        });
        read_pattern(&mut client, &pattern)
    });
    assert_eq!(received, bytes, "bytes that came back");
    assert_eq!(client.request("POST", path, &[], Body::Length(b"again".to_vec())).text(), "again");
    server.rss_peak_bytes().saturating_sub(before)
}

/// Reads a streamed answer and compares it with the pattern. Returns its size.
fn read_pattern(client: &mut Client, pattern: &[u8]) -> usize {
    let head = client.read_head().expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    let mut received = 0;
    while let Some(chunk) = client.read_chunk().expect("a chunk") {
        for part in chunk.chunks(PIECE_BYTES) {
            let from = received % PERIOD_BYTES;
            assert!(part == &pattern[from..from + part.len()], "other bytes within {} of {received}", part.len());
            received += part.len();
        }
    }
    received
}

#[test]
fn a_hundred_megabytes_need_no_more_memory_than_one() {
    let _alone = alone();
    for (guest, path, chunked) in [("echo", "/", true), ("echo", "/", false), ("echo3", "/", true), ("echo3", "/?copy", false)] {
        let one = echo(guest, path, chunked, MB);
        let began = Instant::now();
        let hundred = echo(guest, path, chunked, 100 * MB);
        note(&format!(
            "{guest}{path} chunked={chunked}: {} KiB more memory for 1 MB, {} KiB for 100 MB, in {:?}",
            one >> 10,
            hundred >> 10,
            began.elapsed()
        ));
        assert!(hundred <= one + MORE_RSS_BYTES_MAX, "{guest}{path}: {one} bytes of memory for 1 MB, {hundred} for 100 MB");
    }
}

/// A tenant with one place: whoever is let in knows that the one before has ended.
fn afterlife_app(guest: &str) -> App {
    App::new()
        .tables("[tenant.one]\nin_flight = 1\nqueue = 1\nqueue_wait = \"30s\"")
        .module("afterlife", guest, "tenant = \"one\"")
        .route("/", "afterlife", "tenant = \"one\"")
}

fn printed(line: &str, what: &str) -> bool {
    line.contains(what) && line.contains("module=afterlife")
}

#[test]
fn a_client_that_leaves_within_the_body_ends_the_guest() {
    for guest in ["afterlife", "afterlife3"] {
        let app = afterlife_app(guest);
        let server = Fornax::run(PROGRAM, app.write(), &[]);
        let mut leaving = server.client();
        leaving.send(b"GET /?mode=midbody&ms=800&id=left HTTP/1.1\r\nhost: test\r\n\r\n").expect("a request is taken");
        assert_eq!(leaving.read_head().expect("a head").status, 200);
        assert_eq!(leaving.read_chunk().expect("a chunk").as_deref(), Some(&b"first\n"[..]));
        let left = Instant::now();
        drop(leaving);
        // Let in when the first guest is gone; ends after the first would have, had it lived on.
        let stayed = server.client().get("/?mode=midbody&ms=800&id=stayed");
        note(&format!("{guest}: the next call was complete {:?} after the client left", left.elapsed()));
        assert_eq!((stayed.text().as_str(), stayed.truncated), ("first\nsecond\n", false), "{guest}");
        server.wait_for_log(|line| printed(line, "afterlife: finished stayed"), testkit::DEADLINE);
        server.wait_for_log(|line| printed(line, "afterlife: second stayed"), testkit::DEADLINE);
        let log = server.log().join("\n");
        assert!(!log.contains("second left") && !log.contains("finished left"), "{guest} went on:\n{log}");
        assert!(left.elapsed() < Duration::from_millis(1500), "{guest} held its place until {:?}", left.elapsed());
    }
}

/// Two guests of each generation, one of which never pauses and one of which waits for a minute within its body.
fn limited(limits: &str) -> (Upstream, Fornax) {
    let upstream = Upstream::start();
    let outbound = format!("outbound = [{:?}]", upstream.url(""));
    let app =
        ["proxy", "proxy3", "afterlife", "afterlife3"].iter().fold(App::new().server("metrics = \"/metrics\""), |app, guest| {
            app.module(guest, guest, &format!("{outbound}\nlimits = {limits}")).route(&format!("/{guest}"), guest, "")
        });
    (upstream, Fornax::run(PROGRAM, app.write(), &[]))
}

/// The beginning of a body that was cut off, and how long that took; the guest is gone.
fn cut_off(server: &Fornax, path: &str) -> (String, Duration) {
    let sent = Instant::now();
    let answer = server.client().get(path);
    let took = sent.elapsed();
    note(&format!("{path} was cut off after {took:?}"));
    assert_eq!((answer.status, answer.truncated), (200, true), "{path}: {}", answer.text());
    wait_until("the guest has ended", testkit::DEADLINE, || {
        server.client().get("/metrics").text().contains("fornax_in_flight 0\n")
    });
    (answer.text(), took)
}

#[test]
fn a_body_that_goes_on_and_on_ends_at_its_whole_time() {
    const WHOLE: Duration = Duration::from_millis(500);
    // Silence is no reason here: there is none.
    let (upstream, server) = limited(r#"{ stream_total = "500ms", stream_idle = "30s" }"#);
    for guest in ["proxy", "proxy3"] {
        let (text, took) = cut_off(&server, &format!("/{guest}?url={}", upstream.url("/stream?chunks=1500%26ms=20")));
        let came: Vec<&str> = text.lines().collect();
        assert!(took >= WHOLE && came.len() > 1 && came.len() < 1500, "{guest}: {} pieces in {took:?}", came.len());
        assert!(came.iter().enumerate().all(|(index, line)| *line == format!("chunk {index}")), "{guest}: {text}");
    }
}

#[test]
fn a_body_in_which_nothing_comes_ends_after_a_silence() {
    const SILENCE: Duration = Duration::from_millis(400);
    let (_upstream, server) = limited(r#"{ stream_idle = "400ms" }"#);
    for guest in ["afterlife", "afterlife3"] {
        let (text, took) = cut_off(&server, &format!("/{guest}?mode=midbody&ms=60000&id=silent"));
        assert_eq!(text, "first\n", "{guest}");
        assert!(took >= SILENCE && took < Duration::from_secs(30), "{guest}: {took:?}");
    }
    assert!(!server.log().iter().any(|line| printed(line, "second silent")), "a guest went on");
}

#[test]
fn a_guest_works_on_after_a_complete_body() {
    for guest in ["afterlife", "afterlife3"] {
        let app = afterlife_app(guest);
        let server = Fornax::run(PROGRAM, app.write(), &[]);
        let mut staying = server.client();
        let sent = Instant::now();
        let answer = staying.get("/?ms=700&id=stayed");
        let answered = sent.elapsed();
        assert_eq!((answer.text().as_str(), answer.truncated), ("done\n", false), "{guest}");
        assert!(answered < Duration::from_millis(700), "{guest} kept its client waiting: {answered:?}");
        assert!(!server.log().iter().any(|line| printed(line, "finished stayed")), "{guest} had ended already");
        server.wait_for_log(|line| printed(line, "afterlife: finished stayed"), testkit::DEADLINE);

        // Who has the whole body may leave.
        let mut leaving = server.client();
        assert_eq!(leaving.get("/?ms=500&id=left").text(), "done\n");
        drop(leaving);
        server.wait_for_log(|line| printed(line, "afterlife: finished left"), testkit::DEADLINE);

        // The connection that was kept, and the place, are there for the next.
        assert_eq!(staying.get("/?ms=0&id=last").text(), "done\n", "{guest}");
        server.wait_for_log(|line| printed(line, "afterlife: finished last"), testkit::DEADLINE);
    }
}

#[test]
fn a_reader_that_does_not_read_costs_little_and_is_left() {
    let app = echo_app("echo").tables("[tenant.default]\nin_flight = 1\nqueue = 1\nqueue_wait = \"60s\"");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    assert_eq!(server.client().request("POST", "/", &[], Body::Length(b"warm".to_vec())).text(), "warm");
    server.forget_rss_peak();
    let before = server.rss_peak_bytes();

    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    // A write that waits says how much was taken only when it gives up.
    stream.set_write_timeout(Some(LOOK_EVERY)).expect("a timeout");
    let bytes = 100 * MB;
    stream
        .write_all(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {bytes}\r\n\r\n").as_bytes())
        .expect("a head is taken");
    let pattern = pattern();
    let (mut taken, mut progress) = (0, Instant::now());
    let refused = loop {
        let from = taken % PERIOD_BYTES;
        match stream.write(&pattern[from..from + PIECE_BYTES.min(bytes - taken)]) {
            Ok(0) => panic!("all {taken} bytes were taken without a reader"),
            Ok(written) => (taken, progress) = (taken + written, Instant::now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && progress.elapsed() < WRITE_STALL * 2 => {}
            Err(error) => break error,
        }
    };
    let stalled = progress.elapsed();
    let grown = server.rss_peak_bytes().saturating_sub(before);
    note(&format!("{taken} bytes taken, then nothing for {stalled:?} ({refused}); {} KiB more memory", grown >> 10));
    // The kernel takes some more after the server has stopped.
    let patience = WRITE_STALL - Duration::from_secs(3)..WRITE_STALL + Duration::from_secs(3);
    assert!(patience.contains(&stalled), "the connection ended {stalled:?} after its last progress: {refused}");
    assert!(grown <= MORE_RSS_BYTES_MAX, "{grown} bytes of memory for a reader that does not read");
    // What the kernel had taken may still be there; then the connection is over.
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).map_or(true, |_| rest.len() < bytes), "an answer of {} bytes", rest.len());
    // The tenant's only place is free.
    assert_eq!(server.client().request("POST", "/", &[], Body::Length(b"next".to_vec())).text(), "next");
}
