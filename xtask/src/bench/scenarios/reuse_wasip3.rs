//! The hello of WASI 0.3 where a module asked for instances that serve several calls at once.

use super::WITH_RATE;
use super::hello_wasip3::FLAGS;
use crate::bench::measure::Load;
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers;
use crate::bench::{Context, Scenario};

const CONCURRENT: &str = "fornax, concurrent";
const WASMTIME_CONCURRENT: &str = "wasmtime serve, reusing";

/// How one call may see what others leave.
const SHARED: &str = "instance shared: 128 calls, 16 at once";

pub(super) const SCENARIO: Scenario = Scenario {
    name: "reuse-wasip3",
    what: "the hello of WASI 0.3 where instances are kept for 128 calls, 16 of them at once, which is what `wasmtime serve` does by itself",
    figures: WITH_RATE,
    bars: &[Bar::ratio(
        "WASI 0.3 hello, reused 128 × 16: CPU of `wasmtime serve` in the same mode",
        "cpu_us",
        CONCURRENT,
        0.8,
        WASMTIME_CONCURRENT,
    )],
    loads: 8.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let mut field = peers::two(context, &peers::guest("hello-wasip3"), &[], Load::hello());
    field.add(WASMTIME_CONCURRENT, SHARED, peers::wasmtime(context, "hello-wasip3", FLAGS)?, Load::hello());
    let concurrent = peers::fornax(context, &peers::guest("hello-wasip3"), &["--reuse", "concurrent"]);
    field.add(CONCURRENT, SHARED, concurrent, Load::hello());
    field.measure_with_rate(context)
}
