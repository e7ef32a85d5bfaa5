//! A preview 1 command in Rust.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, FORNAX, NATIVE};
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "json-command",
    what: "a command of preview 1 in Rust reads JSON on standard input and writes JSON; native hyper answers the hello",
    figures: WITH_RATE,
    bars: &[Bar::ratio("preview 1 command, Rust, JSON: CPU of native hyper", "cpu_us", FORNAX, 3.3, NATIVE)],
    loads: 4.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let load = Load::of(&["--path", "/?name=Ada", "--answer", "{\"message\":\"Hello, Ada!\""]);
    peers::two(context, &peers::guest("json-command"), &["--codec", "wasio"], load).measure_with_rate(context)
}
