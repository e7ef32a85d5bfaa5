//! Guests that attack: each gets its answer, is counted and logged once, and nobody else notices.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::{App, Client, Fornax, Neighbour, Response, alone, at_once, note, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fornax");

const LIMITS: &str = r#"limits = { cpu = "200ms", wall = "10s", memory = "64MiB" }"#;

/// The CPU limit and 250 ms.
const ANSWERED_WITHIN: Duration = Duration::from_millis(450);

const NEIGHBOUR_WITHIN: Duration = Duration::from_millis(250);

/// How long anything may take to be as it was before.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// What a process keeps of an attack, such as pages it will use again.
const KEPT_BYTES_MAX: u64 = 32 << 20;

/// What becomes of an attack.
enum End {
    /// A status and a `type`; the connection goes on.
    Refused(u16, &'static str),
    /// 200 with this body; the connection goes on.
    Answered(&'static str),
    /// 200 with the beginning of a body; the connection ends.
    CutOff(&'static str),
}

struct Attack {
    /// The package of a folder in `guests/hostile`.
    guest: &'static str,
    end: End,
    /// The label in the metrics.
    outcome: &'static str,
    /// What the log says, besides the request's id.
    log: &'static [&'static str],
}

const STACK: &[&str] = &[r#"kind="trap""#, r#"blame="guest""#, "inner_trap", "middle_function", "outer_function"];

const ATTACKS: &[Attack] = &[
    Attack { guest: "hostile-loop", end: End::Refused(504, "cpu-limit"), outcome: "cpu-limit", log: &[r#"kind="cpu-limit""#] },
    Attack { guest: "hostile-loop3", end: End::Refused(504, "cpu-limit"), outcome: "cpu-limit", log: &[r#"kind="cpu-limit""#] },
    Attack {
        guest: "hostile-memory-bomb",
        end: End::Refused(502, "memory-limit"),
        outcome: "memory-limit",
        log: &[r#"kind="memory-limit""#],
    },
    Attack { guest: "hostile-trap", end: End::Refused(502, "trap"), outcome: "trap", log: STACK },
    Attack { guest: "hostile-trap3", end: End::Refused(502, "trap"), outcome: "trap", log: STACK },
    Attack {
        guest: "hostile-no-response",
        end: End::Refused(502, "no-response"),
        outcome: "no-response",
        log: &[r#"kind="no-response""#],
    },
    // The first answer has not left when the second traps.
    Attack { guest: "hostile-second-response", end: End::Refused(502, "trap"), outcome: "trap", log: &["ResponseOutparam::set"] },
    Attack {
        guest: "hostile-recursion",
        end: End::Refused(502, "stack"),
        outcome: "stack",
        log: &[r#"kind="stack""#, "descend"],
    },
    Attack {
        guest: "hostile-bad-length",
        end: End::Refused(502, "bad-response"),
        outcome: "bad-response",
        log: &[r#"kind="bad-response""#],
    },
    Attack { guest: "hostile-forbidden", end: End::Answered(FORBIDDEN), outcome: "2xx", log: &[] },
    Attack { guest: "hostile-loop-after-head", end: End::CutOff("partial\n"), outcome: "2xx", log: &[r#"kind="cpu-limit""#] },
    Attack { guest: "hostile-loop-after-body", end: End::Answered("complete\n"), outcome: "2xx", log: &[r#"kind="cpu-limit""#] },
];

const FORBIDDEN: &str = r#""connection" "close": forbidden
"Connection" "close": forbidden
"keep-alive" "timeout=5": forbidden
"proxy-connection" "close": forbidden
"transfer-encoding" "chunked": forbidden
"upgrade" "websocket": forbidden
"host" "example.com": forbidden
"http2-settings" "AAMAAABkAAQAAP__": forbidden
"x-split" "a\r\nset-cookie: evil=1": invalid-syntax
"x-line" "a\nb": invalid-syntax
"x-return" "a\rb": invalid-syntax
"x-nul" "a\0b": invalid-syntax
"x bad name" "a": invalid-syntax
"x-bad\r\nname" "a": invalid-syntax
"" "a": invalid-syntax
"x-fine" "a": ok
"#;

/// No answer to a failure says any of this.
const SECRETS: &[&str] = &["/", "backtrace", "wasm", "0x", ".rs", "::"];

/// Every attack as the tenant `hostile`, which has one place, and as its own module; `/same` and `/hello` answer as ever.
fn app() -> App {
    let hostile = format!("tenant = \"hostile\"\n{LIMITS}");
    let mut app = App::new()
        .server("metrics = \"/metrics\"")
        .tables("[tenant.hostile]\nin_flight = 1\nqueue = 1\nqueue_wait = \"10s\"")
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "")
        .module("same", "hello-wasip2", &hostile)
        .route("/same", "same", "tenant = \"hostile\"");
    for Attack { guest, .. } in ATTACKS {
        app = app.module(guest, guest, &hostile).route(&format!("/{guest}"), guest, "tenant = \"hostile\"");
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
    let known: BTreeSet<_> = ATTACKS.iter().map(|attack| attack.guest.to_owned()).collect();
    assert_eq!(names.collect::<BTreeSet<_>>(), known);
}

#[test]
fn attacks_end_alone_in_an_answer_a_count_and_a_log_line() {
    let _alone = alone();
    let app = app();
    let server = Fornax::run(PROGRAM, app.write(), &[]);
    let mut client = server.client();
    assert_eq!(client.get("/same").status, 200);
    let neighbour = Neighbour::start(server.addr(), "/hello");
    let before = (server.descriptors(), server.status_number("Threads"), server.status_number("VmRSS") * 1024);
    for attack in ATTACKS {
        attack_once(&server, &mut client, attack);
    }
    let metrics = client.get("/metrics").text();
    for Attack { guest, outcome, .. } in ATTACKS {
        let line = format!("fornax_calls_total{{tenant=\"hostile\",module=\"{guest}\",outcome=\"{outcome}\"}} 1");
        assert!(metrics.lines().any(|known| known == line), "{line} is missing in\n{metrics}");
    }
    wait_until("descriptors and threads are as before", SETTLED_WITHIN, || {
        // The neighbour opens one now and then.
        server.descriptors() <= before.0 + 1 && server.status_number("Threads") <= before.1
    });
    let kept = (server.status_number("VmRSS") * 1024).saturating_sub(before.2);
    note(&format!("memory kept: {} KiB", kept >> 10));
    assert!(kept <= KEPT_BYTES_MAX, "{kept} bytes are not given back");
    neighbour.was_answered_within(NEIGHBOUR_WITHIN);
}

fn attack_once(server: &Fornax, client: &mut Client, attack: &Attack) {
    let guest = attack.guest;
    let logged_before = server.log().len();
    let sent = Instant::now();
    let response = client.get(&format!("/{guest}"));
    let took = sent.elapsed();
    note(&format!("{guest}: {} after {took:?}", response.status));
    assert!(took <= ANSWERED_WITHIN, "{guest} was answered after {took:?}");
    let request = check_answer(attack, &response);
    if response.truncated {
        assert_eq!(client.read_to_end().expect("a closed connection"), b"", "{guest}: bytes behind a body that was cut off");
        *client = server.client();
    }
    // The tenant has one place: a call of its own gets in when the attacker is gone. The connection is the attacker's.
    let freed = Instant::now();
    assert_eq!(client.get("/same").status, 200, "{guest}: the next call of the tenant");
    assert!(freed.elapsed() <= ANSWERED_WITHIN, "{guest}: the place was free after {:?}", freed.elapsed());
    assert_eq!(client.get("/hello").text(), "Hello from Fornax!\n", "{guest}: the next call on the connection");
    let new_log = || server.log()[logged_before..].join("\n");
    for wanted in attack.log.iter().copied().chain(request.as_deref()) {
        wait_until(&format!("{guest}: {wanted} in the log"), SETTLED_WITHIN, || new_log().contains(wanted));
    }
    let warnings = new_log().lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
    assert_eq!(warnings, usize::from(!attack.log.is_empty()), "{guest} is logged once:\n{}", new_log());
}

/// Returns what the log must say of the request.
fn check_answer(attack: &Attack, response: &Response) -> Option<String> {
    let guest = attack.guest;
    match attack.end {
        End::Answered(body) => {
            assert_eq!((response.status, response.text().as_str(), response.truncated), (200, body, false), "{guest}");
            None
        }
        End::CutOff(body) => {
            assert_eq!((response.status, response.text().as_str(), response.truncated), (200, body, true), "{guest}");
            None
        }
        End::Refused(status, kind) => {
            assert_eq!((response.status, response.truncated), (status, false), "{guest}: {}", response.text());
            assert_eq!(response.header("content-type"), Some("application/json"), "{guest}");
            let body: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
            assert_eq!(body["type"], kind, "{guest}");
            let all = format!("{:?}{}", response.headers, response.text()).replace("application/json", "");
            for secret in SECRETS {
                assert!(!all.contains(secret), "{guest}: the answer says {secret:?}: {all}");
            }
            let id = body["request"].as_str().expect("a request id");
            assert!(id.len() == 16 && id.chars().all(|c| c.is_ascii_hexdigit()), "{guest}: {id:?}");
            Some(format!("request={id} tenant=\"hostile\" module=\"{guest}\""))
        }
    }
}

#[test]
fn a_memory_bomb_fails_alone() {
    const BOMBS: usize = 8;
    let _alone = alone();
    let app = App::new()
        .module("hello", "hello-wasip2", "")
        .route("/hello", "hello", "")
        .module("bomb", "hostile-memory-bomb", LIMITS)
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
