//! Ten fields in, ten fields out.

use super::FAST;
use crate::bench::measure::Load;
use crate::bench::outcome::Outcome;
use crate::bench::peers;
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "headers",
    what: "ten fields of the request come back in the answer; an ordinary guest (`std`) of WASI 0.2",
    figures: FAST,
    bars: &[],
    loads: 3.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let load = Load::of(&["--path", "/headers", "--fields", "10"]);
    peers::three(context, "work", &["-Scli"], &load)?.measure(context)
}
