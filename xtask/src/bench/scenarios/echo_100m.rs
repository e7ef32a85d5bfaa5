//! A body that nobody should hold.

use super::{BUSY, CPU, PEAK};
use crate::bench::measure::Load;
use crate::bench::outcome::{Bar, Figure, Outcome};
use crate::bench::peers::{self, FORNAX, FRESH, NATIVE, NONE, WASMTIME};
use crate::bench::{Context, Scenario, apps};

const SMALL: &str = "fornax, bodies of 1 MB";

const MB: u64 = 1_000_000;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "echo-100m",
    what: "a body of 100 MB comes back, one at a time, streamed through a guest of WASI 0.2",
    figures: &[Figure::new("mb_cpu_s", "MB each way a CPU second", 0), Figure::new("mb_s", "MB/s", 0), PEAK, CPU, BUSY],
    bars: &[
        // By what a core of the server can do: the time on the clock is that of the load generator, too, which compares every byte.
        Bar::ratio("100 MB body echoed: throughput a core of native hyper", "mb_cpu_s", FORNAX, 0.6, NATIVE).at_least(),
        // A tenth of the body may be on the way; a server that held it would hold all of it.
        Bar::ratio("100 MB body echoed: memory is that of bodies of 1 MB, and 10 MB", "peak_mb", FORNAX, 1.0, SMALL).and(10.0),
    ],
    loads: 4.0,
    beside_s: 1.0,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let limits = "limits = { body = \"128MiB\", cpu = \"30s\", wall = \"1m\" }";
    let text = apps::module("echo", "echo", limits) + &apps::route("/*", "module = \"echo\"");
    let app = apps::write("echo", &text)?;
    let load = |bytes: u64| {
        let load = Load::of(&["--path", "/echo", "--field", "x-length: 1", "--connections", "1"]);
        load.with("--body", bytes)
    };
    let mut field = crate::bench::measure::Field::default();
    field.add(NATIVE, NONE, peers::native(context), load(100 * MB));
    field.add(WASMTIME, FRESH, peers::wasmtime(context, "echo", &["-Scli"])?, load(100 * MB));
    field.add(FORNAX, FRESH, peers::fornax(context, &app, &[]), load(100 * MB));
    // On a server of its own, which has seen nothing larger.
    field.add(SMALL, FRESH, peers::fornax(context, &app, &[]), load(MB));
    let mut outcome = field.measure(context)?;
    for row in &mut outcome.rows {
        let mb = if row.name == SMALL { 1.0 } else { 100.0 };
        let speeds = row.rounds("rps").iter().map(|rps| rps * mb).collect();
        let by_core = row.rounds("cpu_us").iter().map(|us| mb * 1e6 / us).collect();
        row.figures.insert("mb_s".into(), speeds);
        row.figures.insert("mb_cpu_s".into(), by_core);
    }
    Ok(outcome)
}
