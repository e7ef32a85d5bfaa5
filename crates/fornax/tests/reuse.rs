//! Instances that serve more than one call: what is kept and what is not, for how long, and what calls that share one do to each other.

use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use fornax::{Builder, Config, ExecuteLimits, ModuleId};
use testkit::{App, Body, Fornax, Response, at_once, each_at_once, run_to_end, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

/// For what happens at once where nothing else runs.
const SOON: Duration = Duration::from_secs(10);

/// `recall` or `recall3` on every path, kept as `reuse` says.
fn serve(guest: &str, reuse: &str, more: &str) -> Fornax {
    let app = App::new()
        .server("metrics = \"/metrics\"")
        .module("recall", guest, &format!("reuse = {reuse}\n{more}"))
        .route("/*", "recall", "");
    Fornax::run(PROGRAM, app.write(), &[])
}

/// The number of the call within its instance.
#[track_caller]
fn number(response: &Response) -> u64 {
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().trim().parse().unwrap_or_else(|_| panic!("no number: {}", response.text()))
}

/// What each path in turn answers on one connection: the number of the call within its instance, or the status. Asked again of a new
/// server where a guest was moved for having computed long, as happens on a busy machine: its instance is kept a moment later.
fn observe(guest: &str, reuse: &str, more: &str, paths: &[&str]) -> Vec<String> {
    for _ in 0..20 {
        let server = serve(guest, reuse, more);
        let mut client = server.client();
        let answers = paths.iter().map(|path| {
            let answer = client.get(path);
            if answer.status == 200 { answer.text().trim().to_owned() } else { answer.status.to_string() }
        });
        let answers = answers.collect();
        if client.get("/metrics").text().lines().any(|line| line == "fornax_guests_moved_total 0") {
            return answers;
        }
    }
    panic!("guests were moved again and again");
}

const SERIAL: [&str; 2] = ["recall", "recall3"];

#[test]
fn nothing_is_kept_where_nobody_asks_for_it() {
    for guest in SERIAL {
        assert_eq!(observe(guest, "\"fresh\"", "", &["/"; 3]), ["1", "1", "1"], "{guest}");
    }
}

#[test]
fn an_instance_serves_as_many_calls_as_it_may() {
    for (guest, mode) in [("recall", "serial"), ("recall3", "serial"), ("recall3", "concurrent")] {
        let reuse = format!("{{ mode = \"{mode}\", calls = 3 }}");
        assert_eq!(observe(guest, &reuse, "", &["/"; 7]), ["1", "2", "3", "1", "2", "3", "1"], "{guest} {mode}");
    }
}

/// Another connection may be on another core.
#[test]
fn connections_share_what_is_kept() {
    let server = serve("recall", "\"serial\"", "");
    wait_until("an instance answered on two connections", SOON, || {
        number(&server.client().get("/")) < number(&server.client().get("/"))
    });
}

#[test]
fn an_instance_that_nobody_calls_ends() {
    for (guest, mode) in [("recall", "serial"), ("recall3", "serial"), ("recall3", "concurrent")] {
        let server = serve(guest, &format!("{{ mode = \"{mode}\", idle = \"50ms\" }}"), "");
        let mut client = server.client();
        number(&client.get("/"));
        // Each look that finds it alive lets it live on, so looks are longer and longer apart.
        let mut apart = IDLE_LOOK_MIN;
        while number(&client.get("/")) != 1 {
            assert!(apart < SOON, "{guest} {mode}");
            pause(apart);
            apart *= 2;
        }
    }
}

/// Longer than an instance of the tests waits for a call.
const IDLE_LOOK_MIN: Duration = Duration::from_millis(200);

/// Lets time pass: how long an instance waits is what is tested.
fn pause(time: Duration) {
    let (_keep, nothing) = std::sync::mpsc::channel::<()>();
    let _ = nothing.recv_timeout(time);
}

/// What dies at its start dies in another instance as well: it is not tried for ever.
#[test]
fn an_instance_that_cannot_start_is_an_answer() {
    for (guest, reuse) in [("recall", "\"serial\""), ("recall3", "\"serial\""), ("recall3", "\"concurrent\"")] {
        let server = serve(guest, reuse, "limits = { memory = \"64KiB\" }");
        for answer in at_once(server.addr(), two_a_core(), "/") {
            assert_eq!(answer.response.status, 502, "{reuse}: {}", answer.response.text());
        }
        let mut client = server.client();
        wait_until("no place is taken", SOON, || client.get("/metrics").text().lines().any(|line| line == "fornax_in_flight 0"));
    }
}

#[test]
fn instances_that_wait_hold_up_no_end() {
    for (guest, mode) in [("recall", "serial"), ("recall3", "serial"), ("recall3", "concurrent")] {
        let mut server = serve(guest, &format!("{{ mode = \"{mode}\", idle = \"1h\" }}"), "");
        for answer in at_once(server.addr(), two_a_core(), "/") {
            number(&answer.response);
        }
        let began = Instant::now();
        server.terminate();
        assert!(server.wait().success(), "{mode}");
        // Draining takes its grace of 30 s where something is in flight.
        assert!(began.elapsed() < SOON, "{mode}: {:?}", began.elapsed());
    }
}

/// A runtime of the caller's does not outlive its call, and an instance must not be left to it.
#[test]
fn the_library_calls_from_any_runtime() {
    let app = App::new().module("recall", "recall3", "reuse = \"concurrent\"\nid = \"00000000-0000-4000-8000-000000000001\"");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = Config::from_toml(&app.text(), &app.folder().join("fornax.toml"), &|_| None).expect("a configuration");
    let server = runtime().block_on(Builder::from_config(config).expect("a builder").build()).expect("a server");
    let id = ModuleId::parse("00000000-0000-4000-8000-000000000001").expect("an id");
    for _ in 0..3 {
        let limits = ExecuteLimits { timeout: Some(SOON), ..ExecuteLimits::default() };
        let step = runtime().block_on(server.execute(id, "", limits)).expect("an answer");
        assert_eq!(step.output, "1\n");
    }
}

#[test]
fn only_a_call_that_ended_well_leaves_its_instance_behind() {
    for guest in SERIAL {
        let answers = observe(guest, "\"serial\"", "", &["/", "/", "/trap", "/", "/", "/error", "/"]);
        assert_eq!(answers, ["1", "2", "502", "1", "2", "502", "1"], "{guest}");
    }
    assert_eq!(observe("recall", "\"serial\"", "", &["/", "/", "/nothing", "/"]), ["1", "2", "502", "1"]);
}

/// What a fresh instance would have done with the body is what one that could have been kept does.
#[test]
fn a_body_that_is_left_open_ends_with_its_instance() {
    let answers: Vec<_> = ["\"fresh\"", "\"serial\""]
        .map(|reuse| {
            let server = serve("recall", reuse, "");
            let mut client = server.client();
            let began = Instant::now();
            let answer = client.try_request("GET", "/open", &[], Body::None);
            assert!(began.elapsed() < SOON, "{reuse}");
            assert_eq!(number(&server.client().get("/")), 1, "{reuse}");
            answer.map(|answer| (answer.status, answer.text())).map_err(|error| error.kind())
        })
        .into();
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn what_a_call_held_of_its_connection_is_let_go() {
    for reuse in ["\"fresh\"", "\"serial\""] {
        let server = serve("recall", reuse, "");
        // The guest keeps its end of the body, unread, and answers: the next request on the connection is behind that body. A guest that was
        // moved to another thread may let go of it a moment after its answer; then the connection ends.
        wait_until("the connection goes on, or says that it does not", SOON, || {
            let mut client = server.client();
            let body = "x".repeat(100 << 10);
            let answer = client.request("POST", "/hold", &[], Body::Length(body.into_bytes()));
            number(&answer);
            answer.header("connection") == Some("close") || client.try_request("GET", "/", &[], Body::None).is_ok()
        });
        // One whose body never comes.
        let mut client = server.client();
        let head = "POST /hold HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n";
        client.send(head.as_bytes()).expect("sent");
        number(&client.read_response("POST").expect("an answer"));
        wait_until("the tenant's place is free", SOON, || {
            server.client().get("/metrics").text().lines().any(|line| line == "fornax_in_flight 0")
        });
    }
}

#[test]
fn lines_in_the_log_carry_the_request_they_belong_to() {
    let server = serve("recall", "\"serial\"", "");
    let mut client = server.client();
    let mut requests = Vec::new();
    for id in ["first", "second"] {
        client.get(&format!("/print?id={id}"));
        let line = server.wait_for_log(|line| line.contains(&format!("call {id}")), SOON);
        let request = line.split("request=").nth(1).and_then(|rest| rest.split_whitespace().next());
        requests.push(request.unwrap_or_else(|| panic!("no request in {line}")).to_owned());
    }
    assert_ne!(requests[0], requests[1]);
}

#[test]
fn memory_grown_by_one_call_counts_for_the_next() {
    // Two fit. The third finds none and ends its instance, and so on.
    let answers = observe("recall", "\"serial\"", "limits = { memory = \"32MiB\" }", &["/grow?mib=12"; 6]);
    assert_eq!(answers, ["1", "2", "502", "1", "2", "502"]);
}

#[test]
fn a_reload_begins_with_new_instances() {
    let app = App::new().module("recall", "recall", "reuse = \"serial\"").route("/*", "recall", "");
    let file = app.write();
    let server = Fornax::run(PROGRAM, &file, &["--watch"]);
    let mut client = server.client();
    wait_until("an instance is kept", SOON, || number(&client.get("/")) > 2);
    app.file("fornax.toml", app.text().replace("\"serial\"", "{ mode = \"serial\", calls = 50 }").as_bytes());
    server.wait_for_log(|line| line.contains("INFO fornax::cli::run: reloaded"), SOON);
    assert_eq!(number(&client.get("/")), 1);
}

/// Enough connections for two on each core.
fn two_a_core() -> usize {
    2 * available_parallelism().map_or(1, usize::from)
}

#[test]
fn calls_of_one_core_meet_in_an_instance() {
    let server = serve("recall3", "\"concurrent\"", "");
    for answer in at_once(server.addr(), two_a_core(), "/meet?calls=2") {
        number(&answer.response);
    }
}

#[test]
fn an_instance_takes_no_more_calls_at_once_than_it_may() {
    let server = serve("recall3", "{ mode = \"concurrent\", at_once = 1 }", "limits = { wall = \"700ms\" }");
    // Nobody else comes, so nobody is met.
    for answer in at_once(server.addr(), two_a_core(), "/meet?calls=2") {
        assert_eq!(answer.response.status, 504, "{}", answer.response.text());
    }
}

/// The call that is late gets its own error and the others theirs; what comes afterwards finds a new instance.
#[test]
fn one_call_that_is_late_ends_the_instance_and_says_so_to_the_others() {
    let server = serve("recall3", "\"concurrent\"", "limits = { wall = \"3s\", cpu = \"10s\" }");
    let mut late = server.client();
    late.send(late.head("GET", "/sleep?ms=60000", &[], &Body::None).as_bytes()).expect("sent");
    let mut client = server.client();
    wait_until("it has begun", SOON, || client.get("/metrics").text().lines().any(|line| line == "fornax_in_flight 1"));
    let began = Instant::now();
    // They would be late themselves, but after it.
    pause(IDLE_LOOK_MIN);
    let others = at_once(server.addr(), two_a_core(), "/sleep?ms=60000");
    let answer = late.read_response("GET").expect("an answer");
    assert!(answer.status == 504 && answer.text().contains("\"type\":\"deadline\""), "{}", answer.text());
    // On another core the first of them is late as well.
    let lost: Vec<_> = others.iter().filter(|answer| answer.response.status != 504).collect();
    assert!(!lost.is_empty(), "somebody was in the same instance");
    for answer in lost {
        let text = answer.response.text();
        assert!(answer.response.status == 503 && text.contains("\"type\":\"instance-lost\""), "{text}");
        assert!(answer.response.header("retry-after").is_some(), "{text}");
    }
    assert!(began.elapsed() < SOON);
    // On either core: one has an instance that lives on.
    for answer in at_once(server.addr(), two_a_core(), "/") {
        number(&answer.response);
    }
}

#[test]
fn a_trap_and_a_loop_end_no_more_than_their_instance() {
    let server = serve("recall3", "\"concurrent\"", "limits = { wall = \"10s\", cpu = \"300ms\" }");
    let mut client = server.client();
    assert_eq!(number(&client.get("/")), 1);
    let trapped = client.get("/trap");
    assert!(trapped.status == 502 && trapped.text().contains("\"type\":\"trap\""), "{}", trapped.text());
    assert_eq!(number(&client.get("/")), 1);
    let spun = client.get("/spin");
    assert!(spun.status == 504 && spun.text().contains("\"type\":\"cpu-limit\""), "{}", spun.text());
    // While one computes, others are served elsewhere.
    let paths: Vec<_> = std::iter::once("/spin").chain(vec!["/"; 2 * two_a_core()]).collect();
    let answers = each_at_once(server.addr(), &paths);
    assert_eq!(answers[0].response.status, 504, "{}", answers[0].response.text());
    for answer in &answers[1..] {
        assert_eq!(answer.response.status, 200, "{}", answer.response.text());
    }
    wait_until("all is as it was", SOON, || client.get("/").status == 200);
}

#[test]
fn bodies_are_streamed_side_by_side_and_leave_no_place_taken() {
    let server = serve("recall3", "\"concurrent\"", "");
    let answers = at_once(server.addr(), 4 * two_a_core(), "/stream?pieces=3&ms=20");
    for answer in &answers {
        let text = answer.response.text();
        let (call, _) = text.split_once(':').unwrap_or_else(|| panic!("{text}"));
        assert_eq!(text, (0..3).map(|piece| format!("{call}: {piece}\n")).collect::<String>());
    }
    let mut client = server.client();
    let big = "x".repeat(300 << 10);
    let echoed = client.request("POST", "/echo", &[], Body::Length(big.clone().into_bytes()));
    assert_eq!(echoed.text(), big);
    // A client that leaves takes only its own body with it.
    let mut leaves = server.client();
    leaves.send(leaves.head("GET", "/stream?pieces=100000&ms=1", &[], &Body::None).as_bytes()).expect("sent");
    assert_eq!(leaves.read_head().expect("a head").status, 200);
    leaves.read_chunk().expect("a chunk");
    drop(leaves);
    wait_until("its place is free", SOON, || client.get("/metrics").text().lines().any(|line| line == "fornax_in_flight 0"));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn what_works_on_for_nobody_ends_too() {
    let server = serve("recall3", "{ mode = \"concurrent\", idle = \"100ms\" }", "limits = { wall = \"400ms\" }");
    let mut client = server.client();
    assert_eq!(number(&client.get("/linger?ms=3600000")), 1);
    wait_until("the instance has ended", SOON, || {
        pause(3 * IDLE_LOOK_MIN);
        number(&client.get("/")) == 1
    });
}

#[test]
fn a_chain_takes_answers_of_instances_that_live_on() {
    for (reuse, counts) in [("\"serial\"", true), ("\"concurrent\"", false)] {
        let app = App::new()
            .module("recall", "recall3", &format!("reuse = {reuse}"))
            .module("shout", "plugin-uppercase", "")
            .tables("[[route]]\npath = \"/chain\"\nchain = [\"recall\", \"shout\"]");
        let server = Fornax::run(PROGRAM, app.write(), &[]);
        let mut client = server.client();
        let mut call = || client.get("/chain?input=x").text().trim().to_owned();
        if counts {
            wait_until("an instance has served three", SOON, || call() == "Result = 3");
        } else {
            assert_eq!([call(), call()], ["Result = 1", "Result = 1"]);
        }
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for (guest, reuse, words) in [
        ("recall", "\"concurrent\"", "needs a component of WASI 0.3"),
        ("plugin-uppercase", "\"serial\"", "`reuse` is for HTTP guests"),
        ("recall", "\"always\"", "unknown way of reuse `always`"),
        ("recall", "{ mode = \"serial\", at_once = 2 }", "`at_once` is for `mode = \"concurrent\"`"),
        ("recall", "{ mode = \"serial\", calls = 0 }", "`calls`"),
        ("recall", "{ calls = 3 }", "missing key `mode`"),
    ] {
        let app = App::new().module("m", guest, &format!("reuse = {reuse}"));
        let finished = run_to_end(Command::new(PROGRAM).arg("run").arg(app.write()).args(["--listen", "127.0.0.1:0"]));
        assert_eq!(finished.code, Some(1), "{reuse}: {}", finished.stderr);
        assert!(finished.stderr.contains(words), "{reuse}: {}", finished.stderr);
    }
}
