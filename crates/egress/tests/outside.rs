//! What a guest may write for an address that is not its to reach, and what a server may answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::{Body, BodyError};
use bytes::Bytes;
use egress::{AllowList, Egress, EgressOptions, Error, Options, Policy};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What a server is given where it does not end by itself: as short as a busy machine allows.
const SHORT: Duration = Duration::from_millis(300);

/// Sooner than any default.
const SOON: Duration = Duration::from_secs(5);

/// A resolver that cannot ask anybody takes its time.
const HASTE: Options = Options { connect_timeout: Some(SHORT), first_byte_timeout: None, between_bytes_timeout: None };

/// Any host, any address: nobody grants more.
const EVERYTHING: [&str; 4] = ["*://*:*", "tcp://*:*", "*://0.0.0.0/0:*", "*://[::/0]:*"];

/// Spellings of 127.0.0.1, for a URL. Resolvers know most of the first line.
const LOOPBACK: &str = "127.1 127.0.1 2130706433 0177.0.0.1 0x7f.1 0x7f000001 0x7F.0x0.0x0.0x1 017700000001 127.0.0.1 127.0.0.1. \
     [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [::7f00:1] [::ffff:0:127.0.0.1] \
     [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b:1::127.0.0.1] [2002:7f00:1::] [2001:0:0:0:0:0:80ff:fffe] \
     0 0.0.0.0 000.0.0.0 0x0 [::] localhost LOCALHOST localhost. LocalHost. a.localhost ip6-localhost localhost.localdomain \
     127.0.0.1%00.example.com 127.0.0.1%2f 127%2e0%2e0%2e1 %31%32%37.0.0.1 [::1%25lo] [::1%lo] [fe80::1%25lo] [fe80::1] \
     [::FFFF:127.0.0.1] [0::1] [::0:1] [0000:0000:0000:0000:0000:0000:0000:0001] 127.0.0.1:1@ a@127.0.0.1 \
     \u{ff11}\u{ff12}\u{ff17}.0.0.1 127\u{3002}0\u{3002}0\u{3002}1 \u{2460}\u{2461}\u{2466}.0.0.1 %EF%BC%91%EF%BC%92%EF%BC%97.0.0.1 \
     %6c%6f%63alhost loc\u{e0}lhost 127.0.0.1\\@example.com 127.0.0.1#@example.com ::1 [127.0.0.1] [::1 ::1] 127.0.0.1.. 127..1";

/// The same of 169.254.169.254 and of other places where clouds hand out the machine's credentials.
const METADATA: &str = "169.254.169.254 169.254.169.254. 2852039166 0251.0376.0251.0376 0xa9.0xfe.0xa9.0xfe 0xa9fea9fe 025177524776 \
     169.254.43518 [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::169.254.169.254] [64:ff9b::169.254.169.254] [64:ff9b:1::a9fe:a9fe] \
     [2002:a9fe:a9fe::] [2001:0:0:0:0:0:5601:5601] [fd00:ec2::254] [fd00:0ec2:0:0:0:0:0:254] 168.63.129.16 100.100.100.200";

fn policy(entries: &[&str]) -> Policy {
    let entries: Vec<_> = entries.iter().map(|&entry| entry.to_owned()).collect();
    Policy { tenant: "t".into(), allow: Arc::new(AllowList::parse(&entries).expect("good entries")) }
}

/// Refused, or nothing that a resolver knows, or not by now.
fn is_no_way_there(error: &Error) -> bool {
    use Error::{AddressProhibited, ConnectionTimeout, Denied, Dns, InvalidUri};
    matches!(error, Denied(_) | AddressProhibited(_) | InvalidUri(_) | Dns(_) | ConnectionTimeout)
}

/// Refused for what the host is, where it is an address in any notation: then nobody has to be asked.
fn is_refused_at_once(host: &str, error: &Error) -> bool {
    let is_number = |part: &str| part.strip_prefix("0x").unwrap_or(part).bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = host.starts_with('[') || !host.ends_with('.') && host.split('.').all(is_number);
    is_no_way_there(error) && !(is_address && matches!(error, Error::ConnectionTimeout))
}

fn egress() -> Egress {
    Egress::new(EgressOptions::default()).expect("good options")
}

async fn get(egress: &Egress, policy: &Policy, uri: Uri, options: Options) -> Result<Response<Body>, Error> {
    egress.send(policy, Request::get(uri).body(Empty::<Bytes>::new()).expect("a request"), options).await
}

/// A server on each loopback address, with one port, that counts who comes.
async fn two_listeners() -> (u16, Arc<AtomicUsize>) {
    let four = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = four.local_addr().expect("its address").port();
    let came = Arc::new(AtomicUsize::new(0));
    // A machine without version 6 has one way in less.
    let six = TcpListener::bind(("::1", port)).await.ok();
    for listener in [Some(four), six].into_iter().flatten() {
        let came = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                came.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            }
        });
    }
    (port, came)
}

#[tokio::test]
async fn no_spelling_of_an_address_gets_where_its_usual_one_does_not() {
    let (port, came) = two_listeners().await;
    let egress = egress();
    let wildcards = policy(&["*://*:*", "tcp://*:*", "*://*.example.com:*", "http://8.0.0.0/8:*"]);
    for host in LOOPBACK.split_whitespace().chain(METADATA.split_whitespace()) {
        // What is no URI never gets to be a request.
        if let Ok(uri) = format!("http://{host}:{port}/").parse::<Uri>() {
            let refused = get(&egress, &wildcards, uri, HASTE).await.expect_err(host);
            assert!(is_refused_at_once(host, &refused), "{host}: {refused:?}");
        }
        let refused = egress.dial(&wildcards, &format!("{host}:{port}"), HASTE.connect_timeout).await.expect_err(host);
        assert!(is_refused_at_once(host, &refused), "{host} by a socket: {refused:?}");
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
    // They do lead there: who is granted the address reaches it, in the spelling that the entry has, and in others by a name's entry.
    let granted = policy(&["*://*:*", "http://127.0.0.0/8:*"]);
    for host in ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1"] {
        let uri = format!("http://{host}:{port}/").parse().expect("a URI");
        let answer = get(&egress, &granted, uri, Options::default()).await.unwrap_or_else(|error| panic!("{host}: {error:?}"));
        assert_eq!(answer.status(), 200, "{host}");
    }
    assert_eq!(came.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn no_entry_leads_to_credentials_of_the_machine() {
    let egress = egress();
    let everything = policy(&EVERYTHING);
    for host in METADATA.split_whitespace() {
        for url in [format!("http://{host}/latest/meta-data/"), format!("https://{host}:8443/")] {
            let Ok(uri) = url.parse::<Uri>() else { continue };
            let began = Instant::now();
            let refused = get(&egress, &everything, uri, HASTE).await.expect_err(host);
            assert!(is_refused_at_once(host, &refused) && began.elapsed() < SOON, "{host}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn our_own_port_is_out_of_reach_in_every_spelling() {
    let (port, came) = two_listeners().await;
    let egress = egress();
    for own in ["127.0.0.1", "::1"] {
        egress.forbid((own.parse::<IpAddr>().expect("an address"), port).into());
    }
    let mut entries = EVERYTHING.to_vec();
    entries.extend(["*://localhost:*", "*://127.0.0.1:*", "*://[::1]:*"]);
    let everything = policy(&entries);
    for host in LOOPBACK.split_whitespace() {
        let Ok(uri) = format!("http://{host}:{port}/").parse::<Uri>() else { continue };
        // Not all of them are granted or lead anywhere; what counts is who came.
        get(&egress, &everything, uri, HASTE).await.expect_err(host);
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
}

/// More than a head may have.
const FIELDS: &str = "x: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\n\
     x: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\nx: y\r\n";

/// Answers whatever is asked with `head` and then `again` for ever.
async fn server(head: &'static [u8], again: &'static [u8], pause: Duration) -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let mut written = stream.write_all(head).await;
                while written.is_ok() && !again.is_empty() {
                    tokio::time::sleep(pause).await;
                    written = stream.write_all(again).await;
                }
            });
        }
    });
    format!("http://{address}/").parse().expect("a URI")
}

#[tokio::test]
async fn a_head_has_its_size_and_its_time() {
    let (egress, policy) = (egress(), policy(&["http://127.0.0.1:*"]));
    let options = Options { first_byte_timeout: Some(SHORT), ..Options::default() };
    let at_once = Duration::ZERO;
    for (what, head, again, pause) in [
        ("a field without end", &b"HTTP/1.1 200 OK\r\nx: "[..], &[b'x'; 4096][..], at_once),
        ("fields without end", b"HTTP/1.1 200 OK\r\n", FIELDS.as_bytes(), at_once),
        ("a word without end", b"HTTP/1.1 200 ", &[b'x'; 4096], at_once),
    ] {
        let began = Instant::now();
        // However long it may take otherwise.
        let refused = get(&egress, &policy, server(head, again, pause).await, Options::default()).await.expect_err(what);
        assert!(matches!(refused, Error::Protocol(_)) && began.elapsed() < SOON, "{what}: {refused:?}");
    }
    for (what, head, again) in [
        ("a head in dribbles", &b"HTTP/1.1 200 OK\r\nx: "[..], &b"x"[..]),
        ("interim answers without end", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("hints without end", b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        ("nothing", b"", b""),
    ] {
        let began = Instant::now();
        let uri = server(head, again, Duration::from_millis(20)).await;
        let refused = get(&egress, &policy, uri, options).await.expect_err(what);
        // Who says nothing has closed, as there is nothing more to say.
        let is_due = matches!(refused, Error::FirstByteTimeout | Error::ConnectionTerminated(_));
        assert!(is_due && began.elapsed() < SOON, "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_none_ends_as_broken_and_no_second_answer_is_read() {
    let (egress, policy) = (egress(), policy(&["http://127.0.0.1:*"]));
    for (what, answer) in [
        ("two lengths", &b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nbody"[..]),
        ("a negative length", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nbody"),
        ("a folded field", b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n"),
        ("another protocol", b"SSH-2.0-x\r\n\r\n"),
        ("a switch nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    ] {
        let refused = get(&egress, &policy, server(answer, b"", SHORT).await, Options::default()).await.expect_err(what);
        assert!(matches!(refused, Error::Protocol(_)), "{what}: {refused:?}");
    }
    for (what, answer) in [
        ("a chunk that is none", &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"[..]),
        ("a chunk beyond all", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
        ("a body that is cut short", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbody"),
    ] {
        let answer = get(&egress, &policy, server(answer, b"", SHORT).await, Options::default()).await.expect(what);
        let error = answer.into_body().collect().await.expect_err(what);
        assert!(matches!(error, BodyError::Broken(_)), "{what}: {error:?}");
    }
    // What comes behind an answer was not asked for: the next request does not get it.
    let uri =
        server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n", b"", SHORT)
            .await;
    for _ in 0..3 {
        let answer = get(&egress, &policy, uri.clone(), Options::default()).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "");
    }
}
