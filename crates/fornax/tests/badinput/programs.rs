//! Programs, plugins and chains that cannot be served as they are.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use testkit::{App, guest, run_to_end};

use super::{FORNAX, assert_refused, component, run, shown};

const PROCESS: &str = "(func (export \"process\") (param i32 i32 i32 i32) (result i32) i32.const 0)";
const MEMORY: &str = "(memory (export \"memory\") 1)";
const START: &str = "(func (export \"_start\"))";

const SIGNATURE: &str =
    "the exported function `process` must be (input_ptr: i32, input_len: i32, env_ptr: i32, env_len: i32) -> i32";

#[test]
fn core_modules_that_cannot_be_called() {
    let nobody = "which nobody provides; provided are ";
    for (text, sentence) in [
        (format!("(import \"env\" \"abort\" (func)) {MEMORY} {START}"), format!("the module imports `env.abort`, {nobody}")),
        (
            format!("(import \"wasi_snapshot_preview1\" \"fd_fly\" (func)) {START}"),
            format!("the module imports `wasi_snapshot_preview1.fd_fly`, {nobody}"),
        ),
        (format!("(import \"a\" \"memory\" (memory 1)) {START}"), format!("the module imports `a.memory`, {nobody}")),
        (
            format!("{MEMORY} {START} {PROCESS}"),
            "the module offers the entries `run`, `process`; say which one is meant: `entry = \"run\"` in its [[module]], or `--entry run`".to_owned(),
        ),
        (
            PROCESS.to_owned(),
            "the module exports `process` and no memory called `memory`, which its input would be written to".to_owned(),
        ),
        (format!("{MEMORY} (func (export \"process\"))"), SIGNATURE.to_owned()),
        (format!("{MEMORY} (func (export \"process\") (param i32 i32 i32 i64) (result i32) i32.const 0)"), SIGNATURE.to_owned()),
        (
            "(func (export \"_start\") (param i32))".to_owned(),
            "the exported function `_start` must take and return nothing".to_owned(),
        ),
    ] {
        let app = App::new();
        app.file("odd.wasm", &component(&format!("(module {text})")));
        app.file("fornax.toml", b"[[module]]\nname = \"odd\"\nsource = \"odd.wasm\"\n");
        let finished = run(app.folder(), &["fornax.toml"]);
        let begins = format!("error: module `odd` (DIR/odd.wasm): {sentence}");
        assert!(finished.stderr.starts_with(&begins), "{text}: {}", finished.stderr);
        assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.lines().count()), (Some(1), "", 1), "{text}");
    }
}

#[test]
fn a_type_that_does_not_fit_is_named() {
    let app = App::new();
    let text = format!("(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32))) {START})");
    app.file("odd.wasm", &component(&text));
    let stderr = run(app.folder(), &["odd.wasm", "--codec", "wasio"]).stderr;
    assert!(stderr.starts_with("error: module `odd` (DIR/odd.wasm): ") && stderr.contains("fd_write"), "{stderr}");
}

/// What `fornax run` says of a module of `guest` with `lines` at `/`, without the name of the file.
fn of_module(guest_name: &str, lines: &str) -> String {
    let app = App::new().module("odd", guest_name, lines).route("/", "odd", "");
    let file = guest(guest_name).display().to_string();
    let finished = run(app.folder(), &[app.write().to_str().expect("UTF-8")]);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    finished.stderr.trim_end().replace(&format!("module `odd` ({file}): "), "")
}

#[test]
fn codecs_and_entries_that_do_not_fit() {
    for (guest, lines, sentence) in [
        ("p1-command", "codec = \"cgl\"", "there is no codec `cgl`; there are `ignis`, `wasio`, `cgi`, `text`"),
        ("p1-command", "codec = \"text\"", "the codec `text` is for the entry `process`; the artifact offers `run`"),
        ("plugin-rot13", "codec = \"cgi\"", "the codec `cgi` is for the entry `run`; the artifact offers `process`"),
        ("hello-wasip2", "codec = \"wasio\"", "the codec `wasio` is for the entry `run`; the artifact offers `http`"),
        ("hello-wasip2", "entry = \"run\"", "the artifact has no entry `run`; it offers `http`"),
        ("p1-command", "entry = \"process\"", "the artifact has no entry `process`; it offers `run`"),
        (
            "p1-command",
            "",
            "the route `/`: the module `odd` is a program, and how a request gets into a program must be said: add \
             `codec = \"wasio\"`, `\"cgi\"` or `\"ignis\"` to it",
        ),
        (
            "multi",
            "entry = \"run\"",
            "the route `/`: the module `odd` is a program, and how a request gets into a program must be said: add \
             `codec = \"wasio\"`, `\"cgi\"` or `\"ignis\"` to it",
        ),
    ] {
        assert_eq!(of_module(guest, lines), format!("error: {sentence}"), "{guest} {lines}");
    }
}

#[test]
fn flags_about_entries_and_codecs() {
    let app = App::new();
    for name in ["hello-wasip2", "multi", "p1-command"] {
        app.file(&format!("{name}.wasm"), &fs::read(guest(name)).expect("a guest"));
    }
    for (args, sentence) in [
        (
            &["hello-wasip2.wasm", "--codec", "wasio"][..],
            "module `hello-wasip2` (DIR/hello-wasip2.wasm): the codec `wasio` is for the entry `run`; the artifact offers `http`",
        ),
        (
            &["p1-command.wasm", "--codec", "json"],
            "module `p1-command` (DIR/p1-command.wasm): there is no codec `json`; there are `ignis`, `wasio`, `cgi`, `text`",
        ),
        (
            &["p1-command.wasm", "--entry", "http"],
            "module `p1-command` (DIR/p1-command.wasm): the artifact has no entry `http`; it offers `run`",
        ),
        (&["p1-command.wasm", "--entry", "proces"], "unknown entry `proces`; did you mean `process`?"),
        (
            &["p1-command.wasm"],
            "a program runs once: --watch, --listen and --tls-cert are for services. To serve it over HTTP, name a codec: --codec wasio, cgi \
             or ignis",
        ),
        (
            &["multi.wasm", "--entry", "run"],
            "a program runs once: --watch, --listen and --tls-cert are for services. To serve it over HTTP, name a codec: --codec wasio, cgi \
             or ignis",
        ),
    ] {
        assert_refused(&run(app.folder(), args), sentence);
    }
}

#[test]
fn a_directory_that_cannot_be_opened() {
    let app = App::new();
    app.file("p1-command.wasm", &fs::read(guest("p1-command")).expect("a guest"));
    app.file("text", b"");
    for (dir, sentence) in [("none::/data", "missing directory `none`"), ("text::/data", "not a directory: `text`")] {
        let finished = run(app.folder(), &["p1-command.wasm", "--codec", "cgi", "--dir", dir]);
        assert_refused(&finished, sentence);
    }
}

/// A command that is refused as other users are: to root no directory is closed. None where that cannot be had.
fn without_root(program: &str, closed: &Path) -> Option<Command> {
    if fs::read_dir(closed).is_err() {
        return Some(Command::new(program));
    }
    // Without what lets root pass by permissions.
    let stripped = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", "--", program]);
        command
    };
    let refused = stripped("ls").arg(closed).output().is_ok_and(|output| output.status.code() == Some(2));
    if !refused {
        testkit::note("SKIPPED: root cannot be refused a directory, and `setpriv` cannot change that");
    }
    refused.then(|| stripped(program))
}

#[test]
fn a_directory_that_nobody_may_read() {
    let app = App::new();
    let closed = app.folder().join("closed");
    fs::create_dir_all(closed.join("below")).expect("a directory");
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("a mode");
    let Some(_) = without_root(FORNAX, &closed) else { return };
    for (name, codec) in [("p1-command", true), ("cli-component", true), ("cli-component3", true), ("inspect", false)] {
        let file = format!("{name}.wasm");
        app.file(&file, &fs::read(guest(name)).expect("a guest"));
        for (dir, sentence) in [
            (
                "closed::/data",
                format!(
                    "module `{name}` (DIR/{file}): the directory for `/data` cannot be opened: Permission denied (os error 13)"
                ),
            ),
            ("closed/below::/data", "cannot open (permission denied) directory `closed/below`".to_owned()),
        ] {
            let mut command = without_root(FORNAX, &closed).expect("as before");
            command.current_dir(app.folder()).args(["run", &file, "--dir", dir, "--listen", "127.0.0.1:0"]);
            command.args(if codec { &["--codec", "cgi"][..] } else { &[] });
            let finished = shown(run_to_end(&mut command), app.folder());
            assert_refused(&finished, &sentence);
        }
    }
    // Or else it could not be removed.
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("a mode");
}

/// Two plugins, a program and a service, and these routes.
fn refused_app(lines: &str, sentence: &str) {
    let app = App::new()
        .module("rot13", "plugin-rot13", "")
        .module("uppercase", "plugin-uppercase", "")
        .module("hello", "hello-wasip2", "")
        .tables(lines);
    app.write();
    let stderr = run(app.folder(), &["fornax.toml"]).stderr;
    let first = stderr.lines().next().unwrap_or_default();
    // The place is where the table is, behind the modules.
    let (before, after) = sentence.split_once("AT").unwrap_or((sentence, ""));
    assert!(first.starts_with(&format!("error: {before}")) && first.ends_with(after), "{lines}\n{first}\nnot\n{sentence}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn chains_that_are_none() {
    let route = "[[route]]\npath = \"/c\"\n";
    for (lines, sentence) in [
        ("chain = []", "empty list `chain` in fornax.toml at line AT"),
        ("chain = [\"rot13\", \"upercase\"]", "unknown module `upercase` in AT; did you mean `uppercase`?"),
        ("chain = [\"rot13\"]\nmodule = \"hello\"", "both `module` and `chain` in AT; keep one of them"),
        (
            "module = \"rot13\"\nlimits = { cpu = \"1s\" }",
            "`limits` of a route without a chain in AT; a module has limits of its own",
        ),
        (
            "chain = [{ module = \"rot13\", output = \"last\" }]",
            "unknown output `last` in AT; write `whole`, or leave the key out for the result alone",
        ),
        ("chain = [{ module = \"rot13\", outpt = \"whole\" }]", "unknown key `outpt` in AT; did you mean `output`?"),
        (
            "chain = [\"rot13\",\"rot13\",\"rot13\",\"rot13\",\"rot13\",\"rot13\",\"rot13\",\"rot13\",\"rot13\"]",
            "a chain of more than 8 modules in AT",
        ),
        ("chain = [\"rot13\"]\nlimits = { cpu = \"1h\" }", "`cpu` over its cap of 30s in AT"),
    ] {
        refused_app(&format!("{route}{lines}"), sentence);
    }
    refused_app(
        "[[route]]\npath = \"/c\"\nmodule = \"hello\"\n[[route]]\npath = \"/c\"\nchain = [\"rot13\"]",
        "the routes `/c` and `/c` match the same paths and have a method in common",
    );
}

#[test]
fn a_step_that_takes_no_bytes() {
    let app = App::new();
    app.file("odd.wasm", &component("(component (instance $i) (export \"wasi:keyvalue/watcher@0.2.0-draft\" (instance $i)))"));
    let config = "[[module]]\nname = \"odd\"\nsource = \"odd.wasm\"\n[[route]]\npath = \"/c\"\nchain = [\"odd\"]\n";
    app.file("fornax.toml", config.as_bytes());
    assert_refused(&run(app.folder(), &["fornax.toml"]), "the route `/c`: the module `odd` has no entry that takes bytes");
}

#[test]
fn keys_of_modules_with_values_nobody_knows() {
    let module = |line: &str| format!("[[module]]\nname = \"odd\"\nsource = {:?}\n{line}\n", guest("plugin-rot13"));
    for (line, sentence) in [
        ("process_input = \"offset-one\"", "unknown place `offset-one` in AT; write `offset-zero`, or leave the key out"),
        ("entry = \"proces\"", "unknown entry `proces` in AT; did you mean `process`?"),
        ("codecs = \"text\"", "unknown key `codecs` in AT; did you mean `codec`?"),
    ] {
        refused_app(&module(line), sentence);
    }
}
