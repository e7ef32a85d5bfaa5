//! A thousand apps, of which some are hot and many are rare.

use super::FAST;
use crate::bench::measure::{Field, Load};
use crate::bench::outcome::{Bar, Outcome};
use crate::bench::peers::{self, FRESH};
use crate::bench::{Context, Scenario, apps};

const HOT: &str = "fornax, one hot app";
const SPREAD: &str = "fornax, 1,000 apps";

pub(super) const SCENARIO: Scenario = Scenario {
    name: "zipf",
    what: "1,000 apps of distinct bytes on one server: requests for one of them, and spread over all by Zipf's law (exponent 1)",
    figures: FAST,
    bars: &[Bar::ratio("1,000 apps, requests spread Zipf: CPU of one hot app", "cpu_us", SPREAD, 1.6, HOT)],
    loads: 2.0,
    beside_s: 0.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let mut field = Field::default();
    field.add(HOT, FRESH, peers::fornax(context, &apps::many()?, &[]), Load::of(&["--path", "/1"]));
    field.again(SPREAD, FRESH, Load::of(&["--path", "/{}"]).with("--zipf", apps::MANY));
    field.measure(context)
}
