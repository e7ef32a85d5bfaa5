//! Secrets are in the environment, in variables of modules, in options of backends, in a certificate's key, in requests. None of them
//! is ever in the log, in metrics, in an answer that is not the guest's, or in the data directory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{App, Body, Client, Fornax, children, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

const SOON: Duration = Duration::from_secs(10);

/// Nothing else looks like this.
fn canary(number: usize) -> String {
    format!("cAnArY{number:02}qZx7")
}

/// How many there are.
const CANARIES: usize = 24;

#[track_caller]
fn has_none(text: &[u8], whose: &str) {
    for number in 0..CANARIES {
        let canary = canary(number);
        let at = text.windows(canary.len()).position(|window| window == canary.as_bytes());
        assert!(at.is_none(), "{canary} is in {whose}: {}", String::from_utf8_lossy(&text[at.unwrap_or(0).saturating_sub(80)..]));
    }
}

fn files_have_none(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files += files_have_none(&path);
        } else {
            has_none(&fs::read(&path).expect("a readable file"), &path.display().to_string());
            files += 1;
        }
    }
    files
}

/// Eight by variables of the environment, eight as they are, in `env` of a module; four in options of a backend.
fn app(data: &Path) -> App {
    let by_variable = (0..8).map(|number| format!("V{number} = \"${{SECRET{number}}}\""));
    let literal = (8..16).map(|number| format!("V{number} = {:?}", canary(number)));
    let env = by_variable.chain(literal).collect::<Vec<_>>().join("\n");
    App::new()
        .server(&format!("metrics = \"/metrics\"\naccess_log = true\ndata = {data:?}"))
        .module("inspect", "inspect", &format!("evidence = true\n[module.env]\n{env}"))
        .route("/inspect/*", "inspect", "")
        .route("/cached/*", "inspect", "cache = { ttl = \"1h\" }")
        .module("trap", "hostile-trap", &format!("[module.env]\n{env}"))
        .route("/trap", "trap", "")
        .module("loop", "hostile-loop", &format!("limits = {{ cpu = \"50ms\" }}\nenv = {{ A = {:?} }}", canary(8)))
        .route("/loop", "loop", "")
        .module("exit", "hostile-run-exit", &format!("codec = \"wasio\"\nenv = {{ A = {:?} }}", canary(9)))
        .route("/exit", "exit", "")
        .tables("[[route]]\npath = \"/monitoring\"\npage = \"monitoring\"")
}

fn command(how: &str, file: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(how).arg(file).args(["--listen", "127.0.0.1:0", "-v"]).env("FORNAX_LOG", "trace");
    for number in (0..8).chain(16..CANARIES) {
        command.env(format!("SECRET{number}"), canary(number));
    }
    command
}

#[test]
fn no_secret_is_seen_where_it_was_not_meant_to_be() {
    none_is_seen("run");
}

#[test]
fn neither_is_one_with_two_processes() {
    none_is_seen("serve");
}

fn none_is_seen(how: &str) {
    let data = tempfile::tempdir().expect("a temporary directory");
    let app = app(data.path());
    // Where nobody else has seen to it.
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let mut server = Fornax::spawn(&mut command(how, &app.write()));
    for pid in children(server.pid()).into_iter().chain([server.pid()]) {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process's limits");
        let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("one of cores");
        assert_eq!(cores.split_whitespace().next(), Some("0"), "a process that dies leaves no core behind");
    }
    let mut client = server.client();
    // The guest itself was given them.
    let told = client.get("/inspect/env").text();
    assert!(told.contains(&canary(0)) && told.contains(&canary(15)), "{told}");
    let secret = canary(20);
    let fields = [("authorization", secret.as_str()), ("cookie", secret.as_str()), ("x-token", secret.as_str())];
    let ask = |client: &mut Client, path: &str| {
        let response = client.request("GET", path, &fields, Body::None);
        (response.status, format!("{:?}\n{}", response.headers, response.text()))
    };
    for (path, status) in
        [("/trap", 502), ("/loop", 504), ("/exit", 502), ("/nowhere", 404), ("/metrics", 200), ("/monitoring", 200)]
    {
        let (said, text) = ask(&mut client, path);
        assert_eq!(said, status, "{path}");
        has_none(text.as_bytes(), path);
    }
    // Stored in memory, and not given to whoever asks without them.
    assert_eq!(ask(&mut client, "/cached/headers").0, 200);
    assert!(!client.get("/cached/headers").text().contains(&secret), "an answer to another");
    wait_until("the log is written", SOON, || server.log().iter().any(|line| line.contains("/cached/headers")));
    has_none(server.log().join("\n").as_bytes(), "the log");
    assert!(files_have_none(data.path()) > 3, "there is something in the data directory");
    server.terminate();
    assert!(server.wait().success());
    has_none(server.log().join("\n").as_bytes(), "the log");
    assert!(files_have_none(data.path()) > 3, "there is something in the data directory");
}

#[test]
fn an_error_says_where_a_secret_is_wrong_and_not_what_it_is() {
    let wrong = [
        "[server]\nlisten = \"${SECRET0}\"\n",
        "[[module]]\nname = \"a\"\nsource = \"a.wasm\"\noutbound = [\"https://user:${SECRET1}@host\"]\n",
        "[[module]]\nname = \"a\"\nsource = \"a.wasm\"\nlimits = { cpu = \"${SECRET2}\" }\n",
        "[backend.b]\ninterface = \"keyvalue\"\ntype = \"redb\"\npassword = \"${SECRET3}\"\n",
        "[backend.b]\ninterface = \"keyvalue\"\ntype = \"${SECRET4}\"\n",
        "[[module]]\nname = \"${SECRET5} \"\nsource = \"a.wasm\"\n",
        "[[route]]\npath = \"/a\"\nmodule = \"${SECRET6}\"\n",
        "[server]\ntls = { cert = \"${SECRET7}.pem\", key = \"${SECRET16}.pem\" }\n",
    ];
    for text in wrong {
        let app = App::new();
        let file = app.file("fornax.toml", text.as_bytes());
        let output = command("run", &file).output().expect("the program runs");
        assert!(!output.status.success(), "{text}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("error"), "{said}");
        // Paths are the operator's, and are said.
        if !text.contains("tls") {
            has_none(said.as_bytes(), text);
        }
    }
}
