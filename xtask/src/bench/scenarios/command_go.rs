//! A preview 1 command in Go.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::Outcome;
use crate::bench::peers;
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ignis-json",
    what: "a command of preview 1 in Go reads and writes protobuf; native hyper answers the hello",
    figures: WITH_RATE,
    bars: &[],
    loads: 4.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let load = Load::of(&["--answer", "{\n  \"method\": \"GET\""]);
    peers::two(context, &peers::guest("ignis-json"), &["--codec", "ignis"], load).measure_with_rate(context)
}
