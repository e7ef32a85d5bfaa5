//! Fornax as a library that executes: `Server::registry().load`, `execute` and `chain`, without HTTP.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fornax::{Builder, Config, Error, ExecuteLimits, Kind, Link, ModuleId, PoolSize, Server, Step};
use testkit::{App, alone, guest};

const NONE: ExecuteLimits = ExecuteLimits { timeout: None, memory_bytes: None };

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// What a program of a few lines has.
async fn server() -> Server {
    let builder = Builder::from_config(Config::empty()).expect("a builder").threads(1).pool(PoolSize::of(16));
    builder.without_http().build().await.unwrap_or_else(|error| panic!("{error}"))
}

async fn load(server: &Server, name: &str) -> ModuleId {
    server.registry().load(guest(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(step: &Step) -> String {
    String::from_utf8_lossy(&step.output).into_owned()
}

async fn output(server: &Server, id: ModuleId, input: &str) -> String {
    text(&server.execute(id, input.to_owned(), NONE).await.unwrap_or_else(|error| panic!("{error}")))
}

/// A path from the directory this process is in.
fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().expect("a directory");
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    up.join(path.strip_prefix("/").expect("an absolute path"))
}

#[test]
fn modules_of_every_entry_are_executed() {
    block_on(async {
        let server = server().await;
        assert!(server.addresses().is_empty());
        for (name, expected) in [
            ("plugin-rot13", "Result = uryyb"),
            ("p1-command", "input: hello\n"),
            ("cli-component", "input: hello\n"),
            ("cli-component3", "hello"),
            ("echo", "hello"),
            ("echo3", "hello"),
        ] {
            let id = load(&server, name).await;
            let step = server.execute(id, "hello", NONE).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((text(&step).as_str(), step.code, &*step.module), (expected, 0, name));
            assert!(step.cpu > Duration::ZERO && step.took > Duration::ZERO, "{step:?}");
        }
        let id = load(&server, "hostile-run-exit").await;
        let step = server.execute(id, "", NONE).await.expect("an exit code is no error");
        assert_eq!((text(&step).as_str(), step.code), ("half an answer\n", 3));
        assert!(server.drain().await);
    });
}

#[test]
fn a_path_keeps_its_id_and_bytes_are_as_they_are_by_then() {
    block_on(async {
        let app = App::new();
        let bytes = |name| fs::read(guest(name)).expect("a guest");
        let path = app.file("a.wasm", &bytes("plugin-rot13"));
        fs::create_dir(app.folder().join("sub")).expect("a folder");
        let server = server().await;
        let id = server.registry().load(&path).await.expect("a plugin");
        let near = relative(&path);
        for same in [
            path.clone(),
            app.folder().join("./a.wasm"),
            app.folder().join("sub/../a.wasm"),
            near.clone(),
            Path::new(".").join(&near),
        ] {
            assert_eq!(server.registry().load(&same).await.expect("the same"), id, "{}", same.display());
        }
        assert_eq!(output(&server, id, "Hello").await, "Result = Uryyb");
        app.file("a.wasm", &bytes("plugin-uppercase"));
        // Nobody has loaded it again, though another one.
        load(&server, "echo").await;
        assert_eq!(output(&server, id, "Hello").await, "Result = Uryyb");
        assert_eq!(server.registry().load(&near).await.expect("the new one"), id);
        assert_eq!(output(&server, id, "Hello").await, "Result = HELLO");

        // Same bytes and same file name, in another folder.
        let other = app.file("sub/a.wasm", &bytes("plugin-uppercase"));
        let other = server.registry().load(&other).await.expect("another");
        assert_ne!(other, id);
        assert_eq!(output(&server, other, "Hello").await, "Result = HELLO");
    });
}

#[test]
fn ids_go_with_paths_whatever_is_loaded_first() {
    let app = App::new();
    for (path, name) in [("a/x.wasm", "plugin-rot13"), ("b/x.wasm", "plugin-uppercase")] {
        fs::create_dir_all(app.folder().join(&path[..1])).expect("a folder");
        app.file(path, &fs::read(guest(name)).expect("a guest"));
    }
    let config = || {
        let data = Some(app.folder().join("data"));
        Config { server: fornax::config::Server { data, ..Default::default() }, ..Config::empty() }
    };
    let ids = |paths: [&str; 2]| {
        block_on(async {
            let server = Builder::from_config(config()).expect("a builder").pool(PoolSize::of(16)).without_http();
            let server = server.threads(1).build().await.unwrap_or_else(|error| panic!("{error}"));
            let mut ids = Vec::new();
            for path in paths {
                ids.push(server.registry().load(app.folder().join(path)).await.unwrap_or_else(|error| panic!("{error}")));
            }
            ids
        })
    };
    let first = ids(["a/x.wasm", "b/x.wasm"]);
    assert_ne!(first[0], first[1]);
    let second = ids(["b/x.wasm", "a/x.wasm"]);
    assert_eq!([second[1], second[0]], first[..]);
}

#[test]
fn a_link_has_an_id_of_its_own_wherever_it_leads() {
    block_on(async {
        let app = App::new();
        for (folder, name) in [("one", "plugin-rot13"), ("two", "plugin-uppercase")] {
            fs::create_dir(app.folder().join(folder)).expect("a folder");
            app.file(&format!("{folder}/x.wasm"), &fs::read(guest(name)).expect("a guest"));
        }
        let current = app.folder().join("current");
        let switch = |to: &str| {
            let _ = fs::remove_file(&current);
            std::os::unix::fs::symlink(app.folder().join(to), &current).expect("a link");
        };
        let server = server().await;
        switch("one");
        let id = server.registry().load(current.join("x.wasm")).await.expect("a plugin");
        assert_eq!(output(&server, id, "Hello").await, "Result = Uryyb");
        switch("two");
        assert_eq!(server.registry().load(current.join("x.wasm")).await.expect("a plugin"), id);
        assert_eq!(output(&server, id, "Hello").await, "Result = HELLO");
        assert_ne!(server.registry().load(app.folder().join("two/x.wasm")).await.expect("a plugin"), id);
        // What is above the link is the folder that it leads to.
        let above = current.join("../one/x.wasm");
        let direct = server.registry().load(app.folder().join("one/x.wasm")).await.expect("a plugin");
        let above = server.registry().load(above).await.expect("a plugin");
        assert_ne!(above, direct);
        assert_eq!(output(&server, above, "Hello").await, "Result = Uryyb");
    });
}

#[test]
fn a_configuration_cannot_take_the_name_of_what_was_loaded() {
    block_on(async {
        let server = server().await;
        let id = load(&server, "plugin-rot13").await;
        let app = App::new().module("plugin-rot13", "plugin-uppercase", "").module("other", "echo", "");
        let config = Config::from_toml(&app.text(), &app.folder().join("fornax.toml"), &|_| None).expect("a good app");
        let error = server.reload(&config).await.expect_err("two of one name");
        let sentence = format!(
            "the module `plugin-rot13` has the name of the one that was loaded from {}: give it another",
            guest("plugin-rot13").display()
        );
        assert_eq!((error.to_string(), error.kind), (sentence, Kind::Unprocessable));
        assert_eq!(output(&server, id, "Hello").await, "Result = Uryyb");
    });
}

#[test]
fn calls_go_on_while_something_is_loaded() {
    block_on(async {
        let server = Arc::new(server().await);
        let id = load(&server, "plugin-rot13").await;
        let registry = server.registry();
        let mut loads = [Box::pin(registry.load(guest("echo"))), Box::pin(registry.load(guest("plugin-uppercase")))];
        for load in &mut loads {
            let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(load.as_mut().poll(cx).is_pending())).await;
            assert!(begun, "reading a file takes another thread");
        }
        for _ in 0..10 {
            assert_eq!(output(&server, id, "Hello").await, "Result = Uryyb");
        }
        let [first, second] = loads;
        let (first, second) = tokio::join!(first, second);
        assert_eq!(output(&server, first.expect("a component"), "Hello").await, "Hello");
        assert_eq!(output(&server, second.expect("a plugin"), "Hello").await, "Result = HELLO");
    });
}

#[test]
fn executions_are_counted_as_calls() {
    block_on(async {
        let app = App::new().server("metrics = \"/metrics\"").module("rot13", "plugin-rot13", "");
        let config = Config::from_toml(&app.text(), &app.folder().join("fornax.toml"), &|_| None).expect("a good app");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let builder = Builder::from_config(config).and_then(|builder| builder.listeners([listener])).expect("a builder");
        let server = builder.threads(1).build().await.unwrap_or_else(|error| panic!("{error}"));
        let [rot13, exits, traps] = ["plugin-rot13", "hostile-run-exit", "hostile-process-trap"];
        let (rot13, exits, traps) = (load(&server, rot13).await, load(&server, exits).await, load(&server, traps).await);
        output(&server, rot13, "Hello").await;
        server.execute(exits, "", NONE).await.expect("an exit code is no error");
        server.execute(traps, "", NONE).await.expect_err("a trap");
        server.chain(&[rot13, rot13], "Hello", NONE).await.expect("two steps");
        server.chain(&[rot13, exits], "Hello", NONE).await.expect("two steps");
        server.chain(&[rot13, traps], "Hello", NONE).await.expect_err("a trap");
        let address = server.addresses()[0];
        let metrics = tokio::task::spawn_blocking(move || testkit::Client::connect(address).get("/metrics").text());
        let metrics = metrics.await.expect("no panic");
        for (module, outcome, count) in [
            ("plugin-rot13", "2xx", 2),
            ("plugin-rot13", "guest-exit", 1),
            ("plugin-rot13", "trap", 1),
            ("hostile-run-exit", "guest-exit", 1),
            ("hostile-process-trap", "trap", 1),
        ] {
            let line = format!("fornax_calls_total{{tenant=\"default\",module=\"{module}\",outcome=\"{outcome}\"}} {count}\n");
            assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
        }
        assert!(metrics.contains("fornax_errors_total{kind=\"trap\",blame=\"guest\"} 2\n"), "{metrics}");
    });
}

#[test]
fn what_cannot_be_loaded_changes_nothing() {
    block_on(async {
        let app = App::new();
        let path = app.file("a.wasm", &fs::read(guest("plugin-rot13")).expect("a guest"));
        let server = server().await;
        let id = server.registry().load(&path).await.expect("a plugin");
        app.file("a.wasm", b"half a build");
        let error = server.registry().load(&path).await.expect_err("no module");
        assert_eq!(error.kind, Kind::Unprocessable, "{error}");
        for wrong in ["none.wasm", "sub", "."] {
            let error = server.registry().load(app.folder().join(wrong)).await.expect_err("no module");
            assert_eq!(error.kind, Kind::Unprocessable, "{wrong}: {error}");
        }
        assert_eq!(output(&server, id, "Hello").await, "Result = Uryyb");
        // What has become of one file is of no concern to another.
        let other = server.registry().load(guest("plugin-uppercase")).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(output(&server, other, "Hello").await, "Result = HELLO");
        fs::remove_file(&path).expect("removed");
        load(&server, "plugin-reverser").await;
        assert_eq!(output(&server, id, "Hello").await, "Result = Uryyb");
    });
}

#[test]
fn a_small_pool_has_room_for_a_guest_that_takes_two_places() {
    block_on(async {
        // The host runs its allocator, on a second stack.
        let server = server().await;
        server.registry().load(guest("ignis-call-host")).await.unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn chains_give_every_step() {
    block_on(async {
        let server = server().await;
        let rot13 = load(&server, "plugin-rot13").await;
        let program = load(&server, "p1-command").await;
        let echo = load(&server, "echo").await;
        let steps = server.chain(&[rot13, program, echo, rot13], "Hello", NONE).await.expect("four steps");
        let outputs: Vec<_> = steps.iter().map(text).collect();
        assert_eq!(outputs, ["Result = Uryyb", "input: Uryyb\n", "input: Uryyb", "Result = vachg: Hello"]);
        assert!(server.chain(&[] as &[ModuleId], "Hello", NONE).await.expect("nothing to do").is_empty());

        let exits = load(&server, "hostile-run-exit").await;
        let steps = server.chain(&[rot13, exits, rot13], "Hello", NONE).await.expect("two steps");
        assert_eq!(steps.iter().map(|step| step.code).collect::<Vec<_>>(), [0, 3]);
        let traps = load(&server, "hostile-process-trap").await;
        let failed = server.chain(&[rot13, traps, rot13], "Hello", NONE).await.expect_err("a trap");
        assert_eq!(failed.to_string(), "step 2 (`hostile-process-trap`): the guest trapped");
        assert_eq!(failed.steps.iter().map(text).collect::<Vec<_>>(), ["Result = Uryyb"]);
        assert_eq!(Error::from(failed).kind, Kind::Trap);

        let whole = Link { module: rot13, whole: true };
        let steps = server.chain(&[whole, rot13.into()], "Hello", NONE).await.expect("two steps");
        assert_eq!(text(&steps[1]), "Result = Erfhyg = Hello");
    });
}

#[test]
fn an_execution_stands_under_its_own_limits() {
    let _alone = alone();
    block_on(async {
        let server = server().await;
        let endless = [load(&server, "hostile-process-loop").await, load(&server, "hostile-run-loop").await];
        let limits = ExecuteLimits { timeout: Some(Duration::from_millis(200)), memory_bytes: None };
        for id in endless {
            let began = Instant::now();
            let error = server.execute(id, "", limits).await.expect_err("endless");
            assert!(matches!(error.kind, Kind::CpuLimit | Kind::Deadline), "{error}");
            // Far from what it may without: a second of computing.
            assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
            let chained = server.chain(&[id, id], "", limits).await.expect_err("endless");
            assert!(chained.to_string().starts_with("step 1 (`"), "{chained}");
        }
        // The head is out at once; the body never ends.
        let trickle = load(&server, "hostile-trickle").await;
        assert_eq!(kind(server.execute(trickle, "", limits).await), Kind::Deadline);
        let chained = server.chain(&[trickle, trickle], "", limits).await.expect_err("endless");
        assert_eq!((chained.error.kind, chained.to_string().starts_with("step 1 (`")), (Kind::Deadline, true), "{chained}");
        let sleeper = load(&server, "hostile-run-sleeper").await;
        assert_eq!(kind(server.execute(sleeper, "", limits).await), Kind::Deadline);

        let bomb = load(&server, "hostile-process-memory-bomb").await;
        let small = ExecuteLimits { timeout: Some(Duration::from_secs(30)), memory_bytes: Some(16 << 20) };
        assert_eq!(kind(server.execute(bomb, "", small).await), Kind::MemoryLimit);
        let endless = ExecuteLimits { timeout: Some(Duration::MAX), memory_bytes: Some(u64::MAX) };
        let echo = load(&server, "echo").await;
        assert_eq!(text(&server.execute(echo, "Hello", endless).await.expect("patience")), "Hello");
        // Less than it begins with.
        let none = ExecuteLimits { memory_bytes: Some(1), ..NONE };
        let rot13 = load(&server, "plugin-rot13").await;
        assert_eq!(kind(server.execute(rot13, "Hello", none).await), Kind::MemoryLimit);
        assert_eq!(output(&server, rot13, "Hello").await, "Result = Uryyb");
    });
}

/// A program that writes three megabytes with one call, as programs do that do not look how much of it was taken; and ends with 0
/// if all of it was.
fn writes_at_once(fd: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 64)
        (func (export "_start")
          (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 3000000))
          (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))
          (call $exit (i32.ne (i32.load (i32.const 8)) (i32.const 3000000)))))"#
    );
    wat::parse_str(text).expect("a module")
}

#[test]
fn one_write_takes_all_that_a_program_gives() {
    block_on(async {
        let (app, server) = (App::new(), server().await);
        for (fd, len) in [(1, 3_000_000), (2, 0)] {
            let file = app.file(&format!("{fd}.wasm"), &writes_at_once(fd));
            let id = server.registry().load(file).await.unwrap_or_else(|error| panic!("{error}"));
            let step = server.execute(id, "", NONE).await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((step.code, step.output.len()), (0, len), "to {fd}");
        }
    });
}

fn kind(result: Result<Step, Error>) -> Kind {
    result.expect_err("it fails").kind
}

#[test]
fn an_id_nobody_has_is_not_found() {
    block_on(async {
        let server = server().await;
        let id = ModuleId::parse("6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d").expect("an id");
        let error = server.execute(id, "", NONE).await.expect_err("nobody");
        let sentence = "no module has the id 6f1c1c3e-7d0a-4c5e-9a57-0d8e0a1b2c3d";
        assert_eq!((error.to_string().as_str(), error.kind), (sentence, Kind::NotFound));
        let rot13 = load(&server, "plugin-rot13").await;
        let error = Error::from(server.chain(&[rot13, id], "", NONE).await.expect_err("nobody"));
        assert_eq!((error.to_string().as_str(), error.kind), (sentence, Kind::NotFound));
    });
}

#[test]
fn sixty_four_executions_at_once_give_each_its_own_output() {
    block_on(async {
        let server = server().await;
        let reverse = load(&server, "plugin-rot13").await;
        let program = load(&server, "p1-command").await;
        let echo = load(&server, "echo").await;
        let server = Arc::new(server);
        let calls: Vec<_> = (0..64)
            .map(|number| {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    let input = format!("{number} {}", "7".repeat(number * 100));
                    let (id, expected) = match number % 3 {
                        0 => (reverse, format!("Result = {input}")),
                        1 => (program, format!("input: {input}\n")),
                        _ => (echo, input.clone()),
                    };
                    assert_eq!(output(&server, id, &input).await, expected);
                })
            })
            .collect();
        for call in calls {
            call.await.expect("the right output");
        }
    });
}
