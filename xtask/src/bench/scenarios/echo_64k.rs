//! Bodies of 64 KiB there and back.

use super::FAST;
use crate::bench::measure::Load;
use crate::bench::outcome::Outcome;
use crate::bench::peers;
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "echo-64k",
    what: "a body of 64 KiB comes back, streamed through a guest of WASI 0.2",
    figures: FAST,
    bars: &[],
    loads: 3.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    // With `x-length` the guest says the length beforehand, as the native server does.
    let load = Load::of(&["--path", "/echo", "--field", "x-length: 1", "--body", "65536"]);
    peers::three(context, "echo", &["-Scli"], &load)?.measure(context)
}
