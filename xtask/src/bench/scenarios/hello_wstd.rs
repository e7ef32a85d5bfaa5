//! The hello of an ordinary guest.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, FORNAX, WASMTIME};
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hello-wstd",
    what: "an ordinary guest of WASI 0.2 (`std`, `wstd`) says hello: it reads its environment first, and imports much",
    figures: WITH_RATE,
    bars: &[Bar::ratio("WASI 0.2 hello, ordinary: CPU of `wasmtime serve` as it comes", "cpu_us", FORNAX, 1.0 / 3.0, WASMTIME)],
    loads: 6.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    peers::three(context, "hello-wstd", &["-Scli"], &Load::hello())?.measure_with_rate(context)
}
