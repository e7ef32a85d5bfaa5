//! Every call traps.

use super::{CPU, P99, PEAK, RPS};
use crate::bench::measure::{Field, Load};
use crate::bench::outcome::Outcome;
use crate::bench::peers::{self, FORNAX, FRESH, WASMTIME};
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "traps",
    what: "every call traps three calls deep: what a failing guest costs, its line in the log included",
    figures: &[CPU, RPS, P99, PEAK],
    bars: &[],
    loads: 2.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let answer = |status| Load::of(&["--status", status, "--answer", ""]);
    let mut field = Field::default();
    field.add(WASMTIME, FRESH, peers::wasmtime(context, "hostile-trap", &["-Scli"])?, answer("500"));
    field.add(FORNAX, FRESH, peers::fornax(context, &peers::guest("hostile-trap"), &[]), answer("502"));
    field.measure(context)
}
