//! A plugin called by a program that embeds Fornax: no server is part of it.

use crate::bench::measure::progress;
use crate::bench::outcome::{Bar, Figure, Outcome, Sample, WRONG};
use crate::bench::peers::{self, FORNAX, FRESH};
use crate::bench::{Context, Scenario};
use crate::work;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "library",
    what: "the plugin called by a program that embeds Fornax (`crates/fornax/examples/execute.rs`), on one core",
    figures: &[Figure::new("calls_s", "calls/s", 0), Figure::new("call_us", "µs/call", 2)],
    bars: &[Bar::at_most("`process` by the library, fresh: calls a second on one core", "calls_s", FORNAX, 300_000.0).at_least()],
    loads: 1.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let program = context.tools.example("execute")?;
    let words = peers::words(&program, &[&peers::guest("plugin-uppercase"), &context.plan.seconds.to_string()]);
    let rows = [(FORNAX, FRESH)];
    let mut outcome = Outcome::of(&rows);
    for round in 1..=context.plan.rounds {
        // It compares each answer itself, and ends where one is wrong.
        let printed = work::output(&mut context.plan.on_core(0, &words))?;
        let rate: f64 = printed.trim().parse().map_err(|_| format!("execute printed {printed:?}"))?;
        let samples = vec![Sample::from([("calls_s", rate), ("call_us", 1e6 / rate), (WRONG, 0.0)])];
        progress(context, round, &rows, &samples, "calls_s");
        outcome.add(samples);
    }
    Ok(outcome)
}
