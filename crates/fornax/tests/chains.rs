//! Chains over every mix of entries, by route and on the command line.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{App, Body, Client, Finished, Fornax, Response, at_once, guest, run_to_end, run_to_end_with, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

/// A plugin that logs `text` and returns `code`, whatever its input.
fn says(text: &str, code: i32) -> Vec<u8> {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    module(&format!(
        "(import \"host\" \"log\" (func $log (param i32 i32)))
         (memory (export \"memory\") 1)
         (data (i32.const 1024) \"{bytes}\")
         (func (export \"process\") (param i32 i32 i32 i32) (result i32)
           (call $log (i32.const 1024) (i32.const {})) (i32.const {code}))",
        text.len()
    ))
}

/// A program that computes for `ms` milliseconds, by its own clock of what it computed: as long on any machine.
fn burns(ms: u64) -> Vec<u8> {
    module(&format!(
        "(import \"wasi_snapshot_preview1\" \"clock_time_get\" (func $clock (param i32 i64 i32) (result i32)))
         (memory (export \"memory\") 1)
         (func (export \"_start\")
           (loop $again
             (drop (call $clock (i32.const 2) (i64.const 1) (i32.const 0)))
             (br_if $again (i64.lt_u (i64.load (i32.const 0)) (i64.const {})))))",
        ms * 1_000_000
    ))
}

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {text})")).expect("a module")
}

/// A module whose artifact is beside the configuration.
fn local(app: App, name: &str, bytes: &[u8], lines: &str) -> App {
    app.file(&format!("{name}.wasm"), bytes);
    app.tables(&format!("[[module]]\nname = {name:?}\nsource = \"{name}.wasm\"\n{lines}"))
}

fn chain(app: App, path: &str, steps: &str, lines: &str) -> App {
    app.tables(&format!("[[route]]\npath = {path:?}\nchain = [{steps}]\n{lines}"))
}

/// Guests of every entry.
fn app() -> App {
    App::new()
        .server("metrics = \"/metrics\"")
        .module("rot13", "plugin-rot13", "")
        .module("upper", "plugin-uppercase", "")
        .module("reverse", "plugin-reverser", "")
        .module("program", "p1-command", "")
        .module("component", "cli-component", "")
        .module("component3", "cli-component3", "")
        .module("echo", "echo", "")
        .module("echo3", "echo3", "")
        .module("trap", "hostile-process-trap", "")
        .module("exits", "hostile-run-exit", "")
        .module("counter", "counter", "bindings = { keyvalue = { default = \"memory\" } }")
}

fn post(client: &mut Client, path: &str, body: &str) -> Response {
    client.request("POST", path, &[], Body::Length(body.into()))
}

#[test]
fn chains_are_any_mix_of_entries() {
    let mixes = [
        ("\"rot13\", \"upper\"", "Result = URYYB"),
        ("\"reverse\", \"rot13\", \"upper\"", "Result = BYYRU"),
        ("\"rot13\", \"echo\", \"upper\"", "Result = URYYB"),
        ("\"echo3\", \"rot13\", \"echo3\"", "uryyb"),
        ("\"rot13\", \"program\", \"upper\"", "Result = INPUT: URYYB"),
        ("\"component\", \"echo\", \"component3\"", "input: hello"),
        ("\"program\", \"program\", \"program\"", "input: input: input: hello\n"),
        ("\"upper\"", "Result = HELLO"),
        // Eight, and one module twice.
        ("\"rot13\", \"rot13\", \"rot13\", \"rot13\", \"rot13\", \"rot13\", \"rot13\", \"upper\"", "Result = URYYB"),
    ];
    let app = mixes.iter().enumerate().fold(app(), |app, (number, (steps, _))| chain(app, &format!("/{number}"), steps, ""));
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for (number, (steps, expected)) in mixes.iter().enumerate() {
        let response = post(&mut client, &format!("/{number}"), "hello");
        assert_eq!((response.status, response.text().as_str()), (200, *expected), "{steps}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{steps}");
        // A parameter is as good as a body.
        assert_eq!(client.get(&format!("/{number}?input=hello")).text(), *expected, "{steps}");
    }
    let many = at_once(fornax.addr(), 64, "/1?input=hello");
    assert!(many.iter().all(|answer| answer.response.text() == "Result = BYYRU"));
}

#[test]
fn what_goes_on_is_the_result_or_the_whole() {
    let outputs = [
        ("Result = one", "one", "Result = one"),
        ("noise\nThe Result = two words\nResult = second", "two words", "noise\nThe Result = two words\nResult = second"),
        ("Result = \nbehind\nlast", "behind", "Result = \nbehind\nlast"),
        ("first\nlast\n\n", "last", "first\nlast\n\n"),
        ("Result = crlf\r\nlast", "crlf", "Result = crlf\r\nlast"),
        ("", "", ""),
    ];
    let mut app = App::new().module("echo", "echo", "");
    for (number, (output, ..)) in outputs.iter().enumerate() {
        let name = format!("says{number}");
        app = local(app, &name, &says(output, 0), "");
        app = chain(app, &format!("/result{number}"), &format!("{name:?}, \"echo\""), "");
        let whole = format!("{{ module = {name:?}, output = \"whole\" }}, {{ module = \"echo\" }}");
        app = chain(app, &format!("/whole{number}"), &whole, "");
    }
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for (number, (output, result, whole)) in outputs.iter().enumerate() {
        for (path, expected) in [("result", result), ("whole", whole)] {
            let response = post(&mut client, &format!("/{path}{number}"), "x");
            assert_eq!((response.status, response.text().as_str()), (200, *expected), "{path} of {output:?}");
        }
    }
}

#[test]
fn the_first_step_that_fails_is_named() {
    let app = local(app(), "minus", &says("Result = no", -2), "");
    let cases = [
        ("\"rot13\", \"minus\", \"trap\"", 502, "guest-exit", "step 2 (`minus`) of the chain failed"),
        ("\"minus\"", 502, "guest-exit", "step 1 (`minus`) of the chain failed"),
        ("\"rot13\", \"upper\", \"exits\"", 502, "guest-exit", "step 3 (`exits`) of the chain failed"),
        ("\"rot13\", \"trap\", \"minus\"", 502, "trap", "step 2 (`trap`): the guest trapped"),
        // Which wants a key, and answers 400.
        ("\"counter\", \"upper\"", 502, "guest-exit", "step 1 (`counter`) of the chain failed"),
    ];
    let app = cases.iter().enumerate().fold(app, |app, (number, (steps, ..))| chain(app, &format!("/{number}"), steps, ""));
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for (number, (steps, status, kind, sentence)) in cases.iter().enumerate() {
        let response = post(&mut client, &format!("/{number}"), "hello");
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(response.status, *status, "{steps}: {body}");
        assert_eq!((body["type"].as_str(), body["message"].as_str()), (Some(*kind), Some(*sentence)), "{steps}: {body}");
    }
    let metrics = client.get("/metrics").text();
    for (module, outcome) in [("rot13+minus+trap", "guest-exit"), ("rot13+trap+minus", "trap")] {
        let line = format!("fornax_calls_total{{tenant=\"default\",module=\"{module}\",outcome=\"{outcome}\"}} 1");
        assert!(metrics.lines().any(|known| known == line), "{line} is missing in\n{metrics}");
    }
}

#[test]
fn a_chain_has_one_slot_and_a_line_of_its_own() {
    let app = app().top("[tenant.default]\nin_flight = 1\nqueue = 0");
    let app = chain(app, "/c", "\"rot13\", \"program\", \"echo\"", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for _ in 0..3 {
        let response = post(&mut client, "/c", "hello");
        assert_eq!((response.status, response.text().as_str()), (200, "input: uryyb"));
    }
    let metrics = client.get("/metrics").text();
    let line = "fornax_calls_total{tenant=\"default\",module=\"rot13+program+echo\",outcome=\"2xx\"} 3";
    assert!(metrics.lines().any(|known| known == line), "{line} is missing in\n{metrics}");
    assert!(metrics.contains("fornax_in_flight 0\n"), "{metrics}");
}

#[test]
fn the_steps_share_one_account_of_time_to_compute() {
    let mut app = local(App::new(), "burn", &burns(300), "limits = { cpu = \"10s\" }");
    for (path, cpu) in [("/one", "150ms"), ("/two", "450ms"), ("/three", "750ms"), ("/all", "20s")] {
        app = chain(app, path, "\"burn\", \"burn\", \"burn\"", &format!("limits = {{ cpu = \"{cpu}\", wall = \"60s\" }}"));
    }
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    for (path, step) in [("/one", 1), ("/two", 2), ("/three", 3)] {
        let response = post(&mut client, path, "");
        assert_eq!(response.status, 504, "{path}: {}", response.text());
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(body["type"], "cpu-limit", "{path}: {body}");
        let begins = format!("step {step} (`burn`): ");
        assert!(body["message"].as_str().is_some_and(|text| text.starts_with(&begins)), "{path}: {body}");
    }
    assert_eq!(post(&mut client, "/all", "").status, 200);
}

#[test]
fn the_steps_share_one_deadline() {
    // Each sleeps for a second, and may for 30.
    let app = App::new().module("slow", "slow", "limits = { wall = \"30s\" }");
    let app = chain(app, "/c", "\"slow\", \"slow\", \"slow\"", "limits = { wall = \"1500ms\" }");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let response = fornax.client().get("/c");
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!((response.status, body["type"].as_str()), (504, Some("deadline")), "{body}");
    // On a machine that is busy the first one may be late.
    let named = |step| body["message"].as_str().is_some_and(|text| text.starts_with(&format!("step {step} (`slow`): ")));
    assert!(named(1) || named(2), "{body}");
}

#[test]
fn a_step_that_never_completes_its_body_ends_by_the_chains_deadline() {
    let app = App::new().module("trickle", "hostile-trickle", "limits = { wall = \"30s\" }").module("echo", "echo", "");
    let app = chain(app, "/c", "\"trickle\", \"echo\"", "limits = { wall = \"500ms\" }");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let response = fornax.client().get("/c");
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!((response.status, body["type"].as_str()), (504, Some("deadline")), "{body}");
    assert_eq!(body["message"], "step 1 (`trickle`): the guest did not answer in time");
}

#[test]
fn a_step_is_over_when_its_guest_has_ended() {
    // Each waits for 300 ms when its answer is complete.
    let app = App::new().server("metrics = \"/metrics\"").module("after", "afterlife", "");
    let app = app.module("after3", "afterlife3", "");
    let app = chain(app, "/c", "\"after\", \"after3\", \"after\"", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let began = Instant::now();
    assert_eq!(post(&mut client, "/c", "").text(), "done\n");
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    let metrics = client.get("/metrics").text();
    assert!(metrics.contains("fornax_in_flight 0\n"), "{metrics}");
}

#[test]
fn what_a_step_computes_after_its_answer_is_on_the_chains_account() {
    let app = App::new().server("metrics = \"/metrics\"");
    let app = app.module("loops", "hostile-loop-after-body", "limits = { cpu = \"10s\" }");
    let app = chain(app, "/c", "\"loops\", \"loops\", \"loops\"", "limits = { cpu = \"300ms\", wall = \"60s\" }");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    let response = post(&mut client, "/c", "");
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!((response.status, body["type"].as_str()), (504, Some("cpu-limit")), "{body}");
    assert!(body["message"].as_str().is_some_and(|text| text.starts_with("step 2 (`loops`): ")), "{body}");
    let line = "fornax_guest_cpu_seconds_total{tenant=\"default\",module=\"loops\"} ";
    let mut metrics = String::new();
    wait_until("the second one to be gone", Duration::from_secs(10), || {
        metrics = client.get("/metrics").text();
        metrics.contains("fornax_in_flight 0\n")
    });
    let seconds = metrics.lines().find_map(|known| known.strip_prefix(line)).expect("what it computed");
    let seconds: f64 = seconds.parse().expect("a number");
    // Two whole limits would be 0.6. A busy machine makes what is behind the limit longer.
    assert!((0.3..0.6).contains(&seconds), "{seconds}");
}

#[test]
fn a_step_has_the_memory_of_its_module() {
    // It begins with 200 MiB.
    let large = module(
        "(memory (export \"memory\") 3200) (func (export \"process\") (param i32 i32 i32 i32) (result i32) (i32.const 0))",
    );
    let app = local(App::new(), "large", &large, "limits = { memory = \"512MiB\" }");
    let app = app.route("/alone", "large", "").module("upper", "plugin-uppercase", "");
    let app = chain(app, "/c", "\"upper\", \"large\"", "");
    let app = chain(app, "/less", "\"upper\", \"large\"", "limits = { memory = \"128MiB\" }");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    assert_eq!(post(&mut client, "/alone", "x").status, 200);
    assert_eq!(post(&mut client, "/c", "x").status, 200);
    assert!(post(&mut client, "/less", "x").text().contains("\"type\":\"memory-limit\""));
}

fn run(folder: &Path, args: &[&str]) -> Finished {
    run_to_end(Command::new(FORNAX).current_dir(folder).arg("run").args(args))
}

/// A folder of artifacts.
fn folder() -> App {
    let app = App::new();
    for (file, name) in [
        ("rot13", "plugin-rot13"),
        ("upper", "plugin-uppercase"),
        ("program", "p1-command"),
        ("echo", "echo"),
        ("trap", "hostile-process-trap"),
        ("exits", "hostile-run-exit"),
        ("loop", "hostile-run-loop"),
        ("bomb", "hostile-process-memory-bomb"),
    ] {
        app.file(&format!("{file}.wasm"), &fs::read(guest(name)).expect("a guest"));
    }
    app.file("minus.wasm", &says("Result = no", -2));
    app
}

#[test]
fn the_command_line_prints_each_step() {
    let app = folder();
    let steps = "rot13.wasm,program.wasm,echo.wasm,./upper.wasm";
    let text =
        "Step 1: Uryyb (rot13)\nStep 2: input: Uryyb (program)\nStep 3: input: Uryyb (echo)\nStep 4: INPUT: URYYB (upper)\n";
    let given = run(app.folder(), &["--chain", steps, "--input", "Hello"]);
    assert_eq!((given.code, given.stdout.as_str()), (Some(0), text), "{}", given.stderr);
    let mut command = Command::new(FORNAX);
    command.current_dir(app.folder()).args(["run", "--chain", steps]);
    let read = run_to_end_with(&mut command, b"Hello");
    assert_eq!((read.code, read.stdout.as_str()), (Some(0), text), "{}", read.stderr);

    let whole = run(app.folder(), &["--chain", "rot13.wasm:whole,rot13.wasm", "--input", "Hello"]);
    assert_eq!(whole.stdout, "Step 1: Uryyb (rot13)\nStep 2: Erfhyg = Hello (rot13)\n", "{}", whole.stderr);

    let given = run(app.folder(), &["--chain", "rot13.wasm,upper.wasm", "--input", "Hi", "--json"]);
    let mut printed: Value = serde_json::from_str(&given.stdout).expect("JSON");
    for step in printed.as_array_mut().expect("steps") {
        let step = step.as_object_mut().expect("a step");
        assert!(step.remove("took_ms").and_then(|ms| ms.as_f64()).is_some_and(|ms| ms > 0.0), "{step:?}");
        assert!(step.remove("cpu_ns").and_then(|ns| ns.as_u64()).is_some_and(|ns| ns > 0), "{step:?}");
    }
    let expected = json!([
        { "module": "rot13", "output": "Result = Uv", "result": "Uv", "code": 0 },
        { "module": "upper", "output": "Result = UV", "result": "UV", "code": 0 },
    ]);
    assert_eq!((given.code, printed), (Some(0), expected));
}

#[test]
fn a_step_that_fails_on_the_command_line_ends_it() {
    let app = folder();
    // What a step returned is shown, and what comes behind it is not called.
    let failed = run(app.folder(), &["--chain", "rot13.wasm,minus.wasm,trap.wasm", "--input", "Hello"]);
    let text = "Step 1: Uryyb (rot13)\nStep 2: no (minus, failed with code -2)\n";
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), text), "{}", failed.stderr);
    let exited = run(app.folder(), &["--chain", "exits.wasm,rot13.wasm", "--input", ""]);
    assert_eq!((exited.code, exited.stdout.as_str()), (Some(1), "Step 1: half an answer (exits, failed with code 3)\n"));
    // So are the steps before one that comes to nothing.
    let first = "Step 1: k (rot13)\n";
    for (args, sentence, printed) in [
        (&["--chain", "rot13.wasm,trap.wasm", "--input", "x"][..], "error: step 2 (`trap`): the guest trapped", first),
        (&["--chain", "rot13.wasm,loop.wasm", "--input", "x", "--timeout", "300ms"], "error: step 2 (`loop`): ", first),
        (
            &["--chain", "bomb.wasm", "--input", "x", "--memory", "16MiB", "--timeout", "30s"],
            "error: step 1 (`bomb`): the guest wanted more memory",
            "",
        ),
        (&["--chain", "rot13.wasm,none.wasm", "--input", "x"], "error: module `none` (", ""),
    ] {
        let failed = run(app.folder(), args);
        assert!(failed.stderr.lines().any(|line| line.starts_with(sentence)), "{args:?}: {}", failed.stderr);
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), printed), "{args:?}");
    }
    let failed = run(app.folder(), &["--chain", "rot13.wasm,trap.wasm", "--input", "x", "--json"]);
    let printed: Value = serde_json::from_str(&failed.stdout).expect("JSON");
    assert_eq!((failed.code, printed.as_array().map(Vec::len), &printed[0]["result"]), (Some(1), Some(1), &json!("k")));
    for args in [&["--chain", "rot13.wasm", "--watch"][..], &["--input", "x", "rot13.wasm"], &["--chain"]] {
        assert_eq!(run(app.folder(), args).code, Some(2), "{args:?}");
    }
}
