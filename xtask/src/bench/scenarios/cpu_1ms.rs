//! A guest that computes for about a millisecond.

use super::FAST;
use crate::bench::measure::Load;
use crate::bench::outcome::Outcome;
use crate::bench::peers;
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cpu-1ms",
    what: "a call computes for about a millisecond (600,000 turns of a generator of random numbers), native and in a guest",
    figures: FAST,
    bars: &[],
    loads: 3.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    // What 600,000 turns come to: a guest that computes something else, or nothing, is wrong.
    let load = Load::of(&["--path", "/spin?rounds=600000", "--answer", "961241f83673b6ba"]);
    peers::three(context, "work", &["-Scli"], &load)?.measure(context)
}
