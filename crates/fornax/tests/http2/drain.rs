//! SIGTERM: streams in flight end whole, GOAWAY says that no more are taken, exit code 0.

use std::time::{Duration, Instant};

use testkit::{App, Fornax, guest, note};

use crate::FORNAX;
use crate::client::{Client, read};
use crate::frames::{self, ACK, GOAWAY, PING, Raw, SETTINGS, frame};

/// What happens at once on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn streams_in_flight_end_whole() {
    let app = App::new().module("afterlife", "afterlife", "");
    let mut fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    let mut bodies = Vec::new();
    for index in 0..10 {
        let request = client.request("GET", &format!("/?mode=midbody&ms=1000&id={index}"));
        let (status, mut body, _) = client.send(request, true).await.head().await;
        assert_eq!((status.as_u16(), read(&mut body).await.as_deref()), (200, Some(&b"first\n"[..])));
        bodies.push(body);
    }
    fornax.terminate();
    for mut body in bodies {
        assert_eq!(read(&mut body).await.as_deref(), Some(&b"second\n"[..]));
        assert_eq!(read(&mut body).await, None);
    }
    let answered = Instant::now();
    assert_eq!(client.ended().await, None, "no reason but that it is over");
    assert_eq!(fornax.wait().code(), Some(0));
    note(&format!("ended {:?} after the last answer", answered.elapsed()));
    assert!(answered.elapsed() < AT_ONCE, "ended after {:?}", answered.elapsed());
}

#[tokio::test]
async fn an_idle_connection_ends_at_once() {
    let mut fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let mut client = Client::connect(fornax.addr()).await;
    assert_eq!(client.get("/").await.status, 200);
    fornax.terminate();
    let signalled = Instant::now();
    assert_eq!(client.ended().await, None);
    assert_eq!(fornax.wait().code(), Some(0));
    assert!(signalled.elapsed() < AT_ONCE, "ended after {:?}", signalled.elapsed());
}

#[test]
fn what_was_sent_before_the_client_knew_is_answered() {
    let mut fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let mut raw = Raw::connect(fornax.addr(), &[]);
    raw.send(&frame(SETTINGS, ACK, 0, &[])).expect("it is taken");
    raw.send(&frame(PING, 0, 0, &[7; 8])).expect("it is taken");
    assert!(raw.find(|frame| frame.kind == PING && frame.payload == [7; 8]).is_some());
    fornax.terminate();
    assert!(raw.find(|frame| frame.kind == GOAWAY && frame.reason() == Some(0)).is_some(), "it is said that it ends");
    let ping = raw.find(|frame| frame.kind == PING && frame.flags == 0).expect("a PING behind it");
    // On its way when the client learns of the end.
    raw.send(&frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, 1, frames::GET)).expect("it is taken");
    raw.send(&frame(PING, ACK, 0, &ping.payload)).expect("it is taken");
    let answer = raw.find(|frame| frame.kind == frames::DATA && frame.stream == 1).expect("an answer");
    assert_eq!(answer.payload, b"Hello from Fornax!\n");
    assert!(raw.find(|_| false).is_none(), "the connection ends");
    assert_eq!(fornax.wait().code(), Some(0));
}

#[test]
fn a_client_that_does_not_listen_holds_nothing_up_for_long() {
    let mut fornax = Fornax::run(FORNAX, guest("hello-wasip2"), &[]);
    let mut raw = Raw::connect(fornax.addr(), &[]);
    raw.send(&frame(PING, 0, 0, &[7; 8])).expect("it is taken");
    assert!(raw.find(|frame| frame.kind == PING && frame.payload == [7; 8]).is_some());
    fornax.terminate();
    let signalled = Instant::now();
    // No answer to the PING behind the GOAWAY.
    assert_eq!(fornax.wait().code(), Some(0));
    note(&format!("ended after {:?}", signalled.elapsed()));
    assert!(signalled.elapsed() < Duration::from_secs(2) + AT_ONCE, "ended after {:?}", signalled.elapsed());
}
