//! The hello of WASI 0.3, a fresh instance for each call on both sides.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, FORNAX, WASMTIME};
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hello-wasip3",
    what: "a guest of WASI 0.3 says hello, fresh for each call",
    figures: WITH_RATE,
    bars: &[Bar::ratio("WASI 0.3 hello, fresh: CPU of `wasmtime serve`, fresh", "cpu_us", FORNAX, 0.5, WASMTIME)],
    loads: 6.0,
    beside_s: 0.0,
    run,
};

/// What `wasmtime serve` needs to run a guest of WASI 0.3.
pub(super) const FLAGS: &[&str] = &["-Scli", "-Sp3", "-Wcomponent-model-async"];

fn run(context: &Context) -> crate::Result<Outcome> {
    // It keeps instances of WASI 0.3 for the next 128 requests unless it is told not to.
    let fresh = ["--max-instance-reuse-count=1", "--max-instance-concurrent-reuse-count=1"];
    peers::three(context, "hello-wasip3", &[FLAGS, &fresh].concat(), &Load::hello())?.measure_with_rate(context)
}
