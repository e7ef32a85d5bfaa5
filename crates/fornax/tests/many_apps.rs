//! A thousand apps: back at once after a restart, next to nothing in memory until they are called, and only so many of them there at
//! once.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::{App, Body, Client, Fornax, guest, note, wait_until};

const FORNAX: &str = env!("CARGO_BIN_EXE_fornax");

const APPS: u32 = 1000;

/// From the start of the process to the first answer of any app. The promise is 250 ms, which the benchmark holds an optimised build
/// to on a quiet machine; this is for a build without optimisation beside other tests.
const RESTART_MAX: Duration = Duration::from_secs(5);

/// Of each app that was not called yet, beside what a server with one app takes.
const IDLE_APP_BYTES_MAX: u64 = 64 << 10;

/// For what is done in the background.
const SOON: Duration = Duration::from_secs(30);

/// The guest's bytes and a custom section with the number: as many artifacts, of which each compiles to the same.
fn numbered(component: &[u8], number: u32) -> Vec<u8> {
    let name = b"number";
    // The section's kind and size, the size of its name, its name, and what is in it.
    let mut bytes = component.to_vec();
    bytes.extend([0, 1 + 6 + 4, 6]);
    bytes.extend(name);
    bytes.extend(number.to_le_bytes());
    bytes
}

/// An app of so many modules, each with a route `/NUMBER` and bytes of its own.
fn app(modules: u32, server: &str) -> App {
    let hello = fs::read(guest("hello-wasip2")).expect("a built guest");
    (0..modules).fold(App::new().server("metrics = \"/metrics\"").server(server), |app, number| {
        let source = app.file(&format!("{number}.wasm"), &numbered(&hello, number));
        let module = format!("[[module]]\nname = \"app-{number}\"\nsource = {source:?}");
        app.tables(&module).route(&format!("/{number}"), &format!("app-{number}"), "")
    })
}

fn hello(client: &mut Client, number: u32) {
    let answer = client.get(&format!("/{number}"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from Fornax!\n"), "app {number}");
}

/// A number of `/metrics`.
fn metric(client: &mut Client, name: &str) -> u64 {
    let metrics = client.get("/metrics").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
    value.parse().expect("a number")
}

/// What the process has of its own, in bytes: what of files is mapped can be taken from it at any time.
fn own_bytes(fornax: &Fornax) -> u64 {
    (fornax.status_number("RssAnon") + fornax.status_number("RssShmem")) << 10
}

#[test]
fn a_thousand_apps_are_back_at_once_and_cost_little_until_they_are_called() {
    let serve = |app: &App| {
        let data = app.folder().join("data");
        let args = ["--listen", "127.0.0.1:0", "--data", data.to_str().expect("UTF-8")];
        Fornax::spawn(Command::new(FORNAX).arg("run").arg(app.write()).args(args))
    };
    let (one, all) = (app(1, ""), app(APPS, ""));
    // So that nothing is compiled by those that are measured.
    for app in [&one, &all] {
        drop(serve(app));
    }
    let fornax = serve(&one);
    hello(&mut fornax.client(), 0);
    let of_one = own_bytes(&fornax);
    drop(fornax);

    let began = Instant::now();
    let fornax = serve(&all);
    let mut client = fornax.client();
    hello(&mut client, APPS - 1);
    let took = began.elapsed();
    assert!(took < RESTART_MAX, "{took:?}");
    // Before anything else takes memory, such as metrics of a thousand modules.
    let idle = own_bytes(&fornax).saturating_sub(of_one) / u64::from(APPS - 1);
    assert!(idle < IDLE_APP_BYTES_MAX, "{idle} bytes an app");
    assert_eq!(metric(&mut client, "fornax_module_loads_total"), 1, "only what is called is loaded");

    let began = Instant::now();
    (0..APPS).for_each(|number| hello(&mut client, number));
    let cold = began.elapsed() / APPS;
    let began = Instant::now();
    (0..APPS).for_each(|number| hello(&mut client, number));
    let warm = began.elapsed() / APPS;
    assert_eq!(metric(&mut client, "fornax_module_loads_total"), u64::from(APPS), "each once");
    let loaded = own_bytes(&fornax).saturating_sub(of_one) / u64::from(APPS - 1);
    note(&format!("restart {took:?}, first calls {cold:?}, later ones {warm:?}, {idle} B an idle app, {loaded} B a loaded one"));
}

#[test]
fn what_was_not_called_for_longest_is_dropped_and_loaded_again() {
    let fornax = Fornax::run(FORNAX, app(5, "modules_loaded = 3").write(), &[]);
    let mut client = fornax.client();
    let mut loads = 0;
    // By their own loads, when they were published.
    wait_until("three are loaded", SOON, || metric(&mut client, "fornax_modules_loaded") == 3);
    for round in 0..3 {
        for number in 0..5 {
            // One that is called all the time stays.
            hello(&mut client, 0);
            hello(&mut client, number);
            wait_until("three are loaded", SOON, || metric(&mut client, "fornax_modules_loaded") == 3);
        }
        let now = metric(&mut client, "fornax_module_loads_total");
        if round > 0 {
            assert_eq!(now - loads, 4, "four take turns in two places, in the worst order, and the fifth is never dropped");
        }
        loads = now;
    }
    let unloads = metric(&mut client, "fornax_module_unloads_total");
    assert_eq!(unloads, loads - 3);
    assert!(mapped(&fornax).len() <= 3 + 1, "its code is gone, but for the sandbox that it was in: {:?}", mapped(&fornax));
}

/// Files of compiled code that are mapped.
fn mapped(fornax: &Fornax) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", fornax.pid())).expect("the process is there");
    let code = |line: &str| line.split_once("/compiled-code/").map(|(_, file)| file.to_owned());
    maps.lines().filter_map(code).collect()
}

#[test]
fn what_is_in_use_is_not_dropped() {
    let app = app(4, "modules_loaded = 1").module("slow", "slow", "").route("/slow", "slow", "");
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    assert_eq!(client.get("/slow?ms=0").text(), "slept\n");
    wait_until("it alone is loaded", SOON, || metric(&mut client, "fornax_modules_loaded") == 1);
    let mut waiting = fornax.client();
    waiting.send(waiting.head("GET", "/slow?ms=5000", &[], &Body::None).as_bytes()).expect("sent");
    wait_until("it is called", SOON, || metric(&mut client, "fornax_in_flight") == 1);
    let before = metric(&mut client, "fornax_module_loads_total");
    for number in 0..4 {
        hello(&mut client, number);
    }
    assert_eq!(metric(&mut client, "fornax_module_loads_total"), before + 4);
    assert_eq!(client.get("/slow?ms=0").text(), "slept\n");
    assert_eq!(metric(&mut client, "fornax_module_loads_total"), before + 4, "it is there as long as a call of it is");
    assert_eq!(waiting.read_response("GET").expect("an answer").text(), "slept\n");
}

#[test]
fn identical_bytes_share_their_code() {
    let mut app = App::new().server("metrics = \"/metrics\"");
    for number in 0..20 {
        let name = format!("app-{number}");
        app = app.module(&name, "hello-wasip2", "").route(&format!("/{number}"), &name, "");
    }
    let fornax = Fornax::run(FORNAX, app.write(), &[]);
    let mut client = fornax.client();
    (0..20).for_each(|number| hello(&mut client, number));
    assert_eq!(metric(&mut client, "fornax_modules_loaded"), 20);
    let maps = fs::read_to_string(format!("/proc/{}/maps", fornax.pid())).expect("the process is there");
    let code: Vec<_> = maps.lines().filter(|line| line.contains("/compiled-code/") && line.contains(" r-xp ")).collect();
    assert_eq!(code.len(), 1, "{code:?}");
}
