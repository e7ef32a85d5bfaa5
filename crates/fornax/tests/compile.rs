//! `fornax compile`, and `fornax run --trust`: compiled code that is run because of who signed it, and for no other reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{App, Finished, Fornax, guest, run_to_end};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

fn fornax(args: &[&str]) -> Finished {
    run_to_end(Command::new(FORNAX).args(args))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A folder with a key, and a guest that it signed.
struct Signed {
    app: App,
    key: PathBuf,
    code: PathBuf,
}

impl Signed {
    fn of(name: &str) -> Self {
        let app = App::new();
        let (key, code) = (app.folder().join("key"), app.folder().join("out.cwasm"));
        let ended = fornax(&["compile", text(&guest(name)), "-o", text(&code), "--key", text(&key), "--new-key"]);
        assert_eq!((ended.code, ended.stdout.trim()), (Some(0), text(&code)), "{}", ended.stderr);
        Self { app, key, code }
    }

    fn public(&self) -> PathBuf {
        self.app.folder().join("key.pub")
    }

    /// Runs a file, which must fail before anything of it is kept, and returns why.
    fn refused(&self, file: &Path, trust: Option<&Path>) -> String {
        let data = self.app.folder().join("data");
        let mut args = vec!["run", text(file), "--data", text(&data), "--listen", "127.0.0.1:0"];
        args.extend(trust.iter().flat_map(|key| ["--trust", text(key)]));
        let ended = fornax(&args);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let kept = fs::read_dir(data.join("compiled-code")).into_iter().flatten().count();
        assert_eq!(kept, 0, "nothing is there that could be mapped");
        ended.stderr.strip_prefix("error: ").expect("an error").lines().next().expect("a sentence").to_owned()
    }
}

#[test]
fn signed_code_is_served_without_being_compiled() {
    for guest in ["hello-wasip2", "hello-wasip3"] {
        let signed = Signed::of(guest);
        let app = App::new()
            .server("metrics = \"/metrics\"")
            .tables(&format!("[[module]]\nname = \"hello\"\nsource = {:?}", signed.code))
            .route("/", "hello", "");
        // Either half of the key says whose it is.
        for key in [signed.public(), signed.key.clone()] {
            let fornax = Fornax::run(FORNAX, app.write(), &["--trust", text(&key)]);
            let mut client = fornax.client();
            assert_eq!(client.get("/").text(), "Hello from Fornax!\n");
            let metrics = client.get("/metrics").text();
            assert!(metrics.contains("fornax_module_loads_total 1"), "{metrics}");
            assert!(!metrics.contains("fornax_compilations_total{"), "{metrics}");
        }
    }
}

#[test]
fn a_signed_program_runs_once() {
    let signed = Signed::of("p1-command");
    let ended = fornax(&["run", text(&signed.code), "--trust", text(&signed.public()), "--", "exit=7"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(7), "argument: exit=7\n"), "{}", ended.stderr);
}

#[test]
fn a_module_is_the_same_whether_or_not_it_came_with_code() {
    let signed = Signed::of("hello-wasip2");
    let data = signed.app.folder().join("data");
    let args = ["--data", text(&data), "--trust", text(&signed.key)];
    assert_eq!(Fornax::run(FORNAX, &signed.code, &args).client().get("/").status, 200);
    let kept = |end: &str| {
        let files = fs::read_dir(data.join("compiled-code")).expect("a folder").map(|file| file.expect("a file").path());
        files.filter(|path| path.extension().is_some_and(|found| found == end)).collect::<Vec<_>>()
    };
    let before = kept("cwasm");
    assert_eq!(before.len(), 1);
    // What was signed lies there as if it had been compiled here.
    assert_eq!(Fornax::run(FORNAX, guest("hello-wasip2"), &args).client().get("/").status, 200);
    assert_eq!(kept("cwasm"), before);
}

#[test]
fn what_is_not_signed_by_who_is_trusted_is_refused_with_a_sentence() {
    let signed = Signed::of("hello-wasip2");
    let (good, trust) = (fs::read(&signed.code).expect("a file"), signed.public());
    let other = Signed::of("p1-command");
    let error = signed.refused(&signed.code, Some(&other.public()));
    assert!(error.ends_with("it is signed with another key than the one that is trusted"), "{error}");
    let error = signed.refused(&signed.code, None);
    assert!(
        error.ends_with(
            "is signed compiled code: say whose is taken with `--trust KEY`, or publish the `.wasm` file it was made of"
        ),
        "{error}"
    );

    let middle = good.len() / 2;
    let mut changed = good.clone();
    changed[middle] ^= 1;
    let mut of_artifact = good.clone();
    of_artifact[200] ^= 0x40;
    for (bytes, expected) in [
        (&changed, "it is not as it was signed: somebody changed it"),
        (&of_artifact, "it is not as it was signed: somebody changed it"),
        (&good[..middle].to_vec(), "it is cut off"),
        (&good[..20].to_vec(), "it is cut off"),
        (&[good.as_slice(), &[0]].concat(), "it has bytes behind its end: it was changed"),
    ] {
        let bad = signed.app.file("bad.cwasm", bytes);
        let error = signed.refused(&bad, Some(&trust));
        assert!(error.ends_with(expected), "{error}");
    }
    // Code as wasmtime writes it, which is what lies in a data directory.
    let bare = signed.app.file("bare.cwasm", b"\x7fELF\x02\x01\x01 and so on");
    let error = signed.refused(&bare, Some(&trust));
    assert!(error.ends_with("is compiled code, not WebAssembly; publish the `.wasm` file it was made of"), "{error}");

    let none = signed.app.folder().join("none");
    let error = signed.refused(&signed.code, Some(&none));
    assert!(
        error.starts_with(&format!("there is no key {}. `fornax compile FILE --key KEY --new-key` makes one", none.display())),
        "{error}"
    );
}

#[test]
fn compile_says_what_is_wrong() {
    let signed = Signed::of("hello-wasip2");
    let hello = guest("hello-wasip2");
    let refused = |args: &[&str]| {
        let ended = fornax(args);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        ended.stderr
    };
    let error = refused(&["compile", text(&hello), "--key", text(&signed.app.folder().join("none"))]);
    assert!(error.contains("there is no key") && error.contains("--new-key"), "{error}");
    let error = refused(&["compile", text(&hello), "--key", text(&signed.key), "--new-key"]);
    assert!(error.contains("cannot make the key"), "{error}");
    let error = refused(&["compile", text(&signed.code)]);
    assert!(error.contains("is signed compiled code"), "{error}");
    let ended = fornax(&["compile", text(&hello)]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("bytes of code; it offers http\n"), "{}", ended.stdout);
    assert_eq!(fornax(&["compile", text(&hello), "-o", "x.cwasm"]).code, Some(2), "nobody takes what is not signed");
}
