//! The lean hello where a module asked for instances that serve one call after the other.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, NATIVE};
use crate::bench::{Context, Scenario};

const SERIAL: &str = "fornax, serial";
const WASMTIME_SERIAL: &str = "wasmtime serve, reusing";

/// How one call may see what the one before left.
const KEPT: &str = "instance kept for 128 calls";

pub(super) const SCENARIO: Scenario = Scenario {
    name: "reuse-wasip2",
    what: "the lean hello of WASI 0.2 where instances are kept for 128 calls, one after the other",
    figures: WITH_RATE,
    bars: &[
        Bar::ratio("WASI 0.2 hello, reuse: CPU of `wasmtime serve` with the same reuse", "cpu_us", SERIAL, 0.75, WASMTIME_SERIAL),
        Bar::ratio("WASI 0.2 hello, reuse: CPU of native hyper", "cpu_us", SERIAL, 1.6, NATIVE),
    ],
    loads: 8.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let mut field = peers::two(context, &peers::guest("hello-wasip2"), &[], Load::hello());
    let reusing = peers::wasmtime(context, "hello-wasip2", &["--max-instance-reuse-count=128"])?;
    field.add(WASMTIME_SERIAL, KEPT, reusing, Load::hello());
    let serial = peers::fornax(context, &peers::guest("hello-wasip2"), &["--reuse", "serial"]);
    field.add(SERIAL, KEPT, serial, Load::hello());
    field.measure_with_rate(context)
}
