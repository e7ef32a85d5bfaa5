//! `fornax serve`: workers that die are replaced, and whoever waits is answered; a module that kills them is found out.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{App, Body, Client, DEADLINE, Finished, Fornax, children, guest, note, run_to_end, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// Until a successor answers.
const REPLACED_WITHIN: Duration = Duration::from_secs(1);

/// What happens at once on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(500);

const HELLO: &str = "Hello from Fornax!\n";

/// Modules that sleep, each at the path of its name, and one that answers at once.
fn app(sleepers: &[&str]) -> App {
    let app = App::new().server("metrics = \"/metrics\"").module("hello", "hello-wasip2", "").route("/hello", "hello", "");
    sleepers.iter().fold(app, |app, name| app.module(name, "slow", "").route(&format!("/{name}"), name, ""))
}

fn metric(server: &Fornax, name: &str) -> u64 {
    let text = server.client().get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// A call that is being served when this returns, and takes longer than any test: then there are `in_flight` of them.
fn begin(server: &Fornax, path: &str, in_flight: u64) -> Client {
    let mut client = server.client();
    client.send(format!("GET {path}?ms=30000 HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).expect("a request is taken");
    wait_until("the call is in flight", DEADLINE, || metric(server, "fornax_in_flight") == in_flight);
    client
}

/// Ends the worker. Signals for faults that did not happen are sent until it takes them for real.
fn kill(server: &Fornax, signal: Signal) {
    let worker = server.worker();
    wait_until("the worker is replaced", DEADLINE, || {
        if server.worker() == worker {
            // It may have ended by now.
            let _ = server.signal_worker(worker, signal);
        }
        server.worker() != worker
    });
}

fn count(server: &Fornax, part: &str) -> usize {
    server.log().iter().filter(|line| line.contains(part)).count()
}

/// Says that it is over when it is dropped, also by a test that fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Connects again and again, for as long as `meanwhile` takes. Returns how often, and how often that was refused.
fn connecting(server: &Fornax, meanwhile: impl FnOnce()) -> (usize, usize) {
    let (stop, tried, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let over = Over(&stop);
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                tried.fetch_add(1, Relaxed);
                if Client::try_connect(server.addr()).is_err() {
                    refused.fetch_add(1, Relaxed);
                }
                thread::yield_now();
            }
        });
        meanwhile();
        drop(over);
    });
    (tried.into_inner(), refused.into_inner())
}

#[test]
fn whoever_waits_is_answered_by_the_next_worker() {
    let _alone = testkit::alone();
    let app = app(&["slow"]);
    let server = Fornax::serve(FORNAX, app.write(), &[]);
    let mut times = Vec::new();
    let (tried, refused) = connecting(&server, || {
        for signal in [Signal::KILL, Signal::ABORT, Signal::SEGV] {
            let mut lost = begin(&server, "/slow", 1);
            // Stopped, it takes no connection any more: these wait.
            let worker = server.worker();
            assert!(server.signal_worker(worker, Signal::STOP), "it is there");
            wait_until("every thread of it has stopped", DEADLINE, || is_stopped(worker));
            let mut waiting: Vec<_> = (0..20).map(|_| server.client()).collect();
            for client in &mut waiting {
                client.send(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").expect("the kernel takes it");
            }
            assert!(server.signal_worker(worker, signal), "it is there");
            // Killed, it has ended without it.
            let _ = server.signal_worker(worker, Signal::CONT);
            let killed = Instant::now();
            kill_if_alive(&server, worker, signal);
            for client in &mut waiting {
                // One that a worker had accepted as it died is lost with it.
                match client.read_response("GET") {
                    Ok(response) => assert_eq!((response.status, response.text().as_str()), (200, HELLO)),
                    Err(error) => assert_ne!(signal, Signal::KILL, "{error}"),
                }
            }
            times.push(killed.elapsed());
            assert_eq!(lost.read_to_end().unwrap_or_default(), b"", "nobody answers for a worker that died");
        }
    });
    note(&format!("answered {times:?} after the worker's end; {tried} connections meanwhile, {refused} of them refused"));
    assert_eq!(refused, 0, "of {tried}");
    assert!(tried > 20, "{tried}");
    // The machine may be busy with other tests; what takes longer by itself does so each time.
    assert!(times.iter().min().is_some_and(|took| *took < REPLACED_WITHIN), "{times:?}");
    for signal in ["SIGKILL", "SIGABRT", "SIGSEGV"] {
        let line = server.wait_for_log(|line| line.contains(&format!("was ended by {signal}")), DEADLINE);
        assert!(line.contains("default/slow in flight") && line.contains("takes its place"), "{line}");
    }
    assert_eq!(count(&server, &format!("{} takes its place", server.worker())), 1);
    assert_eq!(count(&server, "listening on"), 1);
    assert_eq!(count(&server, "takes its place"), 3);
    assert_eq!(metric(&server, "fornax_worker_restarts_total"), 3);
}

fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    threads.map(|thread| thread.expect("an entry").path().join("stat")).all(|stat| {
        // A thread that has gone meanwhile runs no more either.
        fs::read_to_string(stat).map_or(true, |stat| stat.contains(") T "))
    })
}

/// A signal for a fault may have to be said twice: the first takes the handler away that looks at faults of guests.
fn kill_if_alive(server: &Fornax, worker: u32, signal: Signal) {
    wait_until("the worker is replaced", DEADLINE, || {
        let is_there = server.worker() == worker;
        if is_there && signal == Signal::SEGV {
            // It may have ended by now.
            let _ = server.signal_worker(worker, signal);
        }
        !is_there
    });
}

#[test]
fn a_module_that_kills_three_workers_is_quarantined_until_a_reload() {
    let app = app(&["bad"]);
    let server = Fornax::serve(FORNAX, app.write(), &[]);
    for _ in 0..3 {
        assert_eq!(server.client().get("/bad?ms=1").status, 200, "not yet");
        let _lost = begin(&server, "/bad", 1);
        kill(&server, Signal::KILL);
    }
    let refused = server.client().get("/bad");
    assert_eq!(refused.status, 503);
    assert!(refused.text().starts_with("{\"type\":\"quarantined\","), "{}", refused.text());
    for _ in 0..20 {
        assert_eq!(server.client().get("/hello").text(), HELLO);
    }
    assert_eq!(count(&server, "default/bad is quarantined"), 1);
    assert_eq!(metric(&server, "fornax_modules_quarantined"), 1);
    assert_eq!(metric(&server, "fornax_worker_restarts_total"), 3);

    // It stays so for the next worker, whoever ended this one.
    kill(&server, Signal::KILL);
    assert_eq!(server.client().get("/bad").status, 503);

    // What is wrong changes nothing.
    let good = app.text();
    app.file("fornax.toml", b"[[route");
    server.hang_up();
    server.wait_for_log(|line| line.contains("not reloaded; what was in service stays"), DEADLINE);
    assert_eq!(server.client().get("/bad").status, 503);

    app.file("fornax.toml", good.as_bytes());
    server.hang_up();
    wait_until("it is called again", DEADLINE, || server.client().get("/bad?ms=1").status == 200);
    assert_eq!(metric(&server, "fornax_modules_quarantined"), 0);
    assert_eq!(metric(&server, "fornax_worker_restarts_total"), 4);

    // It begins anew.
    for _ in 0..2 {
        let _lost = begin(&server, "/bad", 1);
        kill(&server, Signal::KILL);
    }
    assert_eq!(server.client().get("/bad?ms=1").status, 200);
}

#[test]
fn who_was_beside_it_every_time_is_not_quarantined() {
    let app = app(&["bad", "good"]);
    let server = Fornax::serve(FORNAX, app.write(), &[]);
    for _ in 0..2 {
        let _lost = (begin(&server, "/bad", 1), begin(&server, "/good", 2));
        kill(&server, Signal::KILL);
    }
    // Now they run one at a time.
    let _lost = begin(&server, "/bad", 1);
    let refused = server.client().get("/good?ms=1");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().starts_with("{\"type\":\"overloaded\","), "{}", refused.text());
    assert_eq!(server.client().get("/hello").text(), HELLO, "others are not held up");
    let _waits = begin(&server, "/good", 2);
    kill(&server, Signal::KILL);
    assert_eq!((server.client().get("/bad").status, server.client().get("/good?ms=1").status), (503, 200));
    assert_eq!(metric(&server, "fornax_modules_quarantined"), 1);
}

#[test]
fn who_has_ended_before_the_death_is_not_suspected() {
    let app = app(&["bad", "good"]);
    let server = Fornax::serve(FORNAX, app.write(), &[]);
    for _ in 0..3 {
        let _lost = begin(&server, "/bad", 1);
        // At the first death it may count as being in flight, since that it is not was known only soon after. At the second not.
        assert_eq!(server.client().get("/good?ms=1").status, 200);
        kill(&server, Signal::KILL);
    }
    assert_eq!((server.client().get("/bad").status, server.client().get("/good?ms=1").status), (503, 200));
}

#[test]
fn a_guest_that_works_on_after_its_answer_is_in_flight() {
    let limits = "limits = { cpu = \"30s\" }";
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .module("fresh", "afterlife", "")
        .route("/fresh", "fresh", "")
        .module("shared", "afterlife3", &format!("reuse = \"concurrent\"\n{limits}"))
        .route("/shared", "shared", "");
    let server = Fornax::serve(FORNAX, app.write(), &[]);
    assert_eq!(server.client().get("/fresh?ms=30000").text(), "done\n");
    assert_eq!(server.client().get("/shared?mode=burn&ms=30000").text(), "done\n");
    // The one has a call that has not ended, the other none.
    wait_until("the call is over", DEADLINE, || metric(&server, "fornax_in_flight") == 1);
    // What a call that has ended leaves in the journal is gone after two looks.
    let looked = Instant::now();
    wait_until("it has been looked at", DEADLINE, || looked.elapsed() > Duration::from_millis(200));
    kill(&server, Signal::KILL);
    let line = server.wait_for_log(|line| line.contains("was ended by SIGKILL"), DEADLINE);
    assert!(line.contains("with default/fresh, default/shared in flight"), "{line}");
}

#[test]
fn no_worker_outlives_its_supervisor() {
    let app = app(&["slow"]);
    let mut server = Fornax::serve(FORNAX, app.write(), &[]);
    let (worker, address) = (server.worker(), server.addr());
    let _in_flight = begin(&server, "/slow", 1);
    server.kill();
    wait_until("the worker is gone", DEADLINE, || !is_running(worker));
    wait_until("nobody listens", DEADLINE, || {
        Client::try_connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
}

/// Whether a process is there and no zombie.
fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn the_first_signal_ends_in_order_and_the_second_now() {
    for signal in [Signal::TERM, Signal::INT] {
        let app = app(&["slow"]);
        let mut server = Fornax::serve(FORNAX, app.write(), &[]);
        let mut client = server.client();
        client.send(b"GET /slow?ms=800 HTTP/1.1\r\nhost: test\r\n\r\n").expect("a request is taken");
        wait_until("the call is in flight", DEADLINE, || metric(&server, "fornax_in_flight") > 0);
        // As a terminal and a service manager do, both get it.
        assert!(server.signal_worker(server.worker(), signal), "it is there");
        server.signal(signal);
        wait_until("new connections are refused", AT_ONCE, || Client::try_connect(server.addr()).is_err());
        assert_eq!(client.read_response("GET").expect("what fits is finished").text(), "slept\n");
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(count(&server, "takes its place"), 0);
    }
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let app = app(&["slow"]);
        let mut server = Fornax::serve(FORNAX, app.write(), &[]);
        let worker = server.worker();
        let mut client = begin(&server, "/slow", 1);
        server.signal(signal);
        wait_until("new connections are refused", AT_ONCE, || Client::try_connect(server.addr()).is_err());
        let second = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(code));
        assert!(second.elapsed() < AT_ONCE, "{:?}", second.elapsed());
        assert!(!is_running(worker));
        assert_eq!(client.read_to_end().unwrap_or_default(), b"");
    }
}

#[test]
fn a_worker_that_cannot_end_is_killed_after_the_grace() {
    let app = App::new().server("grace = \"1s\"").module("hello", "hello-wasip2", "");
    let mut server = Fornax::serve(FORNAX, app.write(), &[]);
    let worker = server.worker();
    assert!(server.signal_worker(worker, Signal::STOP), "it is there");
    let told = Instant::now();
    server.terminate();
    assert_eq!(server.wait().code(), Some(137));
    assert!((1..8).contains(&told.elapsed().as_secs()), "{:?}", told.elapsed());
    assert!(!is_running(worker));
    assert_eq!(count(&server, "does not end by itself"), 1);
}

#[test]
fn the_grace_is_one_for_all_workers() {
    let app = App::new().server("metrics = \"/metrics\"\ngrace = \"1s\"").module("slow", "slow", "").route("/slow", "slow", "");
    let mut server = Fornax::serve(FORNAX, app.write(), &[]);
    let text = app.text();
    assert!(text.contains("grace = \"1s\""), "{text}");
    app.file("fornax.toml", text.replace("grace = \"1s\"", "grace = \"1h\"").as_bytes());
    server.hang_up();
    wait_until("it is reloaded", DEADLINE, || metric(&server, "fornax_reloads_total") == 1);
    kill(&server, Signal::KILL);
    let _in_flight = begin(&server, "/slow", 1);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "it has ended by itself when the grace was over");
    assert_eq!(count(&server, "does not end by itself"), 0);
}

#[test]
fn a_worker_that_dies_while_it_drains_has_no_successor() {
    let app = app(&["slow"]);
    let mut server = Fornax::serve(FORNAX, app.write(), &[]);
    let _in_flight = begin(&server, "/slow", 1);
    server.terminate();
    wait_until("new connections are refused", AT_ONCE, || Client::try_connect(server.addr()).is_err());
    assert!(server.signal_worker(server.worker(), Signal::KILL), "it is there");
    assert_eq!(server.wait().code(), Some(137));
    assert_eq!(count(&server, "before it had ended in order"), 1);
}

fn serve_to_end(file: &Path, args: &[&str]) -> Finished {
    run_to_end(Command::new(FORNAX).arg("serve").arg(file).args(["--listen", "127.0.0.1:0"]).args(args))
}

#[test]
fn what_is_wrong_at_the_start_is_said_as_run_says_it() {
    let app = App::new();
    let said = |file: &Path, args: &[&str]| {
        let run = run_to_end(Command::new(FORNAX).arg("run").arg(file).args(["--listen", "127.0.0.1:0"]).args(args));
        let serve = serve_to_end(file, args);
        assert_eq!((serve.code, &serve.stderr), (run.code, &run.stderr));
        assert_eq!(serve.code, Some(1));
        assert!(serve.stderr.starts_with("error: "), "{}", serve.stderr);
    };
    said(&app.folder().join("none.toml"), &[]);
    said(&app.file("empty.wasm", b""), &[]);
    said(&app.file("wrong.toml", b"[[route]]\npath = \"/\"\nmodule = \"none\""), &[]);
    said(&App::new().module("keys", "counter", "").write(), &["--data", "/proc/none"]);

    let program = serve_to_end(&guest("p1-command"), &[]);
    assert_eq!(program.code, Some(1));
    assert!(program.stderr.contains("a program runs once"), "{}", program.stderr);
    let stray = run_to_end(Command::new(FORNAX).args(["--worker", "serve"]).arg(guest("hello-wasip2")));
    assert_eq!(stray.code, Some(1));
    assert!(stray.stderr.starts_with("error: --worker is for `fornax serve`"), "{}", stray.stderr);
}

#[test]
fn data_has_one_process_and_survives_it() {
    let app = App::new().module("counter", "counter", "bindings = { keyvalue = { default = \"embedded\" } }");
    let file = app.write();
    let data = app.folder().join("data");
    let data = data.to_str().expect("UTF-8");
    let server = Fornax::serve(FORNAX, &file, &["--data", data]);
    let refused = serve_to_end(&file, &["--data", data]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("is in use by another process"), "{}", refused.stderr);
    let increment = || server.client().request("POST", "/?key=k", &[], Body::None).text();
    let first = increment();
    kill(&server, Signal::KILL);
    assert_eq!((first.as_str(), increment().as_str()), ("1\n", "2\n"), "it counts on");
}

#[test]
fn what_changes_is_watched_and_sighup_reloads() {
    let app = app(&[]);
    let watching = Fornax::serve(FORNAX, app.write(), &["--watch"]);
    let told = [Fornax::serve(FORNAX, app.write(), &[]), Fornax::run(FORNAX, app.write(), &[])];
    let next = app.route("/next", "hello", "");
    assert_eq!(watching.client().get("/next").status, 404);
    next.write();
    wait_until("it is noticed", DEADLINE, || watching.client().get("/next").status == 200);
    for server in &told {
        assert_eq!(server.client().get("/next").status, 404);
        server.hang_up();
        wait_until("it is read", DEADLINE, || server.client().get("/next").status == 200);
        next.file("fornax.toml", b"[[route");
        server.hang_up();
        server.wait_for_log(|line| line.contains("not reloaded; what was in service stays"), DEADLINE);
        assert_eq!(server.client().get("/next").status, 200);
        next.write();
    }
}

/// Says how many reloads there are.
const COUNT: &str = "FORNAX_RELOADS";

/// Where nothing is said: some seconds.
const RELOADS: usize = 100;

/// No sooner after the last one: 20 in a second, where the machine is quick enough.
const RELOADED_EVERY: Duration = Duration::from_millis(50);

/// Between two requests of each client: some thousand a second, which leave a reload a part of the processors.
const ASKED_EVERY: Duration = Duration::from_millis(1);

#[test]
fn reloads_under_load_mix_nothing() {
    let steps = ["rot13", "uppercase"].map(|name| fs::read(guest(&format!("plugin-{name}"))).expect("a guest"));
    let app = App::new().server("metrics = \"/metrics\"");
    app.file("step.wasm", &steps[0]);
    let app = app
        .tables("[[module]]\nname = \"step\"\nsource = \"step.wasm\"")
        .tables("[[route]]\npath = \"/\"\nchain = [\"step\", \"step\"]");
    let server = Fornax::serve(FORNAX, app.write(), &[]);
    let reloads = std::env::var(COUNT).map_or(RELOADS, |count| count.parse().expect("a number of reloads"));
    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let answers: Vec<[usize; 2]> = thread::scope(|scope| {
        let over = Over(&stop);
        let ask = || {
            let (mut client, mut seen) = (server.client(), [0; 2]);
            while !stop.load(Relaxed) {
                let response = client.get("/?input=abc");
                thread::sleep(ASKED_EVERY);
                // Twice the one, or twice the other; `NOP` or `nop` would be one of each.
                match (response.status, response.text().trim()) {
                    (200, "Result = abc") => seen[0] += 1,
                    (200, "Result = ABC") => seen[1] += 1,
                    other => panic!("{other:?}"),
                }
            }
            seen
        };
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let before = metric(&server, "fornax_reloads_total");
        for round in 1..=reloads {
            app.file("step.wasm", &steps[round % 2]);
            let told = Instant::now();
            server.hang_up();
            wait_until("it is reloaded", DEADLINE, || metric(&server, "fornax_reloads_total") >= before + round as u64);
            thread::sleep(RELOADED_EVERY.saturating_sub(told.elapsed()));
        }
        drop(over);
        asking.into_iter().map(|asking| asking.join().expect("every answer is of one generation")).collect()
    });
    let seen = answers.iter().fold([0, 0], |all, one| [all[0] + one[0], all[1] + one[1]]);
    let rate = reloads as f64 / began.elapsed().as_secs_f64();
    note(&format!("{reloads} reloads, {rate:.1} a second, {seen:?} answers of each generation"));
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}

#[test]
fn the_next_worker_serves_what_was_in_service() {
    let bytes = |name: &str| fs::read(guest(name)).expect("a guest");
    let app = App::new();
    app.file("app.wasm", &bytes("hello-wasip2"));
    let app = app.tables("[[module]]\nname = \"app\"\nsource = \"app.wasm\"\n[[route]]\npath = \"/a\"\nmodule = \"app\"");
    let folder = App::new();
    folder.file("hello.wasm", &bytes("hello-wasip2"));
    for (file, path) in [(app.write(), "/a"), (folder.folder().to_owned(), "/hello")] {
        let server = Fornax::serve(FORNAX, file, &[]);
        assert_eq!(server.client().get(path).text(), HELLO);
        // Nobody has asked for these to be read.
        app.file("fornax.toml", b"[[route");
        app.file("app.wasm", b"half a bui");
        folder.file("hello.wasm", b"half a bui");
        folder.file("more.wasm", b"half a bui");
        kill(&server, Signal::KILL);
        assert_eq!(server.client().get(path).text(), HELLO, "{path}");
        server.hang_up();
        server.wait_for_log(|line| line.contains("not reloaded; what was in service stays"), DEADLINE);
        kill(&server, Signal::KILL);
        assert_eq!(server.client().get(path).text(), HELLO, "{path}");

        // Once it is right it is served, by the next worker, too.
        app.write();
        app.file("app.wasm", &bytes("multi"));
        folder.file("hello.wasm", &bytes("multi"));
        folder.file("more.wasm", &bytes("multi"));
        server.hang_up();
        wait_until("it is reloaded", DEADLINE, || server.client().get(path).text() == "http entry\n");
        kill(&server, Signal::KILL);
        assert_eq!(server.client().get(path).text(), "http entry\n", "{path}");
        app.file("app.wasm", &bytes("hello-wasip2"));
        folder.file("hello.wasm", &bytes("hello-wasip2"));
        fs::remove_file(folder.folder().join("more.wasm")).expect("a file");
    }
}

#[test]
fn a_worker_that_cannot_start_is_tried_again() {
    let app = App::new().module("hello", "hello-wasip2", "").route("/hello", "hello", "");
    let app = app.tables("[[route]]\npath = \"/files/*\"\nfiles = \"files\"");
    let folder = app.folder().join("files");
    fs::create_dir(&folder).expect("a folder");
    let mut server = Fornax::serve(FORNAX, app.write(), &[]);
    fs::remove_dir(&folder).expect("an empty folder");
    assert!(server.signal_worker(server.worker(), Signal::KILL), "it is there");
    server.wait_for_log(|line| line.starts_with("error: ") && line.contains("files"), DEADLINE);
    let mut waiting = server.client();
    waiting.send(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").expect("the kernel takes it");
    server.wait_for_log(|line| line.contains("ended with exit code 1, with no module in flight"), DEADLINE);
    fs::create_dir(&folder).expect("a folder");
    server.hang_up();
    assert_eq!(waiting.read_response("GET").expect("an answer").text(), HELLO);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_app_without_modules_starts_reloads_and_ends_in_order() {
    let app = App::new().tables("[[route]]\npath = \"/files/*\"\nfiles = \"files\"");
    fs::create_dir(app.folder().join("files")).expect("a folder");
    app.file("files/a.txt", b"a");
    let mut server = Fornax::serve(FORNAX, app.write(), &[]);
    assert_eq!(server.client().get("/files/a.txt").text(), "a");
    let app = app.tables("[[route]]\npath = \"/more/*\"\nfiles = \"files\"");
    app.write();
    server.hang_up();
    wait_until("it is reloaded", DEADLINE, || server.client().get("/more/a.txt").status == 200);
    kill(&server, Signal::KILL);
    assert_eq!(server.client().get("/more/a.txt").text(), "a");
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_reload_mends_a_worker_that_cannot_start() {
    let hello = App::new().module("hello", "hello-wasip2", "").route("/hello", "hello", "");
    let good = hello.text();
    let app = hello.tables("[[route]]\npath = \"/files/*\"\nfiles = \"files\"");
    let folder = app.folder().join("files");
    fs::create_dir(&folder).expect("a folder");
    let mut server = Fornax::serve(FORNAX, app.write(), &[]);
    fs::remove_dir(&folder).expect("an empty folder");
    assert!(server.signal_worker(server.worker(), Signal::KILL), "it is there");
    server.wait_for_log(|line| line.contains("ended with exit code 1, with no module in flight"), DEADLINE);
    // What was in service cannot be any more. What the files say by now can.
    app.file("fornax.toml", good.as_bytes());
    server.hang_up();
    let mut waiting = server.client();
    waiting.send(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").expect("the kernel takes it");
    assert_eq!(waiting.read_response("GET").expect("an answer").text(), HELLO);
    assert_eq!(server.client().get("/files/a.txt").status, 404);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_reload_is_not_lost_with_the_worker_that_was_told() {
    let app = app(&[]);
    let server = Fornax::serve(FORNAX, app.write(), &[]);
    let app = app.route("/next", "hello", "");
    app.file("half.wasm", b"half a bui");
    // Read and served; not to be read; read, and found to be wrong only when the server is made.
    let half = app.text() + "\n[[module]]\nname = \"half\"\nsource = \"half.wasm\"\n";
    for (at, written) in [app.text(), "[[route".to_owned(), half].into_iter().enumerate() {
        app.file("fornax.toml", written.as_bytes());
        let worker = server.worker();
        assert!(server.signal_worker(worker, Signal::STOP), "it is there");
        wait_until("every thread of it has stopped", DEADLINE, || is_stopped(worker));
        server.hang_up();
        assert!(server.signal_worker(worker, Signal::KILL), "it is there");
        wait_until("the worker is replaced", DEADLINE, || server.worker() != worker);
        wait_until("it is read", DEADLINE, || server.client().get("/next").status == 200);
        wait_until("it is said", DEADLINE, || count(&server, "not reloaded; what was in service stays") == at);
        wait_until("no worker more was needed", DEADLINE, || count(&server, "takes its place") == at + 1);
    }
    assert_eq!(server.client().get("/next").text(), HELLO);
}

#[test]
fn a_first_worker_that_keeps_dying_is_the_end() {
    // What takes long to start is killed before it has.
    let guests = ["hello-wasip2", "hello-wasip3", "hello-wstd", "echo", "proxy", "counter", "multi", "inspect", "recall", "slow"];
    let app = guests.iter().fold(App::new(), |app, name| app.module(name, name, "").route(&format!("/{name}"), name, ""));
    let mut supervisor = Command::new(FORNAX)
        .arg("serve")
        .arg(app.write())
        .args(["--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut killed = Vec::new();
    wait_until("it gives up", DEADLINE, || {
        for worker in children(supervisor.id()) {
            if !killed.contains(&worker) {
                let pid = i32::try_from(worker).ok().and_then(Pid::from_raw).expect("a process id");
                // It has not been waited for, or its number would not be among these.
                kill_process(pid, Signal::KILL).expect("a child of ours");
                killed.push(worker);
            }
        }
        supervisor.try_wait().expect("our own child").is_some()
    });
    let mut said = String::new();
    supervisor.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!(supervisor.wait().expect("our own child").code(), Some(1), "{said}");
    // What the log said of each may come before it or behind.
    let last = "error: 5 workers ended before they could serve; the last one was ended by SIGKILL";
    assert!(said.lines().any(|line| line == last), "{said}");
    assert_eq!(killed.len(), 5, "{said}");
}
