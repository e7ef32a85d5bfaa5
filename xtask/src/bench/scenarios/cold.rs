//! The first call of an app after a restart.

use crate::bench::measure::{Load, load, progress};
use crate::bench::outcome::{Figure, Outcome};
use crate::bench::peers::{self, FRESH};
use crate::bench::{Context, Scenario, apps};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cold",
    what: "after a restart each of 1,000 apps is called once, on one connection, and then once more",
    figures: &[
        Figure::new("p50_ms", "p50 ms", 3),
        Figure::new("p99_ms", "p99 ms", 3),
        Figure::new("max_ms", "max ms", 2),
        Figure::new("cpu_us", "CPU µs/request", 0),
    ],
    bars: &[],
    loads: 0.0,
    beside_s: 3.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let program = peers::fornax(context, &apps::many()?, &[]);
    let rows = [("fornax, first call", FRESH), ("fornax, second call", FRESH)];
    let each = Load::of(&["--path", "/{}", "--connections", "1"]).with("--each", apps::MANY);
    // Compiles what was not compiled yet; a restart does not.
    let _ = context.plan.serve(&program)?.stop();
    let mut outcome = Outcome::of(&rows);
    for round in 1..=context.plan.rounds {
        let server = context.plan.serve(&program)?;
        let mut samples = Vec::new();
        for (name, _) in rows {
            samples.push(load(context, &server, &each, 60.0, name)?.sample());
        }
        let _ = server.stop();
        progress(context, round, &rows, &samples, "p50_ms");
        outcome.add(samples);
    }
    Ok(outcome)
}
