//! A stored answer.

use super::WITH_RATE;
use crate::bench::measure::Load;
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, FORNAX, NATIVE};
use crate::bench::{Context, Scenario, apps};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cache-hit",
    what: "the hello out of the response cache: no guest runs",
    figures: WITH_RATE,
    bars: &[Bar::ratio("response-cache hit: CPU of native hyper", "cpu_us", FORNAX, 1.2, NATIVE)],
    loads: 4.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let text = apps::module("hello", "hello-wasip2", "") + &apps::route("/*", "module = \"hello\"\ncache = { ttl = \"1h\" }");
    peers::two(context, &apps::write("cache", &text)?, &[], Load::hello()).measure_with_rate(context)
}
