//! Clients that leave in the middle of a call.

use super::{CPU, PEAK};
use crate::bench::measure::{Load, load, progress};
use crate::bench::outcome::{Bar, Figure, Outcome, WRONG};
use crate::bench::peers::{self, FORNAX, FRESH, WASMTIME};
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "disconnects",
    what: "clients connect, ask for what takes a second and reset the connection after a millisecond; then others ask, at once 64, for what \
           takes a millisecond, and each must get it",
    figures: &[CPU, Figure::new("left_s", "left a second", 0), Figure::new("after_p99_ms", "p99 ms afterwards", 1), PEAK],
    // Calls that nobody waits for would hold places for a second: the tenant has a thousand, and 1 ms of sleep is left of it.
    bars: &[Bar::at_most("after a storm of disconnects calls of 1 ms are answered in time: p99", "after_p99_ms", FORNAX, 100.0)],
    loads: 2.0,
    beside_s: 0.5,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let rows = [(WASMTIME, FRESH), (FORNAX, FRESH)];
    let servers = [
        context.plan.serve(&peers::wasmtime(context, "slow", &["-Scli"])?)?,
        context.plan.serve(&peers::fornax(context, &peers::guest("slow"), &[]))?,
    ];
    let storm = Load::of(&["--path", "/?ms=1000", "--leave-ms", "1"]);
    let after = Load::of(&["--path", "/?ms=1", "--answer", "slept", "--connections", "64", "--requests", "20"]);
    let mut outcome = Outcome::of(&rows);
    for round in 1..=context.plan.rounds {
        let mut samples = Vec::new();
        for (server, (name, _)) in servers.iter().zip(rows) {
            let mut sample = load(context, server, &storm, context.plan.seconds, name)?.sample();
            let calm = load(context, server, &after, 10.0, name)?;
            sample.insert("after_p99_ms", calm.p99_ms);
            *sample.entry(WRONG).or_default() += calm.bad;
            samples.push(sample);
        }
        progress(context, round, &rows, &samples, "cpu_us");
        outcome.add(samples);
    }
    for server in servers {
        let _ = server.stop();
    }
    Ok(outcome)
}
