//! From a start to the first answer, with a thousand apps that were there before.

use crate::bench::measure::{Load, kib, load, progress, start};
use crate::bench::outcome::{Bar, Figure, Outcome, Sample, WRONG};
use crate::bench::peers::{self, FRESH};
use crate::bench::{Context, Scenario, apps};
use crate::work::command;
use std::time::Instant;

const CORES: &str = "fornax, all cores";
const ONE: &str = "fornax, one core";

pub(super) const SCENARIO: Scenario = Scenario {
    name: "restart",
    what: "a start with 1,000 published apps, each compiled before: time until the first answer of any, and what is held then (anonymous and \
           shared memory, the server's own included)",
    figures: &[
        Figure::new("first_ms", "ms to the first answer", 0),
        Figure::new("ready_ms", "ms until it listens", 0),
        Figure::new("kb_per_app", "KB an app", 1),
    ],
    bars: &[
        Bar::at_most("restart with 1,000 apps: ms to the first answer of any", "first_ms", CORES, 250.0),
        Bar::at_most("restart with 1,000 apps: idle memory, KB an app", "kb_per_app", CORES, 64.0),
    ],
    loads: 0.0,
    beside_s: 2.5,
    run,
};

fn run(context: &Context) -> crate::Result<Outcome> {
    let program = peers::fornax(context, &apps::many()?, &[]);
    let rows = [(CORES, FRESH), (ONE, FRESH)];
    let _ = context.plan.serve(&program)?.stop();
    let mut outcome = Outcome::of(&rows);
    for round in 1..=context.plan.rounds {
        let mut samples = Vec::new();
        for (name, _) in rows {
            let began = Instant::now();
            let server = if name == ONE {
                context.plan.serve(&program)?
            } else {
                let mut command = command(&program[0]);
                command.args(&program[1..]);
                start(command)?
            };
            let ready = began.elapsed();
            // Any app: another one in each round.
            let any = format!("/{}", round * 37 % apps::MANY + 1);
            let first =
                load(context, &server, &Load::of(&["--connections", "1", "--requests", "1", "--path", &any]), 10.0, name)?;
            // The load generator's own start is not the server's: what counts is how long the answer took.
            let first_ms = ready.as_secs_f64() * 1e3 + first.max_ms;
            let idle_kib = kib(server.pid(), &["RssAnon", "RssShmem"]);
            samples.push(Sample::from([
                ("first_ms", first_ms),
                ("ready_ms", ready.as_secs_f64() * 1e3),
                ("kb_per_app", idle_kib / apps::MANY as f64),
                (WRONG, first.bad),
            ]));
            let _ = server.stop();
        }
        progress(context, round, &rows, &samples, "first_ms");
        outcome.add(samples);
    }
    Ok(outcome)
}
