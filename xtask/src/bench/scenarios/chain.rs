//! Plugins in sequence.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::Outcome;
use crate::bench::{Context, Scenario, apps, peers};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "chain",
    what: "three plugins in sequence, each in a sandbox of its own; native hyper answers the hello",
    figures: WITH_RATE,
    bars: &[],
    loads: 4.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    // What the last writes is the answer: the reverser also writes what it was given, which differs from call to call.
    let names = ["rot13", "reverser", "uppercase"];
    let modules: String = names.iter().map(|name| apps::module(name, &format!("plugin-{name}"), "")).collect();
    let app = apps::write("chain", &(modules + &apps::route("/", &format!("chain = {names:?}"))))?;
    let load = Load::of(&["--path", "/?input=hello", "--answer", "Result = BYYRU"]);
    peers::two(context, &app, &[], load).measure_with_rate(context)
}
