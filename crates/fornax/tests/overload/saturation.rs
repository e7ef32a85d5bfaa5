//! A tenant that takes all it can get of one thing leaves its neighbour what it needs.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use testkit::{App, Fornax, alone, note};
use tokio::task::{JoinSet, LocalSet};

use crate::client::Client;
use crate::{may_open_all, seconds};

/// For so long the neighbour asks beside each attack, where nothing is said.
const BESIDE: Duration = Duration::from_millis(1500);

const SOLO: Duration = Duration::from_secs(1);

/// Of what the neighbour can have alone, what it asks for.
const OFFERED: f64 = 0.3;

/// Of what it asks for, what it gets; and on a machine that may compile at the same time.
const THROUGHPUT_MIN: f64 = 0.95;
const THROUGHPUT_BUSY_MIN: f64 = 0.8;

/// An answer that comes later is none.
const IN_TIME: Duration = Duration::from_secs(1);

/// What is saturated, by which guest, given what, asked for what, by so many clients at once.
struct Attack {
    what: &'static str,
    guest: &'static str,
    given: String,
    query: String,
    clients: usize,
}

fn attacks(silent: SocketAddr) -> [Attack; 6] {
    let attack = |what, guest, given: &str, query: &str, clients| Attack {
        what,
        guest,
        given: given.to_owned(),
        query: query.to_owned(),
        clients,
    };
    let outbound = format!("outbound = [\"http://{silent}\"]");
    [
        attack("slots", "slow", "", "ms=60000", 1200),
        attack("cpu", "hostile-loop", "limits = { cpu = \"30s\" }", "", 64),
        attack("memory", "hostile-memory-bomb", "limits = { cpu = \"10s\", memory = \"256MiB\" }", "", 16),
        attack(
            "descriptors",
            "hostile-run-descriptors",
            "codec = \"wasio\"\ndirs = [{ host = \".\", guest = \"/data\" }]",
            "",
            16,
        ),
        attack("outbound connections", "hostile-http", &outbound, &format!("what=blackhole&to={silent}"), 200),
        attack("log", "hostile-run-log", "codec = \"wasio\"\nlimits = { cpu = \"10s\" }", "", 8),
    ]
}

#[test]
fn a_tenant_that_saturates_a_resource_leaves_the_neighbour_its_throughput() {
    let _alone = alone();
    may_open_all();
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a socket");
    let attacks = attacks(silent.local_addr().expect("its address"));
    let mut app = App::new().module("hello", "hello-wasip2", "tenant = \"quiet\"").route("/hello", "hello", "tenant = \"quiet\"");
    for (number, Attack { guest, given, .. }) in attacks.iter().enumerate() {
        let (name, tenant) = (format!("attack-{number}"), format!("tenant = \"loud-{number}\""));
        app = app.module(&name, guest, &format!("{tenant}\n{given}")).route(&format!("/{name}"), &name, &tenant);
    }
    let server = Fornax::run(crate::FORNAX, app.write(), &[]);
    let (told, neighbour) = (seconds(), Client::new(server.addr(), "/hello"));
    let (duration, least) = told.map_or((BESIDE, THROUGHPUT_BUSY_MIN), |told| (told, THROUGHPUT_MIN));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        assert_eq!(neighbour.ask().await.status, 200, "it is loaded");
        let solo = neighbour.peak(8, SOLO).await;
        for (number, attack) in attacks.iter().enumerate() {
            let attacker = Client::new(server.addr(), &format!("/attack-{number}?{}", attack.query));
            let mut attackers = JoinSet::new();
            for _ in 0..attack.clients {
                let attacker = attacker.clone();
                attackers.spawn_local(async move {
                    // What becomes of it does not matter here; a connection that ends is made anew, a moment later.
                    loop {
                        if attacker.exchange().await.is_err() {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                });
            }
            // All of them are there by then.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let answers = neighbour.offer(OFFERED * solo, duration).await;
            let good = answers.iter().filter(|answer| answer.status == 200 && answer.took <= IN_TIME).count();
            let (share, longest) = (good as f64 / answers.len() as f64, answers.iter().map(|answer| answer.took).max());
            note(&format!(
                "{}: {good} of {} answered in time ({:.1} %), the longest took {:?}; alone {solo:.0}/s",
                attack.what,
                answers.len(),
                share * 100.0,
                longest.unwrap_or_default()
            ));
            assert!(share >= least, "{}: the neighbour got {:.1} % of what it asked for", attack.what, share * 100.0);
            attackers.shutdown().await;
        }
    });
}
