//! What a client of HTTP/2 may try, with one beside it that must not notice.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use testkit::{App, Fornax, Neighbour, guest, note};

use crate::FORNAX;
use crate::client::{Client, wait_until};
use crate::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, Raw, WINDOW_UPDATE, frame, setting,
};

const RESETS: u32 = 2000;

/// What docs/limits.md says.
const UNANSWERED_MAX: u32 = 200;

/// How long a piece of an answer may be left waiting.
const STALL: Duration = Duration::from_secs(10);

/// A slow client is gone so long after it came.
const SLOW_GONE: Duration = Duration::from_secs(15);

/// Between two bytes of somebody who dribbles.
const DRIBBLE_EVERY: Duration = Duration::from_millis(250);

/// What happens at once on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn a_flood_of_resets_ends_its_connection_and_costs_nobody_else() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let mut other = fornax.client();
    let mut raw = Raw::connect(fornax.addr(), &[]);
    let flood: Vec<u8> = (0..RESETS)
        .flat_map(|index| {
            let stream = 2 * index + 1;
            [
                frame(HEADERS, END_HEADERS | END_STREAM, stream, frames::GET),
                frame(frames::RST_STREAM, 0, stream, &8u32.to_be_bytes()),
            ]
        })
        .flatten()
        .collect();
    // It may be closed before all is taken.
    let _ = raw.send(&flood);
    let goodbye = raw.find(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
    assert_eq!(goodbye.reason(), Some(frames::ENHANCE_YOUR_CALM), "{goodbye:?}");
    assert_eq!(raw.find(|_| false), None, "the connection ends");
    assert_eq!(other.get("/").status, 200);
}

/// A tenant with few places and a guest that keeps one, beside a guest of another tenant.
fn few_places() -> Fornax {
    let app = App::new()
        .tables("[tenant.loud]\nin_flight = 8\nqueue = 0")
        .module("slow", "slow", "tenant = \"loud\"")
        .route("/slow", "slow", "tenant = \"loud\"")
        .module("hello", "hello-wasip2", "")
        .route("/", "hello", "");
    Fornax::run(FORNAX, app.write(), &[])
}

/// `GET /slow`.
fn slow() -> Vec<u8> {
    [&[0x82, 0x86, 0x41, 1, b'a', 0x04, 5][..], b"/slow"].concat()
}

/// Opens a stream, waits until its head has been read, and ends it with `end`. False where the connection has ended.
fn begin_and_end(raw: &mut Raw, stream: u32, head: &[u8], end: &[u8]) -> bool {
    // The PING behind it comes back when the head has been read.
    let ping = frame(PING, 0, 0, &u64::from(stream).to_be_bytes());
    let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, head);
    raw.send(&[head, ping].concat()).is_ok()
        && raw.find(|frame| frame.kind == PING && frame.flags == ACK).is_some()
        && raw.send(end).is_ok()
}

#[test]
fn a_connection_that_resets_most_of_its_streams_ends_however_slowly_it_does() {
    let fornax = few_places();
    let neighbour = Neighbour::start(fornax.addr(), "/");
    let reset = |stream| frame(frames::RST_STREAM, 0, stream, &8u32.to_be_bytes());
    // Resets that the server is made to send: CVE-2025-8671.
    let made = |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
    let itself = |stream: u32| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[1]].concat());
    type End<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    let ways: [(&str, End<'_>, u32); 3] =
        [("reset", &reset, UNANSWERED_MAX + 1), ("a window beyond all", &made, 101), ("a stream of itself", &itself, 101)];
    for (what, end, most) in ways {
        let mut raw = Raw::connect(fornax.addr(), &[]);
        let begun = (0..RESETS).take_while(|index| begin_and_end(&mut raw, 2 * index + 1, &slow(), &end(2 * index + 1))).count();
        note(&format!("{what}: it ended after {begun} streams"));
        assert!(raw.said_goodbye(), "{what}: it ended without a GOAWAY");
        // Some are on their way when it is closed.
        let most = most as usize;
        assert!((most..most + 10).contains(&begun), "{what}: {begun} streams, not {most}");
        // Each has ended with its stream: none of the few places is taken.
        let mut other = fornax.client();
        testkit::wait_until("every place is free", AT_ONCE, || other.get("/slow?ms=0").status == 200);
    }
    neighbour.stop();
}

#[test]
fn who_takes_its_answers_may_reset_many() {
    let fornax = few_places();
    let mut raw = Raw::connect(fornax.addr(), &[]);
    for index in 0..2 * UNANSWERED_MAX {
        let (first, second) = (4 * index + 1, 4 * index + 3);
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, first, frames::GET)).expect("it is taken");
        assert!(raw.find(|frame| frame.stream == first && frame.flags & END_STREAM != 0).is_some(), "answered after {index}");
        let reset = frame(frames::RST_STREAM, 0, second, &8u32.to_be_bytes());
        assert!(begin_and_end(&mut raw, second, &slow(), &reset), "open after {index}");
    }
}

#[tokio::test]
async fn fields_over_their_limits_are_refused_with_431() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    for (what, request) in [
        ("65 KiB", client.request("GET", "/").header("x", "v".repeat(65 << 10))),
        ("101 fields", (0..101).fold(client.request("GET", "/"), |request, index| request.header(format!("x-{index}"), "v"))),
        ("80 KiB", client.request("GET", "/").header("x", "v".repeat(80 << 10))),
    ] {
        assert_eq!(client.ask(request).await.status, 431, "{what}");
    }
    assert_eq!(client.ask(client.request("GET", &format!("/{}", "a".repeat(9000)))).await.status, 414);
    assert_eq!(client.get("/").await.status, 200, "the connection goes on");
    let endless = client.request("GET", "/").header("x", "v".repeat(1 << 20));
    let refused = match client.try_send(endless, true).await {
        Ok(sent) => sent.whole().await.map(|answer| answer.status),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(_) | Ok(431)), "{refused:?}");
    assert_eq!(Client::connect(fornax.addr()).await.get("/").await.status, 200);
}

/// A client that takes nothing of its answers, while another on the same server is answered.
#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_reset_alone() {
    let app = App::new()
        .tables("[tenant.one]\nin_flight = 1\nqueue = 0")
        .module("echo", "echo", "tenant = \"one\"")
        .route("/echo", "echo", "tenant = \"one\"")
        .module("hello", "hello-wasip2", "")
        .route("/", "hello", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut closed = h2::client::Builder::new();
    closed.initial_window_size(0);
    let mut client = Client::with(fornax.addr(), &closed).await;
    let mut sent = client.send(client.request("POST", "/echo"), false).await;
    sent.body.send_data(Bytes::from_static(b"to be left waiting"), true).expect("open");
    let (status, mut answer, _) = sent.head().await;
    assert_eq!(status, 200);
    let began = Instant::now();
    let error = crate::client::in_time(answer.data()).await.expect("an end").expect_err("a reset");
    let took = began.elapsed();
    note(&format!("a piece nobody takes: {error} after {took:?}"));
    assert!(error.is_reset() && (STALL - Duration::from_secs(1)..STALL + AT_ONCE).contains(&took), "{error} after {took:?}");
    let mut other = fornax.client();
    wait_until("the place is free", async || other.request("POST", "/echo", &[], testkit::Body::Length(vec![1])).status == 200)
        .await;
    assert!(!client.has_ended());
    assert_eq!(client.ask(client.request("HEAD", "/")).await.status, 200, "the connection goes on");
}

#[test]
fn a_head_that_stops_ends_its_connection() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let mut raw = Raw::connect(fornax.addr(), &[]);
    raw.send(&frame(HEADERS, END_STREAM, 1, frames::GET)).expect("it is taken");
    let mut dead = Raw::connect(fornax.addr(), &[]);
    let began = Instant::now();
    // Who is in the middle of a head cannot answer a PING, and who has left does not.
    let waiting = thread::spawn(move || (raw.find(|_| false).is_none(), Instant::now()));
    // Nor can who sends it byte by byte.
    let mut slow = Raw::connect(fornax.addr(), &[]);
    let dribbling = thread::spawn(move || {
        let head = [frame(HEADERS, END_STREAM, 1, frames::GET), frame(CONTINUATION, 0, 1, &[0; 1000])].concat();
        for byte in head {
            if slow.send(&[byte]).is_err() {
                break;
            }
            thread::sleep(DRIBBLE_EVERY);
        }
        Instant::now()
    });
    assert!(dead.find(|frame| frame.kind == PING && frame.flags == 0).is_some(), "a sign of life is asked for");
    assert!(dead.find(|_| false).is_none());
    let (ended, at) = waiting.join().expect("no panic");
    let dead_for = began.elapsed();
    let dribbled_for = dribbling.join().expect("no panic") - began;
    note(&format!("ended after {:?}, {dead_for:?} and {dribbled_for:?}", at - began));
    assert!(ended && [at - began, dead_for, dribbled_for].iter().all(|took| *took < SLOW_GONE + AT_ONCE));
}

#[test]
fn what_is_no_preface_is_no_http2() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"[..], b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut client = fornax.client();
        client.send(bytes).expect("it is taken");
        let answer = client.read_to_end().expect("an end");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    // In two pieces it is one.
    let mut client = fornax.client();
    let (begin, rest) = frames::PREFACE.split_at(10);
    client.send(begin).expect("it is taken");
    assert_eq!(fornax.client().get("/").status, 200);
    client.send(&[rest, &frame(frames::SETTINGS, 0, 0, &[])].concat()).expect("it is taken");
    let mut head = [0; 9];
    std::io::Read::read_exact(&mut client.stream(), &mut head).expect("a frame");
    assert_eq!(head[3], frames::SETTINGS);
}

#[test]
fn floods_of_frames_are_answered_one_by_one_or_ended() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let neighbour = Neighbour::start(fornax.addr(), "/");
    let memory = fornax.status_number("VmRSS");
    let empty = frame(HEADERS, END_HEADERS, 1, &[&[0x83, 0x86, 0x84, 0x41, 1][..], b"a"].concat());
    for (what, begin, again) in [
        ("PING", Vec::new(), frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", Vec::new(), frame(frames::SETTINGS, 0, 0, &setting(4, 65_535))),
        ("PRIORITY", Vec::new(), frame(PRIORITY, 0, 3, &[0, 0, 0, 5, 1])),
        ("unknown frames", Vec::new(), frame(0x40, 0, 0, b"what")),
        ("empty windows", empty.clone(), frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())),
        ("empty DATA", empty, frame(DATA, 0, 1, &[])),
    ] {
        let mut raw = Raw::connect(fornax.addr(), &[]);
        let _ = raw.send(&begin);
        let flood = again.repeat(1000);
        // Nobody reads the answers: sooner or later nothing is taken any more.
        let sent = (0..200).take_while(|_| raw.try_send(&flood)).count();
        note(&format!("{what}: {sent} thousand were taken"));
    }
    let grown = fornax.status_number("VmRSS").saturating_sub(memory);
    note(&format!("memory grew by {grown} KiB"));
    assert!(grown < 32 << 10, "{grown} KiB");
    neighbour.stop();
}

#[test]
fn a_head_without_end_and_one_that_unfolds_take_no_memory() {
    let fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let neighbour = Neighbour::start(fornax.addr(), "/");
    let memory = fornax.status_number("VmRSS");
    let text = [b'a'; 4000];
    let length = [&[0x7f][..], &[0xa1, 0x1e]].concat();
    // A field of 4,000 bytes that stays in the table, and then its number again and again: 60 MiB of fields in 16 KiB.
    let unfolding = [frames::GET, &[0x40, 1, b'x'], &length, &text, &[0xbe].repeat(12_000)].concat();
    let begin = |fields: &[u8]| frame(HEADERS, END_STREAM, 1, fields);
    for (what, first, again, most_frames) in [
        ("CONTINUATION", begin(frames::GET), frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'].repeat(3000)), 100),
        ("empty CONTINUATION", begin(frames::GET), frame(CONTINUATION, 0, 1, &[]), 10_000),
        ("a table that unfolds", begin(&unfolding), frame(CONTINUATION, 0, 1, &[0xbe].repeat(16_000)), 100),
    ] {
        let mut raw = Raw::connect(fornax.addr(), &[]);
        let _ = raw.send(&first);
        let sent = (0..most_frames).take_while(|_| raw.send(&again).is_ok()).count();
        let ended = raw.find(|frame| frame.kind == GOAWAY || frame.kind == frames::RST_STREAM || frame.kind == HEADERS);
        note(&format!("{what}: {sent} frames were taken, then {:?}", ended.as_ref().map(|frame| (frame.kind, frame.reason()))));
        assert!(ended.is_none_or(|frame| frame.kind != HEADERS || frame.payload[0] != 0x88), "{what}");
        assert!(raw.find(|_| false).is_none(), "{what}: the connection ends");
    }
    let one = frame(HEADERS, END_HEADERS | END_STREAM, 1, &unfolding);
    let mut raw = Raw::connect(fornax.addr(), &[]);
    let _ = raw.send(&one);
    let answer = raw.find(|frame| frame.stream == 1 || frame.kind == GOAWAY);
    note(&format!("one head that unfolds: {answer:?}"));
    assert!(answer.is_none_or(|frame| frame.kind != HEADERS || frame.payload[0] != 0x88));
    let grown = fornax.status_number("VmRSS").saturating_sub(memory);
    note(&format!("memory grew by {grown} KiB"));
    assert!(grown < 32 << 10, "{grown} KiB");
    neighbour.stop();
}
