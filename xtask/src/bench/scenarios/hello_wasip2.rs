//! The hello of a lean guest, beside everything a user could take instead.

use super::WITH_RATE;
use crate::bench::measure::{Field, Load};
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, FORNAX, FRESH, NATIVE, NONE, WASMTIME};
use crate::bench::{Context, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hello-wasip2",
    what: "a lean guest of WASI 0.2 says hello: nothing at start-up, no import but those of the answer",
    figures: WITH_RATE,
    bars: &[
        Bar::ratio("WASI 0.2 hello, lean: CPU of `wasmtime serve` as it comes", "cpu_us", FORNAX, 0.25, WASMTIME),
        Bar::ratio("WASI 0.2 hello, lean: CPU of native hyper", "cpu_us", FORNAX, 2.5, NATIVE),
    ],
    loads: 12.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let guest = "hello-wasip2";
    let mut field = Field::default();
    field.add(NATIVE, NONE, peers::native(context), Load::hello());
    peers::languages(context, &mut field)?;
    field.add(WASMTIME, FRESH, peers::wasmtime(context, guest, &[])?, Load::hello());
    field.add("wasmtime serve, tuned", FRESH, peers::wasmtime(context, guest, peers::TUNED)?, Load::hello());
    field.add(FORNAX, FRESH, peers::fornax(context, &peers::guest(guest), &[]), Load::hello());
    field.measure_with_rate(context)
}
