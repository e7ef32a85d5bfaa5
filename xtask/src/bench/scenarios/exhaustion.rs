//! More calls than the pool has places.

use super::{CPU, P99};
use crate::bench::measure::{Field, Load};
use crate::bench::outcome::{Bar, Figure, Outcome};
use crate::bench::peers::{self, FRESH};
use crate::bench::{Context, Scenario, apps};
use crate::work::{self, command};
use serde_json::Value;

const WITHIN: &str = "fornax, half as many";
const BEYOND: &str = "fornax, more than there are places";

pub(super) const SCENARIO: Scenario = Scenario {
    name: "exhaustion",
    what: "calls that sleep half a second, from half as many clients as the pool has places and from 2,000 more than it has: who finds none \
           waits or is refused with 503, and those within are served as before",
    figures: &[Figure::new("rps", "answered a second", 0), Figure::new("refused_s", "refused a second", 0), P99, CPU],
    // At least as many as with a half-full pool: overload may refuse, it may not stop the server.
    bars: &[Bar::ratio("a pool without a free place: answers of one that is half full", "rps", BEYOND, 1.0, WITHIN).at_least()],
    loads: 2.0,
    beside_s: 2.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let doctor = work::output(command(&context.tools.fornax).args(["doctor", "--json"]))?;
    let doctor: Value = serde_json::from_str(&doctor).map_err(|error| format!("fornax doctor --json: {error}"))?;
    let calls = doctor["pool"]["calls"].as_u64().ok_or("`fornax doctor --json` says no `pool.calls`")?;
    let text = "[tenant.crowd]\nin_flight = 1000000\n".to_string()
        + &apps::module("slow", "slow", "tenant = \"crowd\"")
        + &apps::route("/*", "tenant = \"crowd\"\nmodule = \"slow\"");
    let app = apps::write("exhaustion", &text)?;
    let load = Load::of(&["--path", "/?ms=500", "--answer", "slept", "--refused", "503"]);
    let mut field = Field::default();
    field.add(WITHIN, FRESH, peers::fornax(context, &app, &[]), load.with("--connections", calls / 2));
    field.again(BEYOND, FRESH, load.with("--connections", calls + 2000));
    field.notes.push(format!("The pool has {calls} places"));
    field.measure(context)
}
