//! Ten thousand calls that wait at once.

use super::PEAK;
use crate::bench::measure::{Load, kib, load, progress};
use crate::bench::outcome::{Bar, Figure, Outcome};
use crate::bench::peers::{self, FORNAX, FRESH, WASMTIME};
use crate::bench::{Context, Scenario, apps};

/// Calls at once.
const CALLS: u32 = 10_000;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sleepers",
    what: "10,000 connections ask at once for what sleeps 2 s: how long until all are answered, and what a waiting call holds",
    figures: &[
        Figure::new("elapsed_s", "s until all are answered", 2),
        Figure::new("kb_per_call", "KB a waiting call", 1),
        PEAK,
        Figure::new("cpu_us", "CPU µs/request", 1),
    ],
    // Twice what a server of no cost would take: 10,000 starts at 100 µs of a core are a second.
    bars: &[Bar::at_most("10,000 calls that sleep 2 s at once: all answered, within seconds", "elapsed_s", FORNAX, 4.0)],
    loads: 0.0,
    beside_s: 9.0,
    run,
};

/// `wasmtime serve` with room for as many.
const ROOM: &[&str] = &[
    "-Scli",
    "--max-concurrent-connections=11000",
    "--max-concurrent-requests=11000",
    "-Opooling-total-component-instances=11000",
    "-Opooling-total-core-instances=44000",
    "-Opooling-total-memories=11000",
    "-Opooling-total-tables=33000",
    "-Opooling-total-stacks=11000",
];

fn run(context: &Context) -> crate::Result<Outcome> {
    let text = "[tenant.crowd]\nin_flight = 20000\n".to_string()
        + &apps::module("slow", "slow", "tenant = \"crowd\"")
        + &apps::route("/*", "tenant = \"crowd\"\nmodule = \"slow\"");
    let app = apps::write("sleepers", &text)?;
    let rows = [(WASMTIME, FRESH), (FORNAX, FRESH)];
    let programs = [peers::wasmtime(context, "slow", ROOM)?, peers::fornax(context, &app, &[])];
    let crowd = Load::of(&["--path", "/?ms=2000", "--answer", "slept", "--requests", "1"]).with("--connections", CALLS);
    let mut outcome = Outcome::of(&rows);
    for round in 1..=context.plan.rounds {
        let mut samples = Vec::new();
        for (program, (name, _)) in programs.iter().zip(rows) {
            // Each round a server that has seen no crowd: what it holds afterwards is another question.
            let server = context.plan.serve(program)?;
            let before_mb = kib(server.pid(), &["VmRSS"]) / 1024.0;
            let mut sample = load(context, &server, &crowd, 10.0, name)?.sample();
            let held = (sample["peak_mb"] - before_mb) * 1024.0 / f64::from(CALLS);
            sample.insert("kb_per_call", held);
            samples.push(sample);
            let _ = server.stop();
        }
        progress(context, round, &rows, &samples, "elapsed_s");
        outcome.add(samples);
    }
    Ok(outcome)
}
