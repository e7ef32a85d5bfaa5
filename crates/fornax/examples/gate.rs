//! What `cargo xtask gate` counts the instructions of: a whole server in this process, and calls of it, one after the other.
//! `gate GUESTS DATA CALLS`: the folder of the guests, the server's data directory, and how many calls of each row are counted.
//!
//! What makes one run differ from the next is left out: the tick, a pool as large as the machine, and the kernel's word for which
//! pages are dirty, which not every kernel has. A function is called before and after the calls of a row, for the counter to
//! find. With no calls, all is compiled and nothing measured.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use fornax::{Builder, Config, ExecuteLimits, PoolSize, Server};

/// What the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longer than any run: nothing is stopped or moved for having computed long, as everything does here.
const NO_TICK: Duration = Duration::from_secs(24 * 60 * 60);

/// Before those that are counted: buffers have grown, pages are there, lazy things are made.
const WARM_UP: u32 = 20;

/// Answered over HTTP; `xtask/src/gate.rs` has the rows in this order, and `process` after them.
const ROWS: [Row; 5] = [
    Row { name: "hello-wasip2", guest: "hello-wasip2", lines: "", answer: HELLO },
    Row { name: "hello-wasip3", guest: "hello-wasip3", lines: "", answer: HELLO },
    Row { name: "json-command", guest: "json-command", lines: "codec = \"wasio\"", answer: "{\"message\":\"Hello, World!\"" },
    Row {
        name: "serial",
        guest: "hello-wasip2",
        lines: "reuse = { mode = \"serial\", calls = 1000000, idle = \"1h\" }",
        answer: HELLO,
    },
    Row {
        name: "concurrent",
        guest: "hello-wasip3",
        lines: "reuse = { mode = \"concurrent\", calls = 1000000, idle = \"1h\" }",
        answer: HELLO,
    },
];

const HELLO: &str = "Hello from Fornax!\n";

/// Called by the library.
const PLUGIN: &str = "plugin-uppercase";

struct Row {
    name: &'static str,
    guest: &'static str,
    lines: &'static str,
    /// How the body begins.
    answer: &'static str,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [guests, data, calls] = &args[..] else { return Err("gate GUESTS DATA CALLS".into()) };
    let (guests, calls) = (Path::new(guests), calls.parse()?);
    let config = Config::from_toml(&app(guests, data), &guests.join("fornax.toml"), &|_| None)?;
    let builder = Builder::from_config(config)?.threads(1).pool(PoolSize::of(8));
    let server = builder.without_page_scan().tick(NO_TICK).build().await?;
    let plugin = server.registry().load(guests.join(PLUGIN).with_extension("wasm")).await?;
    if calls == 0 {
        return Ok(());
    }
    for row in &ROWS {
        over_http(&server, row, calls)?;
    }
    for turn in 0..WARM_UP + calls {
        if turn == WARM_UP {
            measured_begins();
        }
        let step = server.execute(plugin, "hello", ExecuteLimits::default()).await?;
        assert_eq!(step.output, "Result = HELLO");
    }
    measured_ends();
    Ok(())
}

fn app(guests: &Path, data: &str) -> String {
    let mut app = format!("[server]\nlisten = \"127.0.0.1:0\"\ndata = {data:?}\n");
    for Row { name, guest, lines, .. } in &ROWS {
        let source = guests.join(guest).with_extension("wasm");
        app.push_str(&format!("[[module]]\nname = {name:?}\nsource = {source:?}\n{lines}\n"));
        app.push_str(&format!("[[route]]\npath = \"/{name}\"\nmodule = {name:?}\n"));
    }
    app
}

/// Blocks this thread; the server has its own.
fn over_http(server: &Server, row: &Row, calls: u32) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(server.addresses()[0])?;
    let request = format!("GET /{} HTTP/1.1\r\nhost: gate\r\n\r\n", row.name);
    let mut answer = [0; 1024];
    for turn in 0..WARM_UP + calls {
        if turn == WARM_UP {
            measured_begins();
        }
        connection.write_all(request.as_bytes())?;
        let mut len = 0;
        while !is_whole(&answer[..len], row) {
            match connection.read(&mut answer[len..])? {
                0 => panic!("half an answer: {}", String::from_utf8_lossy(&answer[..len])),
                read => len += read,
            }
        }
    }
    measured_ends();
    Ok(())
}

/// Whether the head and the body it promises are there, and as they should be.
fn is_whole(answer: &[u8], row: &Row) -> bool {
    let text = std::str::from_utf8(answer).expect("text");
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
    let (_, len) = head.split_once("content-length: ").expect("a length");
    let len: usize = len.split_once("\r\n").map_or(len, |(len, _)| len).parse().expect("a number");
    assert!(body.len() < len || body.starts_with(row.answer), "{text}");
    body.len() == len
}

/// The counter starts from nothing here.
#[inline(never)]
fn measured_begins() {
    black_box("begins");
}

/// And is read here.
#[inline(never)]
fn measured_ends() {
    black_box("ends");
}
