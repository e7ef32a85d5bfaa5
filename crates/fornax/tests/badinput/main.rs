//! Bad input gets one sentence that says what to do and exit code 1; 2 for a command line that cannot be read.

mod programs;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use testkit::{App, Finished, guest, run_to_end};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// `fornax run …` in `folder`, which errors show as `DIR`.
fn run(folder: &Path, args: &[&str]) -> Finished {
    let mut command = Command::new(FORNAX);
    shown(run_to_end(command.current_dir(folder).arg("run").args(args).args(["--listen", "127.0.0.1:0"])), folder)
}

/// `folder` as `DIR`.
fn shown(mut finished: Finished, folder: &Path) -> Finished {
    let real = folder.canonicalize().expect("a folder");
    for name in [folder, &real] {
        finished.stderr = finished.stderr.replace(name.to_str().expect("UTF-8"), "DIR");
    }
    finished
}

/// One sentence on stderr, and why where that says more; nothing on stdout, exit code 1.
#[track_caller]
fn assert_refused(finished: &Finished, sentence: &str) {
    let mut lines = finished.stderr.lines();
    assert_eq!(lines.next(), Some(format!("error: {sentence}").as_str()), "{}", finished.stderr);
    assert!(lines.next().is_none_or(|line| line.starts_with("  because: ")) && lines.next().is_none(), "{}", finished.stderr);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""));
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("WebAssembly")
}

#[test]
fn files_that_are_no_components() {
    let app = App::new();
    fs::create_dir(app.folder().join("folder")).expect("a folder");
    let hello = fs::read(guest("hello-wasip2")).expect("a guest");
    for (name, bytes) in [
        ("empty.wasm", &b""[..]),
        ("text.wasm", b"hello\n"),
        ("text.wat", b"(module)"),
        ("program.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0"),
        ("packed.wasm", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("cut6.wasm", &hello[..6]),
    ] {
        app.file(name, bytes);
    }
    let module = |name: &str, file: &str, what: &str| format!("module `{name}` (DIR/{file}): {what}");
    for (file, sentence) in [
        ("none.wasm", module("none", "none.wasm", "there is no file DIR/none.wasm")),
        ("empty.wasm", module("empty", "empty.wasm", "DIR/empty.wasm is empty")),
        ("text.wasm", module("text", "text.wasm", "the artifact is a text file, not WebAssembly")),
        (
            "text.wat",
            module(
                "text",
                "text.wat",
                "the artifact is WebAssembly in its text form; convert it with `wasm-tools parse FILE.wat -o FILE.wasm`",
            ),
        ),
        (
            "program.wasm",
            module(
                "program",
                "program.wasm",
                "the artifact is compiled code, not WebAssembly; publish the `.wasm` file it was made of",
            ),
        ),
        ("packed.wasm", module("packed", "packed.wasm", "the artifact is compressed; unpack it first")),
        ("cut6.wasm", module("cut6", "cut6.wasm", "the artifact ends within its first 8 bytes; it seems to be cut off")),
        ("folder", "no artifact in the folder folder; put a .wasm file into it".to_owned()),
    ] {
        assert_refused(&run(app.folder(), &[file]), &sentence);
    }
}

#[test]
fn a_component_that_was_cut_off() {
    let app = App::new();
    let hello = fs::read(guest("hello-wstd")).expect("a guest");
    for length in [9, 100, 1000, hello.len() / 2, hello.len() - 1] {
        app.file("cut.wasm", &hello[..length]);
        let finished = run(app.folder(), &["cut.wasm"]);
        let stderr = &finished.stderr;
        let begins = "error: module `cut` (DIR/cut.wasm): the file is not valid WebAssembly: ";
        assert!(stderr.starts_with(begins) && stderr.lines().count() == 1, "{length}: {stderr}");
        assert_eq!(finished.code, Some(1));
    }
}

#[test]
fn a_core_module_without_an_entry() {
    let app = App::new();
    // (module (memory (export "memory") 1) (func (export "work")))
    let core = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x11\x02\x06memory\x02\0\x04work\0\0\x0a\x04\x01\x02\0\x0b";
    app.file("core.wasm", core);
    app.file("bare.wasm", b"\0asm\x01\0\0\0");
    for (file, name, exports) in [("core.wasm", "core", "`memory`, `work`"), ("bare.wasm", "bare", "nothing")] {
        let sentence = format!(
            "module `{name}` (DIR/{file}): the module has no entry: it exports {exports}; looked for the functions `_start`, \
             `process`. An HTTP service is a component, such as `--target wasm32-wasip2` makes"
        );
        assert_refused(&run(app.folder(), &[file]), &sentence);
    }
}

#[test]
fn a_component_without_an_entry() {
    let app = App::new();
    app.file("lib.wasm", &component(r#"(component (instance $i) (export "my:lib/api@1.0.0" (instance $i)))"#));
    let stderr = run(app.folder(), &["lib.wasm"]).stderr;
    for part in [
        "error: module `lib` (DIR/lib.wasm): the component has no entry: it exports `my:lib/api@1.0.0`; looked for ",
        "`wasi:http/incoming-handler@0.2",
        "`wasi:http/handler@0.3",
    ] {
        assert!(stderr.contains(part), "{part}\nin\n{stderr}");
    }
}

#[test]
fn a_component_that_asks_for_what_nobody_provides() {
    let app = App::new();
    let text = r#"(component
        (import "foo:bar/baz@1.0.0" (instance (export "f" (func))))
        (instance $handler)
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    app.file("odd.wasm", &component(text));
    let finished = run(app.folder(), &["odd.wasm"]);
    let begins = "error: module `odd` (DIR/odd.wasm): the component imports `foo:bar/baz@1.0.0`, which no interface of this \
                  server provides. It provides ";
    assert!(finished.stderr.starts_with(begins), "{}", finished.stderr);
    for known in ["wasi:http", "wasi:keyvalue"] {
        assert!(finished.stderr.contains(known), "{}", finished.stderr);
    }
    assert_eq!((finished.code, finished.stderr.lines().count()), (Some(1), 1));
}

#[test]
fn a_component_that_was_not_granted_what_it_asks_for() {
    let app = App::new().module("counter", "counter", "");
    app.write();
    let finished = run(app.folder(), &["fornax.toml"]);
    let expected = format!(
        "module `counter` ({}): the component imports `wasi:keyvalue/store@0.2.0-draft`, and no binding grants it. Add \
         `bindings = {{ keyvalue = {{ default = \"embedded\" }} }}` to the module, or name a backend of yours",
        guest("counter").display()
    );
    assert_refused(&finished, &expected);
}

#[test]
fn a_release_candidate_of_the_next_generation() {
    let app = App::new();
    let name = "wasi:http/handler@0.3.0-rc-2026-01-01";
    for (file, text) in [
        ("exports", format!(r#"(component (instance $i) (export "{name}" (instance $i)))"#)),
        (
            "imports",
            format!(r#"(component (import "{name}" (instance)) (instance $i) (export "wasi:http/handler@0.3.0" (instance $i)))"#),
        ),
    ] {
        app.file(&format!("{file}.wasm"), &component(&text));
        let sentence = format!(
            "module `{file}` (DIR/{file}.wasm): the component uses `{name}`, a release candidate of WASI 0.3. Rebuild it for 0.3.0"
        );
        assert_refused(&run(app.folder(), &[&format!("{file}.wasm")]), &sentence);
    }
}

#[test]
fn a_module_of_the_lowering_of_2022() {
    let app = App::new();
    let export =
        |name: &str| format!(r#"(module (memory (export "memory") 1) (func (export "_start")) (func (export "{name}")))"#);
    let import = |from: &str, name: &str| {
        format!(r#"(module (import "{from}" "{name}" (func)) (memory (export "memory") 1) (func (export "_start")))"#)
    };
    for (file, text, named) in [
        ("realloc", export("canonical_abi_realloc"), "canonical_abi_realloc"),
        ("free", export("canonical_abi_free"), "canonical_abi_free"),
        ("http", import("wasi_experimental_http", "req"), "wasi_experimental_http"),
        ("abi", import("canonical_abi", "resource_drop_x"), "canonical_abi"),
    ] {
        app.file(&format!("{file}.wasm"), &component(&text));
        let sentence = format!(
            "module `{file}` (DIR/{file}.wasm): the module uses `{named}`, how interfaces were lowered in 2022. Rebuild it as a \
             component, such as `--target wasm32-wasip2` makes"
        );
        assert_refused(&run(app.folder(), &[&format!("{file}.wasm")]), &sentence);
    }
}

#[test]
fn apps_that_cannot_be_read() {
    let app = App::new();
    let source = guest("hello-wasip2");
    let module = format!("[[module]]\nname = \"hello\"\nsource = {source:?}\n");
    for (text, sentence) in [
        ("[[module]]\nname = \"a\"\nsource = hello\n".to_owned(), "string values must be quoted in f.toml at line 3, column 10"),
        ("[server\n".to_owned(), "unclosed table, expected `]` in f.toml at line 1, column 8"),
        (
            "[[module]]\nname = \"a\"\nsoruce = \"x\"\n".to_owned(),
            "unknown key `soruce` in f.toml at line 3, column 1; did you mean `source`?",
        ),
        (
            format!("{module}limits = {{ memori = \"1MiB\" }}\n"),
            "unknown key `memori` in f.toml at line 4, column 12; did you mean `memory`?",
        ),
        (
            format!("{module}[[route]]\npath = \"/\"\nmodule = \"helo\"\n"),
            "unknown module `helo` in f.toml at line 6, column 10; did you mean `hello`?",
        ),
        (
            "[[module]]\nname = \"a\"\nsource = \"none.wasm\"\n".to_owned(),
            "missing file `none.wasm` in f.toml at line 3, column 10",
        ),
        ("".to_owned(), "no module in f.toml; add `[[module]]` with `name = \"hello\"` and `source = \"hello.wasm\"`"),
    ] {
        app.file("f.toml", text.as_bytes());
        assert_refused(&run(app.folder(), &["f.toml"]), sentence);
    }
    assert_refused(&run(app.folder(), &["none.toml"]), "no configuration file at none.toml");

    app.file("f.toml", format!("{module}outbound = [\"example.com\"]\n").as_bytes());
    let sentence = format!(
        "module `hello` ({}): the outbound entry `example.com` has no scheme: write `scheme://host[:port]`, as in \
         `https://api.example.com`",
        source.display()
    );
    assert_refused(&run(app.folder(), &["f.toml"]), &sentence);
}

#[test]
fn flags_that_cannot_be_used() {
    let app = App::new().module("hello", "hello-wasip2", "");
    app.write();
    let hello = guest("hello-wasip2");
    let hello = hello.to_str().expect("UTF-8");
    for (args, sentence) in [
        (&[hello, "--dir", "none::/data"][..], "missing directory `none`"),
        (&[hello, "--dir", "data"], "bad directory `data`; write `HOST::GUEST`, `HOST::GUEST:ro` or `HOST::GUEST:rw`"),
        (&[hello, "--dir", ".::../data"], "bad guest path `../data`; write a path without `..`, such as `/data` or `.`"),
        (&[hello, "--env", "NAME"], "an environment variable without a value; write `NAME=VALUE`"),
        (
            &["fornax.toml", "--env", "A=b"],
            "--dir, --env, --allow-host, --entry, --codec, --reuse, --timeout, --memory and arguments go with an artifact or a folder of \
             them; for an app, write `dirs`, `env`, `outbound`, `entry`, `codec`, `reuse`, `limits` and `args` into its [[module]]",
        ),
    ] {
        assert_refused(&run(app.folder(), args), sentence);
    }
    let mut command = Command::new(FORNAX);
    assert_refused(
        &run_to_end(command.args(["run", hello, "--listen", "nope"])),
        "bad listen address `nope`; write an address and a port, such as `127.0.0.1:8080`",
    );
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound socket").to_string();
    let hello = guest("hello-wasip2");
    let mut command = Command::new(FORNAX);
    let finished = run_to_end(command.arg("run").arg(&hello).args(["--listen", &address]));
    let sentence =
        format!("cannot listen on {address}: another program does. Choose another address, or port 0 to have one picked");
    assert_refused(&finished, &sentence);

    let app = App::new().module("hello", "hello-wasip2", "").server(&format!("listen = \"{address}\""));
    assert_refused(&run_to_end(Command::new(FORNAX).arg("run").arg(app.write())), &sentence);
}

#[test]
fn command_lines_that_cannot_be_read() {
    for (args, part) in [
        (&["rnu", "x.wasm"][..], "error: unrecognized subcommand 'rnu'"),
        (&["run"], "error: the following required arguments were not provided:"),
        (&["run", "x.wasm", "--frob"], "error: unexpected argument '--frob' found"),
        (&["run", "x.wasm", "y.wasm"], "error: unexpected argument 'y.wasm' found"),
        (&["run", "x.wasm", "-q", "-v"], "cannot be used with"),
    ] {
        let finished = run_to_end(Command::new(FORNAX).args(args));
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(finished.stderr.contains(part) && finished.stderr.contains("--help"), "{args:?}: {}", finished.stderr);
    }
    let version = run_to_end(Command::new(FORNAX).arg("--version"));
    assert_eq!((version.code, version.stdout), (Some(0), format!("fornax {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_binding_of_no_interface_is_named() {
    let app = App::new().module("counter", "counter", "bindings = { keyvalu = { default = \"embedded\" } }");
    app.write();
    assert_refused(
        &run(app.folder(), &["fornax.toml"]),
        "the module `counter` binds `keyvalu`, which is no interface; did you mean `keyvalue`?",
    );
}

#[test]
fn an_address_is_no_file() {
    let app = App::new();
    assert_refused(
        &run(app.folder(), &["https://example.com/app.wasm"]),
        "`https://…` is an address, and only local files can be run: download it first",
    );
}

#[test]
fn what_is_no_file_is_not_waited_for_nor_replaced() {
    let app = App::new();
    let (cert, hello) = (app.folder().join("pipe.pem"), guest("hello-wasip2"));
    for name in ["pipe.wasm", "pipe.toml", "pipe.json", "pipe.pem"] {
        assert_eq!(run_to_end(Command::new("mkfifo").arg(app.folder().join(name))).code, Some(0));
    }
    let hello = hello.to_str().expect("UTF-8");
    for args in [
        &["pipe.wasm"][..],
        &["pipe.toml"],
        &["pipe.json"],
        &[hello, "--tls-cert", "pipe.pem", "--tls-key", "pipe.pem"],
        &[hello, "--trust", "pipe.pem"],
    ] {
        let finished = run(app.folder(), args);
        assert_eq!(finished.code, Some(1), "{args:?}: {}", finished.stderr);
        assert!(finished.stderr.starts_with("error: ") && finished.stderr.contains("pipe"), "{args:?}: {}", finished.stderr);
    }
    std::os::unix::fs::symlink("/dev/zero", app.folder().join("zero.toml")).expect("a link");
    assert!(run(app.folder(), &["zero.toml"]).stderr.contains("it is a pipe or a device, not a file"));
    let mut compile = Command::new(FORNAX);
    compile.current_dir(app.folder()).args(["compile", hello, "--key", "k", "--new-key", "-o"]).arg(&cert);
    let finished = run_to_end(&mut compile);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("there is something that is no file"), "{}", finished.stderr);
}
