//! A plugin behind HTTP.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::Outcome;
use crate::bench::peers;
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "plugin-uppercase",
    what: "a plugin of the `process` ABI behind HTTP; native hyper answers the hello",
    figures: WITH_RATE,
    bars: &[],
    loads: 4.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let load = Load::of(&["--path", "/?input=hello", "--answer", "Result = HELLO"]);
    peers::two(context, &peers::guest("plugin-uppercase"), &[], load).measure_with_rate(context)
}
