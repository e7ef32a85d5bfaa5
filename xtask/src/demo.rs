//! `cargo xtask demo`: the example app of `examples/demo`, served by the real program, with a line to try each of its routes.

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result, guests};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

pub(crate) const COMMAND: Command = Command {
    name: "demo",
    summary: "build and serve an example app; print what to try",
    help: "
Usage: cargo xtask demo [--listen ADDR] [--profile NAME] [--check]

Builds the guests and `fornax`, serves examples/demo/fornax.toml and prints a `curl` line for each of its routes, and what to run on
the command line. Ctrl-C ends it. All that it shows is written in Rust; guests in languages that are not installed are named and left out.

  --listen ADDR    default 127.0.0.1:8080, or any free port where that one is taken
  --profile NAME   cargo profile to build `fornax` with, default release; `dev` compiles faster
  --check          sends each request once instead of waiting for you, and fails where an answer is not as promised",
    run,
};

const LISTEN: &str = "127.0.0.1:8080";

/// The longest that an answer may take, on a machine that compiles something else at the same time.
const ANSWER: Duration = Duration::from_secs(30);

/// One request of the tour.
struct Try {
    method: &'static str,
    target: &'static str,
    body: &'static str,
    /// What its answer shows.
    what: &'static str,
    /// What `--check` expects; none for what depends on the world outside.
    status: Option<u16>,
    /// Part of the answer's body.
    contains: &'static str,
    /// A field the answer has, in small letters; where one is said, it is shown.
    field: &'static str,
}

impl Try {
    const fn get(target: &'static str, what: &'static str, contains: &'static str) -> Self {
        Self { method: "GET", target, body: "", what, status: Some(200), contains, field: "" }
    }

    const fn post(target: &'static str, body: &'static str, what: &'static str, contains: &'static str) -> Self {
        Self { method: "POST", body, ..Self::get(target, what, contains) }
    }

    fn curl(&self, address: &str) -> String {
        let body = if self.method == "POST" { format!("-d '{}' ", self.body) } else { String::new() };
        let head = if self.field.is_empty() { "-s" } else { "-si" };
        format!("curl {head} {body}'http://{address}{}'", self.target)
    }
}

/// One command of the tour that serves nothing.
struct Once {
    /// Behind `run`; what ends in `.wasm` is a guest.
    args: &'static [&'static str],
    what: &'static str,
    /// All that it prints.
    prints: &'static str,
}

impl Once {
    fn args(&self) -> impl Iterator<Item = String> {
        let guests = guests::directory();
        // `--chain` takes several, with commas between them.
        let path =
            move |name: &str| if name.ends_with(".wasm") { guests.join(name).display().to_string() } else { name.to_string() };
        self.args.iter().map(move |arg| arg.split(',').map(&path).collect::<Vec<_>>().join(","))
    }
}

const ONCE: &[Once] = &[
    Once {
        args: &["p1-command.wasm", "--", "one", "two"],
        what: "a program, once, on this terminal",
        prints: "argument: one\nargument: two\n",
    },
    Once {
        args: &["--chain", "plugin-rot13.wasm,plugin-uppercase.wasm", "--input", "Hello"],
        what: "two plugins in sequence, and what each of them finds",
        prints: "Step 1: Uryyb (plugin-rot13)\nStep 2: URYYB (plugin-uppercase)\n",
    },
];

/// The tour, in the order it is printed and checked.
const TRIES: &[Try] = &[
    Try::get("/hello", "a component of WASI 0.2", "Hello from Fornax!"),
    Try::get("/hello3", "a component of WASI 0.3", "Hello from Fornax!"),
    Try::post("/echo", "ping", "a body streamed through WASI 0.2", "ping"),
    Try::post("/echo3", "pong", "a body streamed through WASI 0.3", "pong"),
    Try::post("/?key=visits", "", "count; the number survives a restart", ""),
    Try::get("/?key=visits", "read it", ""),
    Try::get("/inspect", "all that a guest sees: its request, its variable, its directory", "hi from fornax.toml"),
    Try::get("/greet?name=Ada", "a program of WASI preview 1, which reads JSON", "Hello, Ada! (seed: "),
    Try::get("/kept?name=Ada", "the same, kept for ten minutes", "Hello, Ada! (seed: "),
    Try { field: "age:", ..Try::get("/kept?name=Ada", "the kept answer: the same seed, and its age", "Hello, Ada! (seed: ") },
    Try::post("/cgi/a/b?c=d", "body", "a CGI script: its variables and the body", "PATH_INFO=/a/b\nQUERY_STRING=c=d"),
    Try {
        field: "fornax-return-code: 0",
        ..Try::get("/count?input=Hello,+World!", "a plugin: the lines it logged, the code it returned", "letters = 10")
    },
    Try::post("/shout", "Uryyb, Jbeyq!", "two plugins in sequence", "Result = HELLO, WORLD!"),
    Try::get("/static/", "a folder, without a guest", "A page without a guest"),
    Try::get("/routes", "every route of the app, for a browser", "/shout"),
    Try { status: None, ..Try::get("/proxy?url=https://example.com/", "a call out to the one origin that is granted", "") },
    Try {
        status: Some(502),
        ..Try::get("/proxy?url=https://example.org/", "a call out to another: refused", "HTTP-request-denied")
    },
];

fn run(args: &[String]) -> Result<()> {
    let args = Args::parse_whole(args, &["--check"], &["--listen", "--profile"])?;
    let profile = args.text("--profile").unwrap_or("release");
    guests::build(&mut Steps::new(2))?;
    if args.has("--check") {
        return check(&build(profile)?);
    }
    let program = build(profile)?;
    let listen = args.text("--listen").map_or_else(|| free_address(LISTEN), |listen| Ok(listen.to_string()))?;
    eprintln!("\nAs soon as Fornax says that it is listening, try:\n");
    for one in TRIES {
        eprintln!("  # {}\n  {}\n", one.what, one.curl(&listen));
    }
    for one in ONCE {
        let args: Vec<_> = one.args().collect();
        eprintln!("  # {}\n  {} run {} </dev/null\n", one.what, program.display(), args.join(" "));
    }
    // Fornax takes this process's place, and with it the terminal: Ctrl-C and the exit code are its own.
    let mut fornax = work::command(&program);
    let error = fornax.arg("run").arg(configuration()?).args(["--listen", &listen]).exec();
    Err(work::could_not_start(&fornax, &error))
}

/// Serves on a free port, sends each request once, stops the server. The guests and `program` are built already.
pub(crate) fn check(program: &Path) -> Result<()> {
    let mut fornax = work::command(program);
    fornax.arg("run").arg(configuration()?).args(["--listen", "127.0.0.1:0"]);
    let server = crate::server::Server::start(&mut fornax, "http://")?;
    let mut failures = 0;
    for one in TRIES {
        let Some(status) = one.status else { continue };
        let verdict = match ask(&server.address, one) {
            Ok((got, head, body)) if got == status && body.contains(one.contains) && head.contains(one.field) => "ok".to_string(),
            Ok((_, head, body)) => {
                let Try { contains, field, .. } = one;
                format!("FAILED, expected {status} with `{contains}` and `{field}`: {head}\n{}", body.trim())
            }
            Err(error) => format!("FAILED: {error}"),
        };
        failures += usize::from(verdict != "ok");
        eprintln!("  {} {}: {verdict}", one.method, one.target);
    }
    let end = server.stop();
    for one in ONCE {
        let mut fornax = work::command(program);
        let printed = work::output(fornax.arg("run").args(one.args()).stdin(Stdio::null()));
        let verdict = match printed {
            Ok(printed) if printed == one.prints => "ok".to_string(),
            Ok(printed) => format!("FAILED, expected `{}`: {printed}", one.prints),
            Err(error) => format!("FAILED: {error}"),
        };
        failures += usize::from(verdict != "ok");
        eprintln!("  fornax run {}: {verdict}", one.args.join(" "));
    }
    if failures > 0 {
        return Err(format!("{failures} of what the demo shows failed"));
    }
    end
}

/// The program, built with this profile.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    work::run(work::cargo(["build", "--profile", profile, "-p", "fornax", "--bin", "fornax"]).args(work::locked()))?;
    Ok(program(profile))
}

/// Where the program is that cargo built with this profile.
pub(crate) fn program(profile: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    work::target().join(folder).join("fornax")
}

/// The example's file, or a copy whose paths fit where the target directory is not the default one.
fn configuration() -> Result<PathBuf> {
    let example = work::root().join("examples/demo");
    let file = example.join("fornax.toml");
    if work::target() == work::root().join("target") {
        return Ok(file);
    }
    let copy = work::target().join("demo");
    work::create_dir(&copy)?;
    let copy = copy.join("fornax.toml");
    let text = moved(&work::read(&file)?, &example, &work::target());
    std::fs::write(&copy, text).map_err(|error| format!("{}: {error}", copy.display()))?;
    Ok(copy)
}

/// The example's text with its relative paths made absolute.
fn moved(text: &str, example: &Path, target: &Path) -> String {
    text.replace("\"../../target/", &format!("\"{}/", target.display()))
        .replace("host = \"data\"", &format!("host = \"{}/data\"", example.display()))
        .replace("files = \"public\"", &format!("files = \"{}/public\"", example.display()))
}

/// `wanted`, or a free port of the same host. Somebody else may take it before Fornax does, which then says so.
fn free_address(wanted: &str) -> Result<String> {
    let host = wanted.rsplit_once(':').map_or(wanted, |(host, _)| host);
    let listener = TcpListener::bind(wanted).or_else(|_| TcpListener::bind((host, 0)));
    let address = listener.and_then(|listener| listener.local_addr()).map_err(|error| format!("{wanted}: {error}"))?;
    Ok(address.to_string())
}

/// Status, head and body; the head in small letters.
fn ask(address: &str, one: &Try) -> std::io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let Try { method, target, body, .. } = one;
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    // A chunked body keeps its chunk sizes: what is looked for is shorter than a chunk.
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no HTTP answer: `{head}`")))?;
    Ok((status, head.to_ascii_lowercase(), body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_example_move() {
        let text =
            "source = \"../../target/guests/a.wasm\"\ndirs = [{ host = \"data\", guest = \"/data\" }]\nfiles = \"public\"\n";
        let moved = moved(text, Path::new("/e"), Path::new("/t"));
        let expected =
            "source = \"/t/guests/a.wasm\"\ndirs = [{ host = \"/e/data\", guest = \"/data\" }]\nfiles = \"/e/public\"\n";
        assert_eq!(moved, expected);
    }

    #[test]
    fn the_example_has_a_route_for_each_try() {
        let example = include_str!("../../examples/demo/fornax.toml");
        for one in TRIES {
            let path = one.target.split('?').next().unwrap_or_default();
            let has = |path: &str| example.contains(&format!("path = \"{path}\""));
            assert!(has(path) || path.match_indices('/').any(|(at, _)| has(&format!("{}/*", &path[..at]))), "{path}");
        }
        assert!(moved(example, Path::new("/e"), Path::new("/t")).matches("..").count() == 0);
    }

    #[test]
    fn a_taken_port_gives_way() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        let free = free_address(&taken).unwrap();
        assert_ne!(free, taken);
    }

    #[test]
    fn curl_lines() {
        assert_eq!(TRIES[0].curl("a:1"), "curl -s 'http://a:1/hello'");
        assert_eq!(TRIES[2].curl("a:1"), "curl -s -d 'ping' 'http://a:1/echo'");
        let shows_head = TRIES.iter().find(|one| !one.field.is_empty()).unwrap();
        assert!(shows_head.curl("a:1").starts_with("curl -si 'http://a:1/"));
    }
}
