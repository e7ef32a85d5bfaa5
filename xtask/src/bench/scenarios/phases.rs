//! The wasm side of a call alone.

use crate::bench::measure::progress;
use crate::bench::outcome::{Figure, Outcome, Sample, WRONG};
use crate::bench::peers::{self, FRESH};
use crate::bench::{Context, Scenario};
use crate::work;
use serde_json::Value;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "phases",
    what: "the lean hello without sockets and without Fornax (`crates/guest/examples/phases.rs`): what wasmtime takes to make the store, instantiate, \
           call and drop, with the settings of Fornax's engine, with its own, and for an instance that is kept; and the component's main core \
           module alone, which is not called",
    figures: &[
        Figure::new("total_us", "µs in all", 2),
        Figure::new("store_us", "store", 2),
        Figure::new("instantiate_us", "instantiate", 2),
        Figure::new("call_us", "call", 2),
        Figure::new("drop_us", "drop", 2),
    ],
    bars: &[],
    loads: 4.0,
    beside_s: 0.8,
    run,
};

const KEYS: &[&str] = &["total_us", "store_us", "instantiate_us", "call_us", "drop_us"];

/// Rows and the modes of the example.
const ROWS: &[(&str, &str)] = &[
    ("settings of Fornax", FRESH),
    ("default pool", FRESH),
    ("settings of Fornax, kept", "instance kept for ever"),
    ("settings of Fornax, core module alone", FRESH),
];
const MODES: &[&str] = &["pool", "default", "reuse", "core"];

fn run(context: &Context) -> crate::Result<Outcome> {
    let program = context.tools.example("phases")?;
    let seconds = context.plan.seconds.to_string();
    let mut outcome = Outcome::of(ROWS);
    for round in 1..=context.plan.rounds {
        let mut samples = Vec::new();
        for mode in MODES {
            let words = peers::words(&program, &[&peers::guest("hello-wasip2"), mode, &seconds]);
            let printed = work::output(&mut context.plan.on_core(0, &words))?;
            let line: Value = serde_json::from_str(&printed).map_err(|error| format!("phases: {error}"))?;
            let figures = KEYS.iter().map(|key| (*key, line[*key].as_f64().unwrap_or(f64::NAN)));
            // It compares each answer itself, and ends where one is wrong.
            samples.push(figures.chain([(WRONG, 0.0)]).collect::<Sample>());
        }
        progress(context, round, ROWS, &samples, "total_us");
        outcome.add(samples);
    }
    Ok(outcome)
}
