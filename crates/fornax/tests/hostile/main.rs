//! Guests that attack: each gets its answer, is counted and logged once, and nobody else notices.
//!
//! Attack × entry is one matrix, which is printed (`--nocapture`). With `FORNAX_HOSTILE` set to a file each attack is made again and again
//! beside a neighbour who asks at least 200 times meanwhile, and the matrix and all figures are written there.

mod attacks;
mod matrix;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::{App, Client, Fornax, Neighbour, Response, alone, at_once, note, wait_until};

use attacks::{Attack, End, PATIENT, TEXTS};
use matrix::Matrix;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

const LIMITS: &str = r#"limits = { cpu = "200ms", wall = "10s", memory = "64MiB" }"#;

/// The CPU limit and 250 ms.
const ANSWERED_WITHIN: Duration = Duration::from_millis(450);

const NEIGHBOUR_WITHIN: Duration = Duration::from_millis(250);

/// How long anything may take to be as it was before.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// How often each attack is made.
const ROUNDS: usize = 2;

/// What a neighbour may wait at the 99th percentile beyond what it waits when nothing else goes on.
const NEIGHBOUR_P99: Duration = Duration::from_millis(50);

/// As many answers to the neighbour as a percentile means something of.
const PROBES_MIN: usize = 200;

/// Attacks of one kind in the full form, at most: some are over at once.
const ROUNDS_MAX: usize = 2000;

/// What a process keeps of an attack, such as pages it will use again.
const KEPT_BYTES_MAX: u64 = 32 << 20;

/// Those that attack elsewhere: the calls of preview 1 themselves, in `crates/guest/tests/preview1/hostile.rs`, and what is beside their
/// directories, in `crates/fornax/tests/escape.rs`.
const ELSEWHERE: [&str; 4] = ["hostile-preview1", "hostile-escape1", "hostile-escape2", "hostile-escape3"];

/// Never ends its answer, which only hurts who wants all of it: `tests/chains.rs`, `tests/library.rs`.
const ATTACKS_CHAINS: &str = "hostile-trickle";

/// No answer to a failure says any of this.
const SECRETS: &[&str] = &["/", "backtrace", "wasm", "0x", ".rs", "::"];

/// What the module of an attack is called: guests do several things.
fn name(number: usize, attack: &Attack) -> String {
    format!("{number:02}-{}", attack.guest)
}

/// The module that answers: within a chain the guest is its second step.
fn answers(number: usize, attack: &Attack) -> String {
    let name = name(number, attack);
    if attack.chained { format!("harmless+{name}+harmless") } else { name }
}

/// Every attack as the tenant `hostile`, which has one place, and as its own module; `/same` and `/hello` answer as ever.
fn app(attacks: &[Attack]) -> App {
    let mut app = App::new()
        .server("metrics = \"/metrics\"")
        .tables("[tenant.hostile]\nin_flight = 1\nqueue = 1\nqueue_wait = \"10s\"")
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "")
        .module("same", "hello-wasip2", &format!("tenant = \"hostile\"\n{LIMITS}"))
        .route("/same", "same", "tenant = \"hostile\"")
        .module("harmless", "plugin-rot13", &format!("tenant = \"hostile\"\n{LIMITS}"));
    for (file, text) in TEXTS {
        app.file(&format!("{file}.wasm"), &wat::parse_str(text).expect("a module"));
    }
    for (number, attack) in attacks.iter().enumerate() {
        let Attack { guest, given, limits, .. } = attack;
        let (name, limits) = (name(number, attack), limits.unwrap_or(LIMITS));
        let lines = format!("tenant = \"hostile\"\n{given}\n{limits}");
        app = match TEXTS.iter().any(|(file, _)| file == guest) {
            true => app.tables(&format!("[[module]]\nname = {name:?}\nsource = \"{guest}.wasm\"\n{lines}")),
            false => app.module(&name, guest, &lines),
        };
        let path = format!("/{name}/*");
        app = match attack.chained {
            false => app.route(&path, &name, "tenant = \"hostile\""),
            true => app.tables(&format!(
                "[[route]]\npath = {path:?}\ntenant = \"hostile\"\nchain = [\"harmless\", {name:?}, \"harmless\"]\n{limits}"
            )),
        };
    }
    app
}

#[test]
fn every_hostile_guest_is_attacked_with() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/hostile");
    let names = fs::read_dir(folder).expect("the hostile guests").map(|entry| {
        let name = entry.expect("a readable folder").file_name();
        format!("hostile-{}", name.to_str().expect("a name in UTF-8"))
    });
    let attacks = attacks::all(SocketAddr::from(([127, 0, 0, 1], 1)));
    let served = attacks.into_iter().map(|attack| attack.guest).filter(|guest| guest.starts_with("hostile-"));
    let known: BTreeSet<_> = served.chain([ATTACKS_CHAINS].into_iter().chain(ELSEWHERE).map(str::to_owned)).collect();
    assert_eq!(names.collect::<BTreeSet<_>>(), known);
}

#[test]
fn attacks_end_alone_in_an_answer_a_count_and_a_log_line() {
    let _alone = alone();
    // Takes connections, as every listening socket does, and says nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a socket");
    let attacks = attacks::all(silent.local_addr().expect("its address"));
    let app = app(&attacks);
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    assert_eq!(client.get("/same").status, 200);
    let quiet = percentile_99(&probed(&server, || {}));
    let neighbour = Neighbour::start(server.addr(), "/hello");
    let before = (server.descriptors(), server.status_number("Threads"));
    let (mut kept_before, mut matrix) = (0, Matrix::default());
    let mut fastest = vec![Duration::MAX; attacks.len()];
    // What the first attacks of each kind leave is there for the next: names of functions, warm places of the pool.
    for _ in 0..ROUNDS {
        kept_before = server.status_number("RssAnon") * 1024;
        for (number, attack) in attacks.iter().enumerate() {
            fastest[number] = fastest[number].min(attack_once(&server, &mut client, number, attack, &mut matrix));
        }
    }
    // A machine that is busy with something else makes some answers late, but not the same one each time.
    for (number, attack) in attacks.iter().enumerate() {
        assert!(fastest[number] <= ANSWERED_WITHIN, "{} was over after {:?}", answers(number, attack), fastest[number]);
    }
    let metrics = client.get("/metrics").text();
    for (number, attack) in attacks.iter().enumerate() {
        let (module, outcome) = (answers(number, attack), attack.outcome());
        let line = format!("fornax_calls_total{{tenant=\"hostile\",module=\"{module}\",outcome=\"{outcome}\"}} {ROUNDS}");
        assert!(metrics.lines().any(|known| known == line), "{line} is missing in\n{metrics}");
    }
    // The neighbour opens one now and then.
    let left = || (server.descriptors().saturating_sub(before.0 + 1), server.status_number("Threads").saturating_sub(before.1));
    let settles = Instant::now() + SETTLED_WITHIN;
    while left() != (0, 0) && Instant::now() < settles {
        std::thread::yield_now();
    }
    assert_eq!(left(), (0, 0), "descriptors and threads are left");
    let kept = (server.status_number("RssAnon") * 1024).saturating_sub(kept_before);
    note(&format!("memory kept: {} KiB", kept >> 10));
    assert!(kept <= KEPT_BYTES_MAX, "{kept} bytes are not given back");
    let times = neighbour.stop();
    let (p99, worst) = (percentile_99(&times), times.iter().max().copied().unwrap_or_default());
    note(&format!(
        "{}\nneighbour: {} probes, p99 {p99:?}, the longest {worst:?}; p99 {quiet:?} when quiet",
        matrix.text(),
        times.len()
    ));
    assert!(
        times.len() >= PROBES_MIN && worst <= NEIGHBOUR_WITHIN,
        "one of {} answers to the neighbour took {worst:?}",
        times.len()
    );
    assert!(p99 <= quiet + NEIGHBOUR_P99, "p99 {p99:?} of {} answers to the neighbour, {quiet:?} when quiet", times.len());
    if let Some(report) = std::env::var_os("FORNAX_HOSTILE") {
        attack_at_length(&server, &attacks, &matrix, &PathBuf::from(report));
    }
}

/// Each attack again and again, until the neighbour has asked often enough meanwhile.
fn attack_at_length(server: &Fornax, attacks: &[Attack], matrix: &Matrix, report: &Path) {
    let mut text = format!("# Attacks\n\n{}\n## Each beside a neighbour\n\n", matrix.text());
    text.push_str(
        "| attack | times | slowest ms | neighbour asked | p99 ms | longest ms |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut client = server.client();
    let mut bad = Vec::new();
    for (number, attack) in attacks.iter().enumerate() {
        let (mut rounds, mut slowest) = (0, Duration::ZERO);
        let times = probed(server, || {
            if rounds < ROUNDS_MAX {
                rounds += 1;
                slowest = slowest.max(attack_once(server, &mut client, number, attack, &mut Matrix::default()));
            }
        });
        let (p99, worst) = (percentile_99(&times), times.iter().max().copied().unwrap_or_default());
        let name = answers(number, attack);
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| {name} {} | {rounds} | {:.1} | {} | {:.1} | {:.1} |",
            attack.query,
            ms(slowest),
            times.len(),
            ms(p99),
            ms(worst)
        );
        if p99 > NEIGHBOUR_P99 {
            bad.push(format!("{name}: p99 {p99:?}"));
        }
    }
    fs::write(report, text).expect("the report is written");
    assert!(bad.is_empty(), "the neighbour noticed: {bad:?}");
}

/// What a neighbour waited, who asked at least so often while this was done over and over.
fn probed(server: &Fornax, mut done: impl FnMut()) -> Vec<Duration> {
    let neighbour = Neighbour::start(server.addr(), "/hello");
    while neighbour.asked() < PROBES_MIN {
        done();
        std::thread::yield_now();
    }
    neighbour.stop()
}

fn percentile_99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

/// Returns how long it took to be answered, where that is limited, or to be gone.
fn attack_once(server: &Fornax, client: &mut Client, number: usize, attack: &Attack, matrix: &mut Matrix) -> Duration {
    let (module, answers) = (name(number, attack), answers(number, attack));
    let guest = format!("{answers} {} ?{}", attack.given, attack.query);
    let logged_before = server.log().len();
    let sent = Instant::now();
    let response = client.get(&format!("/{module}/?{}", attack.query));
    let took = sent.elapsed();
    note(&format!("{guest}: {} after {took:?}", response.status));
    matrix.note(attack, &response, took);
    let failure = check_answer(&answers, attack, &response);
    if response.truncated {
        assert_eq!(client.read_to_end().expect("a closed connection"), b"", "{guest}: bytes behind a body that was cut off");
        *client = server.client();
    }
    // The tenant has one place: a call of its own gets in when the attacker is gone. The connection is the attacker's.
    let freed = Instant::now();
    assert_eq!(client.get("/same").status, 200, "{guest}: the next call of the tenant");
    let freed = freed.elapsed();
    assert_eq!(client.get("/hello").text(), "Hello from Fornax!\n", "{guest}: the next call on the connection");
    let new_log = || server.log()[logged_before..].join("\n");
    for wanted in attack.log.iter().copied().chain(failure.as_deref()) {
        wait_until(&format!("{guest}: {wanted} in the log"), SETTLED_WITHIN, || new_log().contains(wanted));
    }
    assert!(!new_log().contains('\u{1b}'), "{guest}: an escape sequence reaches whoever reads the log");
    let is_warning = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let warnings = new_log().lines().filter(is_warning).count();
    assert_eq!(warnings, usize::from(attack.is_logged()), "{guest} is logged once:\n{}", new_log());
    if attack.limits.is_some() { freed } else { freed.max(took) }
}

/// Returns what the log must say of the failure.
fn check_answer(module: &str, attack: &Attack, response: &Response) -> Option<String> {
    match attack.end {
        End::Answered(body) => {
            assert_eq!((response.status, response.text().as_str(), response.truncated), (200, body, false), "{module}");
            None
        }
        End::CutOff(body) => {
            assert_eq!((response.status, response.text().as_str(), response.truncated), (200, body, true), "{module}");
            None
        }
        End::Flooded(begins) => {
            let is_so = response.body.starts_with(begins.as_bytes());
            assert_eq!((response.status, is_so, response.truncated), (200, true, true), "{module}");
            None
        }
        End::Refused(status, kind) => {
            assert_eq!((response.status, response.truncated), (status, false), "{module}: {}", response.text());
            assert_eq!(response.header("content-type"), Some("application/json"), "{module}");
            let body: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
            assert_eq!(body["type"], kind, "{module}");
            let all = format!("{:?}{}", response.headers, response.text()).replace("application/json", "");
            for secret in SECRETS {
                assert!(!all.contains(secret), "{module}: the answer says {secret:?}: {all}");
            }
            let id = body["request"].as_str().expect("a request id");
            assert!(id.len() == 16 && id.chars().all(|c| c.is_ascii_hexdigit()), "{module}: {id:?}");
            Some(format!("request={id} tenant=\"hostile\" module=\"{module}\" kind=\"{kind}\" blame=\"guest\""))
        }
    }
}

#[test]
fn ten_thousand_short_calls_leave_the_neighbour_its_answers() {
    const CALLS: usize = 10_000;
    const CLIENTS: usize = 16;
    let _alone = alone();
    let app = App::new()
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "")
        .module("short", "hello-wasip2", "tenant = \"hostile\"")
        .route("/short", "short", "tenant = \"hostile\"")
        .tables("[tenant.hostile]");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let (before, neighbour) = (server.descriptors(), Neighbour::start(server.addr(), "/hello"));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..CALLS / CLIENTS {
                    assert_eq!(client.get("/short").status, 200);
                }
            });
        }
    });
    neighbour.was_answered_within(NEIGHBOUR_WITHIN);
    wait_until("descriptors are as before", SETTLED_WITHIN, || server.descriptors() <= before + 1);
}

#[test]
fn a_memory_bomb_fails_alone() {
    const BOMBS: usize = 8;
    let _alone = alone();
    let app = App::new()
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "")
        // Eight share the cores, and none may end by computing for too long.
        .module("bomb", "hostile-memory-bomb", PATIENT)
        .route("/bomb", "bomb", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let neighbour = Neighbour::start(server.addr(), "/hello");
    server.forget_rss_peak();
    let before = server.rss_peak_bytes();
    for bombs in [1, BOMBS] {
        for bomb in at_once(server.addr(), bombs, "/bomb") {
            assert_eq!(bomb.response.status, 502);
            assert!(bomb.response.text().contains(r#""type":"memory-limit""#), "{}", bomb.response.text());
        }
        let grown = server.rss_peak_bytes().saturating_sub(before);
        note(&format!("{bombs} bombs at once: {} MiB more", grown >> 20));
        assert!(grown <= bombs as u64 * (64 << 20) + KEPT_BYTES_MAX, "{bombs} bombs took {grown} bytes");
    }
    wait_until("the memory is given back", SETTLED_WITHIN, || {
        server.status_number("VmRSS") * 1024 <= before + BOMBS as u64 * (4 << 20) + KEPT_BYTES_MAX
    });
    neighbour.was_answered_within(NEIGHBOUR_WITHIN);
}

/// A plugin that logs nearly all of its memory at once, which is no text.
const LOGS_ITSELF: &str = r#"(module
    (import "host" "log" (func $log (param i32 i32)))
    (memory (export "memory") 1920)
    (func (export "process") (param i32 i32 i32 i32) (result i32)
      (memory.fill (i32.const 0) (i32.const 0xff) (i32.const 125829120))
      (call $log (i32.const 0) (i32.const 125829120))
      (i32.const 0)))"#;

#[test]
fn a_line_over_the_limit_is_never_copied() {
    const LINE_BYTES: u64 = 120 << 20;
    let _alone = alone();
    let app = App::new()
        .tables("[[module]]\nname = \"plugin\"\nsource = \"plugin.wasm\"\nlimits = { memory = \"128MiB\", cpu = \"10s\" }");
    app.file("plugin.wasm", &wat::parse_str(LOGS_ITSELF).expect("a module"));
    let app = app.module("hello", "hello-wasip2", "").route("/hello", "hello", "").route("/plugin", "plugin", "");
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    assert_eq!(server.client().get("/hello").status, 200);
    server.forget_rss_peak();
    let before = server.rss_peak_bytes();
    let response = server.client().get("/plugin");
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.text().contains(r#""type":"output-limit""#), "{}", response.text());
    let grown = server.rss_peak_bytes().saturating_sub(before);
    note(&format!("a line of {} MiB: {} MiB more", LINE_BYTES >> 20, grown >> 20));
    assert!(grown <= LINE_BYTES + KEPT_BYTES_MAX, "it took {grown} bytes");
}
