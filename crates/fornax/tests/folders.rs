//! `fornax run DIR` and `fornax run config.json`: what is in the folder or the file is what is served.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::{App, Finished, Fornax, guest, run_to_end, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");
const SOON: Duration = Duration::from_secs(30);

const HELLO: &str = "Hello from Fornax!\n";

fn bytes(name: &str) -> Vec<u8> {
    fs::read(guest(name)).expect("a guest")
}

/// A folder of artifacts by their names.
fn folder(files: &[(&str, &str)]) -> App {
    let app = App::new();
    for (file, guest) in files {
        app.file(file, &bytes(guest));
    }
    app
}

#[test]
fn every_artifact_of_a_folder_is_a_route_of_its_name() {
    let app = folder(&[("hello.wasm", "hello-wasip2"), ("my multi.wasm", "multi"), ("inspect.wasm", "inspect")]);
    app.file(".hidden.wasm", b"not ready");
    app.file("notes.txt", b"not served");
    fs::create_dir(app.folder().join("sub.wasm")).expect("a folder");
    let fornax = Fornax::run(FORNAX, app.folder(), &["--env", "GREETING=hi"]);
    let mut client = fornax.client();
    for (path, status, part) in [
        ("/hello", 200, HELLO),
        ("/hello/any/path?x=1", 200, HELLO),
        ("/my-multi/", 200, "http entry\n"),
        ("/inspect/a?b", 200, "\"path_with_query\": \"/inspect/a?b\""),
        ("/inspect", 200, "\"GREETING\": \"hi\""),
        ("/notes.txt", 404, ""),
        ("/.hidden", 404, ""),
        ("/hello.wasm", 404, ""),
        ("/sub/", 404, ""),
    ] {
        let response = client.get(path);
        assert!(response.status == status && response.text().contains(part), "{path}: {} {}", response.status, response.text());
    }
    let index = client.get("/").text();
    for part in ["<a href=\"/hello/\">Open</a>", "<a href=\"/my-multi/\">Open</a>", "<a href=\"/inspect/\">Open</a>"] {
        assert!(index.contains(part), "{part} is missing in\n{index}");
    }
    assert_eq!(index.matches("class=\"card\"").count(), 3);
}

#[test]
fn a_folder_may_have_artifacts_of_every_entry() {
    let app = folder(&[("hello.wasm", "hello-wasip2"), ("rot13.wasm", "plugin-rot13"), ("greet.wasm", "wasio-hello-world")]);
    let answers = |fornax: &Fornax| {
        let mut client = fornax.client();
        let plugin = client.get("/rot13?input=Hello").text();
        assert_eq!((client.get("/hello").text().as_str(), plugin.trim_end()), (HELLO, "Result = Uryyb"));
        (client.get("/greet?name=you"), client.get("/").text())
    };
    let (program, index) = answers(&Fornax::run(FORNAX, app.folder(), &["--codec", "wasio"]));
    assert!(program.status == 200 && program.text().starts_with("Hello, you!"), "{}", program.text());
    assert!(index.matches("class=\"card\"").count() == 3 && !index.contains("--codec"), "{index}");

    // Without one, what can be served is, and the rest says why it is not.
    let fornax = Fornax::run(FORNAX, app.folder(), &[]);
    let (program, index) = answers(&fornax);
    let (text, missing) = (program.text(), "--codec wasio, cgi or ignis");
    assert!(program.status == 501 && text.contains("\"no-codec\"") && text.contains(missing), "{} {text}", program.status);
    assert!(index.contains(&format!("greet.wasm, a program: it answers when the server is started with {missing}")), "{index}");
    fornax.wait_for_log(|line| line.contains("greet") && line.contains(missing), SOON);
}

#[test]
fn a_flag_that_fits_no_artifact_of_a_folder_is_explained() {
    let app = folder(&[("hello.wasm", "hello-wasip2"), ("rot13.wasm", "plugin-rot13")]);
    for (flags, sentence) in [
        (["--codec", "cgi"], "the codec `cgi` is for the entry `run`; the artifact offers `http`"),
        (["--codec", "cgl"], "there is no codec `cgl`; there are `ignis`, `wasio`, `cgi`, `text`"),
        (["--entry", "run"], "the artifact has no entry `run`; it offers `http`"),
    ] {
        let stderr = run(app.folder(), &[".", flags[0], flags[1]]).stderr;
        assert!(stderr.starts_with("error: module `hello` (") && stderr.contains(sentence), "{stderr}");
    }
    let fornax = Fornax::run(FORNAX, app.folder(), &["--codec", "text", "--entry", "process"]);
    assert_eq!(fornax.client().get("/hello").text(), HELLO);
}

#[test]
fn watching_a_folder_sees_new_and_removed_files() {
    let app = folder(&[("a.wasm", "hello-wasip2")]);
    let fornax = Fornax::run(FORNAX, app.folder(), &["--watch"]);
    let mut client = fornax.client();
    assert_eq!((client.get("/a").text().as_str(), client.get("/b").status), (HELLO, 404));
    app.file("b.wasm", &bytes("multi"));
    wait_until("the new one answers", SOON, || client.get("/b").text() == "http entry\n");
    assert!(client.get("/").text().contains("\"/b/\""));
    app.file("b.wasm", &bytes("hello-wasip2"));
    wait_until("the changed one answers", SOON, || client.get("/b").text() == HELLO);
    fs::remove_file(app.folder().join("a.wasm")).expect("removed");
    wait_until("the removed one is gone", SOON, || client.get("/a").status == 404);
    // One that is no component changes nothing, and neither does an empty folder.
    app.file("c.wasm", b"half a build");
    fornax.wait_for_log(|line| line.starts_with("error: module `c`"), SOON);
    assert_eq!(client.get("/b").text(), HELLO);
    fs::remove_file(app.folder().join("c.wasm")).expect("removed");
    fs::remove_file(app.folder().join("b.wasm")).expect("removed");
    fornax.wait_for_log(|line| line.starts_with("error: no artifact in the folder"), SOON);
    assert_eq!(client.get("/b").text(), HELLO);
}

fn run(folder: &Path, args: &[&str]) -> Finished {
    run_to_end(Command::new(FORNAX).current_dir(folder).arg("run").args(args).args(["--listen", "127.0.0.1:0"]))
}

#[track_caller]
fn assert_refused(finished: &Finished, sentence: &str) {
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""));
    assert_eq!(finished.stderr.lines().next(), Some(format!("error: {sentence}").as_str()), "{}", finished.stderr);
}

#[test]
fn folders_that_cannot_be_served_are_explained() {
    let app = folder(&[("a b.wasm", "hello-wasip2"), ("a-b.wasm", "hello-wasip2")]);
    for name in ["empty", "app", "broken"] {
        fs::create_dir(app.folder().join(name)).expect("a folder");
    }
    app.file("app/fornax.toml", b"");
    app.file("broken/x.wasm", b"text\n");
    for (name, sentence) in [
        (".", "the files `a b.wasm` and `a-b.wasm` would both be the module `a-b`; rename one of them"),
        ("empty", "no artifact in the folder empty; put a .wasm file into it"),
        ("app", "no artifact in the folder app; for the app in it, name its fornax.toml"),
    ] {
        assert_refused(&run(app.folder(), &[name]), sentence);
    }
    let stderr = run(app.folder(), &["broken"]).stderr;
    assert!(stderr.starts_with("error: module `x` (") && stderr.contains("text file, not WebAssembly"), "{stderr}");
}

#[test]
fn configurations_of_wasio_that_are_wrong_are_explained() {
    let app = folder(&[("hello.wasm", "hello-wasip2")]);
    for (text, sentence) in [
        ("{\n  \"routs\": {} }", "unknown key `routs` in config.json at line 2, column 3; did you mean `routes`?"),
        (
            "{ \"routes\": { \"/a\": { \"wasm_file\": \"helo.wasm\" } } }",
            "missing file `helo.wasm` in config.json at line 1, column 36",
        ),
        (
            "{ \"routes\": { \"/a\": { \"wasm_file\": \"hello.wasm\" },\n \"/a\": { \"wasm_file\": \"hello.wasm\" } } }",
            "duplicate route `/a` in config.json at line 2, column 2",
        ),
    ] {
        app.file("config.json", text.as_bytes());
        assert_refused(&run(app.folder(), &["config.json"]), sentence);
    }
    let flags = "--dir, --env, --allow-host, --entry, --codec, --reuse, --timeout, --memory and arguments go with an artifact or a folder of \
                 them; for an app, write `dirs`, `env`, `outbound`, `entry`, `codec`, `reuse`, `limits` and `args` into its [[module]]";
    assert_refused(&run(app.folder(), &["config.json", "--env", "A=b"]), flags);
    assert_refused(&run(app.folder(), &["none.json"]), "no configuration file at none.json");
}
