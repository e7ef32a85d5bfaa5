//! A tenant in infinite loops beside one that is not.

use super::P99;
use crate::bench::measure::{Load, load, progress};
use crate::bench::outcome::{Bar, Figure, Outcome};
use crate::bench::peers::{self, FRESH};
use crate::bench::{Context, Scenario, apps};
use std::thread::sleep;
use std::time::Duration;

const QUIET: &str = "fornax, alone";
const SOME: &str = "fornax, beside 64 loops";
const ALL: &str = "fornax, beside 1,000 loops";

pub(super) const SCENARIO: Scenario = Scenario {
    name: "neighbour",
    what: "1,000 requests a second of the lean hello, while another tenant runs an infinite loop in each of its places (64, or the 1,000 a \
           tenant has by default), on the same core",
    figures: &[
        P99,
        Figure::new("p50_ms", "p50 ms", 2),
        Figure::new("max_ms", "max ms", 1),
        // Shows that the loops run: near 1 beside them.
        Figure::new("server_busy", "server's core", 2),
    ],
    bars: &[
        Bar::ratio("a tenant loops in 64 places: p99 of another, 2 × quiet + 10 ms", "p99_ms", SOME, 2.0, QUIET).and(10.0),
        Bar::ratio("a tenant loops in 1,000 places: p99 of another, 2 × quiet + 10 ms", "p99_ms", ALL, 2.0, QUIET).and(10.0),
    ],
    loads: 3.0,
    beside_s: 5.0,
    run,
};

/// Until all loops run: the clients have connected, and each guest has had a turn.
const SETTLE: Duration = Duration::from_millis(1500);

fn run(context: &Context) -> crate::Result<Outcome> {
    let text = "[tenant.quiet]\n[tenant.some]\nin_flight = 64\n[tenant.all]\n".to_string()
        + &apps::module("hello", "hello-wasip2", "tenant = \"quiet\"")
        + &apps::module("some", "hostile-loop", "tenant = \"some\"")
        + &apps::module("all", "hostile-loop", "tenant = \"all\"")
        + &apps::route("/", "tenant = \"quiet\"\nmodule = \"hello\"")
        + &apps::route("/some", "tenant = \"some\"\nmodule = \"some\"")
        + &apps::route("/all", "tenant = \"all\"\nmodule = \"all\"");
    let server = context.plan.serve(&peers::fornax(context, &apps::write("neighbour", &text)?, &[]))?;
    let seconds = context.plan.seconds;
    let hello = Load::of(&["--rate", "1000"]);
    // Each loop ends by the limit of what it may compute, or by the deadline, and begins anew.
    let noise =
        |path: &str, places: u32| Load::of(&["--path", path, "--status", "504", "--answer", ""]).with("--connections", places);
    let rows = [(QUIET, FRESH), (SOME, FRESH), (ALL, FRESH)];
    let noises = [None, Some(noise("/some", 64)), Some(noise("/all", 1000))];
    let mut outcome = Outcome::of(&rows);
    load(context, &server, &Load::hello(), 0.5, "warming up")?;
    for round in 1..=context.plan.rounds {
        let mut samples = Vec::new();
        for (noise, (name, _)) in noises.iter().zip(rows) {
            let beside = noise.as_ref().map(|noise| noise.beside(context, &server.address, seconds + 10.0)).transpose()?;
            if beside.is_some() {
                sleep(SETTLE);
            }
            samples.push(load(context, &server, &hello, seconds, name)?.sample());
            drop(beside);
            // Its guests end with their clients; what is left of that is not the next row's.
            load(context, &server, &hello, 0.3, "settling")?;
        }
        progress(context, round, &rows, &samples, "p99_ms");
        outcome.add(samples);
    }
    let _ = server.stop();
    Ok(outcome)
}
