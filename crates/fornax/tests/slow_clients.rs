//! A crowd of clients that are slow on purpose, in four ways at once: nobody else loses a request, and none of them is still there
//! when its time is over.
//!
//! `FORNAX_SLOW_CLIENTS=4000` makes the crowd as large as docs/limits.md promises to stand.

use std::net::SocketAddr;
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{App, Client, Fornax, Neighbour, note, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// Where nothing is said: enough to see it, on a machine that compiles at the same time.
const CROWD: usize = 400;

/// From accept.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// From its first byte, whatever comes after it.
const HEAD: Duration = Duration::from_secs(5);

/// Within a request body; also for who takes nothing.
const STALL: Duration = Duration::from_secs(10);

/// The last of them is gone so long after it came.
const ALL_GONE: Duration = Duration::from_secs(15);

/// Between two bytes of a head.
const DRIBBLE_EVERY: Duration = Duration::from_secs(1);

/// A good request beside thousands that begin at once, on two cores that compile something as well.
const NEIGHBOUR_WITHIN: Duration = Duration::from_secs(2);

/// Clients that take nothing, to see what is held for them.
const UNREAD: u64 = 50;

/// So often nothing more was read: a busy server may pause.
const LOOKS: u32 = 50;

/// What docs/limits.md promises: 128 KiB by the kernel, and the pieces that are on their way there.
const HELD_BYTES_MAX: u64 = 384 << 10;

/// More than the buffers of both kernels take.
const LARGE_BYTES: usize = 16 << 20;

/// A client's buffers, that fill at once: it is the server's memory that is of interest, and both kernels are one here.
const RECEIVE_BYTES: u32 = 4 << 10;
const SEND_BYTES: u32 = 16 << 10;

/// Beside the crowd: files of both processes.
const OTHER_FILES: usize = 500;

/// In what way a client is slow.
#[derive(Clone, Copy)]
enum Way {
    /// Says nothing.
    Silent,
    /// Sends a byte of its head each second.
    Dribbles,
    /// Stops within its body.
    Stalls,
    /// Takes nothing of an answer of a guest, or of a file.
    TakesNothing { path: &'static str },
}

const WAYS: [Way; 8] = [
    Way::Silent,
    Way::Dribbles,
    Way::Stalls,
    Way::TakesNothing { path: "/echo" },
    Way::Silent,
    Way::Dribbles,
    Way::Stalls,
    Way::TakesNothing { path: "/large" },
];

#[test]
fn a_crowd_of_slow_clients_costs_no_good_request_and_goes() {
    let crowd = std::env::var("FORNAX_SLOW_CLIENTS").map_or(CROWD, |text| text.parse().expect("a number of clients"));
    assert!(may_have_files(crowd + OTHER_FILES), "ulimit -Hn is too low for {crowd} connections");
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .tables("[tenant.loud]\nin_flight = 10000")
        .module("echo", "echo", "tenant = \"loud\"\nlimits = { body = \"64MiB\" }")
        .route("/echo", "echo", "tenant = \"loud\"")
        .tables("[[route]]\npath = \"/large\"\nfiles = \"large\"\ntenant = \"loud\"")
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "");
    app.file("large", &vec![b'x'; LARGE_BYTES]);
    let server = Fornax::run(FORNAX, app.write(), &[]);
    let address = server.addr();
    let mut watcher = server.client();
    assert_eq!(watcher.request("POST", "/echo", &[], testkit::Body::Length(vec![1])).status, 200, "it is loaded");
    let descriptors = server.descriptors();
    let neighbour = Neighbour::start(address, "/hello");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let came = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for index in 0..crowd {
            clients.spawn(be_slow(address, WAYS[index % WAYS.len()]));
        }
        let mut last_came = None;
        while let Some(ended) = clients.join_next().await {
            last_came = last_came.max(Some(ended.expect("it is treated as it should be")));
        }
        last_came.expect("a crowd")
    });
    // Who takes nothing does not see that it was left: the server says so, this connection and the neighbour's kept one aside.
    wait_until("all of them are gone", ALL_GONE, || connections(&mut watcher) <= 3);
    let gone = came.elapsed();
    let probes = neighbour.stop();
    let worst = probes.iter().max().copied().unwrap_or_default();
    note(&format!(
        "{crowd} slow clients: gone {gone:?} after the last came; {} good requests, the longest {worst:?}",
        probes.len()
    ));
    assert!(gone <= ALL_GONE, "gone after {gone:?}");
    assert!(worst <= NEIGHBOUR_WITHIN, "a good request took {worst:?}");
    wait_until("their files are closed", ALL_GONE, || server.descriptors() <= descriptors + 2);
    let metrics = watcher.get("/metrics").text();
    assert!(metrics.lines().any(|line| line == "fornax_in_flight 0"), "calls are left over:\n{metrics}");
}

#[test]
fn of_an_answer_that_nobody_takes_little_is_held() {
    let app = App::new().tables("[[route]]\npath = \"/large\"\nfiles = \"large\"");
    app.file("large", &vec![b'x'; LARGE_BYTES]);
    let server = Fornax::run(FORNAX, app.write(), &[]);
    let before = read_bytes(&server);
    let clients: Vec<_> = (0..UNREAD)
        .map(|_| {
            let mut client = server.client();
            client.send(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").expect("a request is taken");
            client
        })
        .collect();
    let (mut last, mut looks) = (0, 0);
    wait_until("no more of it is read", STALL, || {
        let read = read_bytes(&server) - before;
        looks = if read == last && read > UNREAD * (64 << 10) { looks + 1 } else { 0 };
        last = read;
        looks == LOOKS
    });
    // What the client's own kernel took besides.
    let taken = clients.iter().map(|client| unread_bytes(client) as u64).sum::<u64>();
    let each = (last - taken) / UNREAD;
    note(&format!("{each} bytes are held for each, {} taken", taken / UNREAD));
    assert!(each < HELD_BYTES_MAX, "{each} bytes for each");
}

/// All that a server has read, of files and of sockets.
fn read_bytes(server: &Fornax) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", server.pid())).expect("the process is there");
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).and_then(|bytes| bytes.parse().ok()).expect("a number")
}

fn unread_bytes(client: &Client) -> usize {
    let bytes = rustix::io::ioctl_fionread(client.stream()).expect("a socket");
    usize::try_from(bytes).expect("fewer than there are")
}

fn connections(watcher: &mut Client) -> usize {
    let metrics = watcher.get("/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix("fornax_connections "));
    value.and_then(|value| value.parse().ok()).expect("a number")
}

/// Sockets in this process, whose limit the server inherits.
fn may_have_files(files: usize) -> bool {
    static RAISE: Once = Once::new();
    let limit = getrlimit(Resource::Nofile);
    RAISE.call_once(|| {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to the hard limit");
    });
    limit.maximum.is_none_or(|maximum| maximum >= files as u64)
}

/// Returns when it came, once it was left where it can see that.
async fn be_slow(address: SocketAddr, way: Way) -> Instant {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(RECEIVE_BYTES).expect("a small buffer");
    socket.set_send_buffer_size(SEND_BYTES).expect("a small buffer");
    let began = Instant::now();
    let mut stream = socket.connect(address).await.expect("it is let in");
    let came = Instant::now();
    match way {
        Way::Silent => assert_left(&mut stream, began, FIRST_BYTE, "").await,
        Way::Dribbles => dribble(stream, began).await,
        Way::Stalls => {
            let begin = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nnot all of it";
            stream.write_all(begin).await.expect("a beginning is taken");
            assert_left(&mut stream, began, STALL, "HTTP/1.1 200 ").await;
        }
        Way::TakesNothing { path } => take_nothing(stream, path).await,
    }
    came
}

async fn dribble(stream: TcpStream, began: Instant) {
    let (mut reader, mut writer) = stream.into_split();
    let dribbling = tokio::spawn(async move {
        let head = b"GET /hello HTTP/1.1\r\nhost: a\r\nx-endless: ".iter().chain(std::iter::repeat(&b'a'));
        for byte in head {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(DRIBBLE_EVERY).await;
        }
    });
    assert_left(&mut reader, began, HEAD, "HTTP/1.1 408 ").await;
    dribbling.abort();
}

/// Asks for a large answer and stays, without reading, until all must be over. What the server does about it is seen there.
async fn take_nothing(mut stream: TcpStream, path: &str) {
    if path == "/echo" {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE_BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("a head is taken");
        let piece = vec![b'x'; 64 << 10];
        // Until nobody takes more, or it is left.
        let sending = async { while stream.write_all(&piece).await.is_ok() {} };
        let _ = tokio::time::timeout(ALL_GONE, sending).await;
    } else {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.expect("a request is taken");
        tokio::time::sleep(STALL).await;
    }
    // Closed by its end only: who leaves on its own shows nothing.
    std::mem::forget(stream.into_std());
}

/// Reads until the server ends the connection, which must be in its time and with what is due to this client.
async fn assert_left(stream: &mut (impl tokio::io::AsyncRead + Unpin), began: Instant, patience: Duration, begin: &str) {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(ALL_GONE + ALL_GONE, stream.read_to_end(&mut answer)).await.expect("it is left");
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&answer);
    // What it still sent may turn the end into a reset, and take the answer with it.
    assert!(text.starts_with(begin) || answer.is_empty() && read.is_err(), "after {took:?}: {text}");
    assert!(took >= patience && took <= ALL_GONE, "left after {took:?} of {patience:?}: {text}");
}
