//! Frames and fields that break the protocol: each ends its stream or its connection, or is answered 400; none reaches a guest, and
//! a connection beside it is answered. Which of its reasons h2 gives is its own affair: where RFC 9113 names a better one, both
//! end the same.

use testkit::{App, Fornax, note};

use crate::FORNAX;
use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE,
    frame, setting,
};

const PUSH_PROMISE: u8 = 5;

const PADDED: u8 = 8;

/// Both: the answer is whole and needs nothing more.
const WHOLE: u8 = END_HEADERS | END_STREAM;

/// Of HPACK's static table (RFC 7541, Appendix A).
const METHOD_GET: &[u8] = &[0x82];
const METHOD_POST: &[u8] = &[0x83];
const PATH: &[u8] = &[0x84];
const SCHEME: &[u8] = &[0x86];

/// What the server says to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// The connection ends for this reason.
    GoAway(u32),
    /// The stream does.
    Reset(u32),
    /// An answer of this status; 0 for one that is none of HPACK's table.
    Status(u16),
    /// The connection ends without a word.
    Closed,
}

/// A field, name and value as they are.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// A head of `GET /` at `http://a`, with more fields.
fn get(fields: &[(&str, &str)]) -> Vec<u8> {
    let more: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    [METHOD_GET, SCHEME, PATH, &field(":authority", "a"), &more].concat()
}

/// The same of `POST /`.
fn post(fields: &[(&str, &str)]) -> Vec<u8> {
    [METHOD_POST, &get(fields)[1..]].concat()
}

fn serve() -> Fornax {
    // Reads its body before it answers, so that a body that is none has no answer.
    let app = App::new().module("cgi", "cgi-echo", "codec = \"cgi\"");
    Fornax::run(FORNAX, app.write(), &[])
}

/// The first thing of note that is said to these frames.
fn said(fornax: &Fornax, frames: &[u8]) -> Said {
    let mut raw = Raw::connect(fornax.addr(), &[]);
    let _ = raw.send(frames);
    let found = raw.find(|frame| matches!(frame.kind, GOAWAY | RST_STREAM | HEADERS));
    let Some(found) = found else { return Said::Closed };
    match (found.kind, found.reason()) {
        (GOAWAY, Some(reason)) => Said::GoAway(reason),
        (RST_STREAM, Some(reason)) => Said::Reset(reason),
        _ => Said::Status(match found.payload.first() {
            Some(0x88) => 200,
            Some(0x8c) => 400,
            _ => 0,
        }),
    }
}

fn is_answered(said: Said) -> bool {
    said == Said::Status(200)
}

fn is_refused(said: Said) -> bool {
    matches!(said, Said::GoAway(1..) | Said::Reset(1..) | Said::Status(400))
}

#[track_caller]
fn check(fornax: &Fornax, what: &str, frames: &[u8], is_due: impl Fn(Said) -> bool) {
    let said = said(fornax, frames);
    note(&format!("{what}: {said:?}"));
    assert!(is_due(said), "{what}: {said:?}");
    let good = self::said(fornax, &frame(HEADERS, WHOLE, 1, &get(&[])));
    assert_eq!(good, Said::Status(200), "another connection after {what}");
}

#[test]
fn frames_that_break_the_protocol_end_the_connection_for_their_reason() {
    let fornax = serve();
    let whole = |stream| frame(HEADERS, WHOLE, stream, &get(&[]));
    let open = frame(HEADERS, END_HEADERS, 1, &post(&[]));
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    for (what, frames) in [
        ("a stream older than the last", [whole(5), whole(3)].concat()),
        ("a stream of the server", whole(2)),
        ("a head on the connection", whole(0)),
        ("data on the connection", frame(DATA, 0, 0, b"x")),
        ("data on no stream", frame(DATA, 0, 1, b"x")),
        ("a reset of no stream", frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())),
        ("a reset of another size", [open.clone(), frame(RST_STREAM, 0, 1, &[0; 3])].concat()),
        ("a window beyond all", update(0, 0x7fff_ffff)),
        ("a window that does not grow", update(0, 0)),
        ("a window of another size", frame(WINDOW_UPDATE, 0, 0, &[1; 3])),
        ("settings of half a setting", frame(SETTINGS, 0, 0, &[0; 3])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("settings within an acknowledgement", frame(SETTINGS, ACK, 0, &setting(4, 1))),
        ("a setting of a window beyond all", frame(SETTINGS, 0, 0, &setting(4, 0x8000_0000))),
        ("a setting of small frames", frame(SETTINGS, 0, 0, &setting(5, 16_383))),
        ("a setting of pushes", frame(SETTINGS, 0, 0, &setting(2, 2))),
        ("a ping of another size", frame(PING, 0, 0, &[0; 7])),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8])),
        ("a frame that is too large", frame(DATA, 0, 1, &[0; 16_385])),
        ("the middle of no head", frame(CONTINUATION, END_HEADERS, 1, &[0x82])),
        ("a ping within a head", [frame(HEADERS, 0, 1, METHOD_GET), frame(PING, 0, 0, &[0; 8])].concat()),
        ("another head within a head", [frame(HEADERS, 0, 1, METHOD_GET), frame(CONTINUATION, END_HEADERS, 3, PATH)].concat()),
        ("a push of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ("a field that is not in the table", frame(HEADERS, WHOLE, 1, &[0xff, 0x7f])),
        ("field number 0", frame(HEADERS, WHOLE, 1, &[0x80])),
        ("half a field", frame(HEADERS, WHOLE, 1, &[0x00, 0x05, b'x'])),
        ("a table that is larger than allowed", frame(HEADERS, WHOLE, 1, &[0x3f, 0xe1, 0xff, 0x03, 0x82])),
        ("a number without end", frame(HEADERS, WHOLE, 1, &[0xff; 64])),
        ("bad Huffman code", frame(HEADERS, WHOLE, 1, &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00])),
        ("more padding than frame", frame(HEADERS, WHOLE | PADDED, 1, &[9, 0x82])),
        ("more padding than data", [open, frame(DATA, PADDED, 1, &[9, 0])].concat()),
    ] {
        check(&fornax, what, &frames, |said| matches!(said, Said::GoAway(1..)));
    }
    // What is new, or of no more meaning, is passed over.
    let unknown = [frame(0x40, 0xff, 1, b"what"), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), whole(1)].concat();
    check(&fornax, "a frame nobody knows", &unknown, is_answered);
    check(&fornax, "a setting nobody knows", &[frame(SETTINGS, 0, 0, &setting(0x99, 1)), whole(1)].concat(), is_answered);
}

#[test]
fn heads_that_are_none_end_their_stream_or_are_400() {
    let fornax = serve();
    let authority = field(":authority", "a");
    for (name, value) in [
        ("X-Upper", "1"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
        ("proxy-connection", "1"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("", "1"),
        ("x y", "1"),
        ("x\0", "1"),
        ("x:y", "1"),
        ("x", "a\rb"),
        ("x", " a"),
        ("x", "a\t"),
        ("content-length", ""),
        ("x", "a\nb"),
        ("x", "a\0b"),
        (":method", "GET"),
        (":path", "/"),
        (":scheme", "http"),
        (":authority", "a"),
        (":status", "200"),
        (":other", "1"),
        (":protocol", "websocket"),
        ("host", "b"),
    ] {
        check(&fornax, &format!("{name:?}: {value:?}"), &frame(HEADERS, WHOLE, 1, &get(&[(name, value)])), is_refused);
    }
    for (what, head) in [
        ("no method", [SCHEME, PATH, &authority].concat()),
        ("no scheme", [METHOD_GET, PATH, &authority].concat()),
        ("no path", [METHOD_GET, SCHEME, &authority].concat()),
        ("no authority", [METHOD_GET, SCHEME, PATH].concat()),
        ("an empty path", [METHOD_GET, SCHEME, &authority, &field(":path", "")].concat()),
        ("a path that is none", [METHOD_GET, SCHEME, &authority, &field(":path", "a")].concat()),
        ("a query without a path", [METHOD_GET, SCHEME, &authority, &field(":path", "?x")].concat()),
        ("a path of other letters", [METHOD_GET, SCHEME, &authority, &field(":path", "/\u{e9}")].concat()),
        ("a path with a space", [METHOD_GET, SCHEME, &authority, &field(":path", "/a b")].concat()),
        ("an empty authority", [METHOD_GET, SCHEME, PATH, &field(":authority", "")].concat()),
        ("a user in the authority", [METHOD_GET, SCHEME, PATH, &field(":authority", "u@a")].concat()),
        ("another scheme", [METHOD_GET, PATH, &authority, &field(":scheme", "https")].concat()),
        ("an empty scheme", [METHOD_GET, PATH, &authority, &field(":scheme", "")].concat()),
        ("an empty method", [SCHEME, PATH, &authority, &field(":method", "")].concat()),
        ("a method with a space", [SCHEME, PATH, &authority, &field(":method", "G T")].concat()),
        ("a tunnel", [&field(":method", "CONNECT")[..], &field(":authority", "a:80")].concat()),
        ("a tunnel to a path", [&field(":method", "CONNECT")[..], SCHEME, PATH, &authority].concat()),
        ("a field before the method", [&field("x", "1")[..], &get(&[])].concat()),
    ] {
        check(&fornax, what, &frame(HEADERS, WHOLE, 1, &head), is_refused);
    }
    let capitals = [METHOD_GET, PATH, &authority, &field(":scheme", "HTTP")].concat();
    check(&fornax, "a scheme in capitals", &frame(HEADERS, WHOLE, 1, &capitals), is_answered);
    let itself = [frame(HEADERS, END_HEADERS, 1, &post(&[])), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1])].concat();
    check(&fornax, "a stream that depends on itself", &itself, is_refused);
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    let fornax = serve();
    let body = |length: &[(&str, &str)], data: &[u8]| {
        [frame(HEADERS, END_HEADERS, 1, &post(length)), frame(DATA, END_STREAM, 1, data)].concat()
    };
    check(&fornax, "a length that is true", &body(&[("content-length", "4")], b"body"), is_answered);
    check(&fornax, "too few bytes", &body(&[("content-length", "5")], b"body"), is_refused);
    check(&fornax, "too many bytes", &body(&[("content-length", "3")], b"body"), is_refused);
    check(&fornax, "no body at all", &frame(HEADERS, WHOLE, 1, &post(&[("content-length", "4")])), is_refused);
    for length in ["", "x", "-4", "+4", "4, 4", "99999999999999999999"] {
        check(&fornax, &format!("a length of {length:?}"), &body(&[("content-length", length)], b"body"), is_refused);
    }
    check(&fornax, "two lengths", &body(&[("content-length", "4"), ("content-length", "5")], b"body"), is_refused);
    let closed = [frame(HEADERS, WHOLE, 1, &post(&[])), frame(DATA, 0, 1, b"x")].concat();
    check(&fornax, "data behind the end", &closed, is_refused);
    let trailers = |trailers: &[u8]| {
        let begin = [frame(HEADERS, END_HEADERS, 1, &post(&[])), frame(DATA, 0, 1, b"body")].concat();
        [begin, frame(HEADERS, WHOLE, 1, trailers)].concat()
    };
    check(&fornax, "trailers", &trailers(&field("x", "1")), is_answered);
    // h2 leaves it out.
    check(&fornax, "a method in trailers", &trailers(METHOD_GET), is_answered);
    let unended = [frame(HEADERS, END_HEADERS, 1, &post(&[])), frame(HEADERS, END_HEADERS, 1, &field("x", "1"))].concat();
    check(&fornax, "a second head", &unended, is_refused);
}
