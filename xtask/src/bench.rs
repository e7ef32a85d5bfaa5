//! `cargo xtask bench`: what calls cost and what the server holds, beside what others pay for it, in interleaved rounds.
//!
//! Absolute numbers belong to a machine and a minute; ratios within one run travel. So every round asks each server in turn, a ratio is
//! made per round, and medians are reported. CPU time of the server per request is the figure to judge by: it does not depend on how fast
//! the load generator is, and it is what a fleet pays for. A scenario is a file in `scenarios/` and a row of its table; what it must
//! reach is data in the file, so that no verdict is written by hand.

mod apps;
mod machine;
mod measure;
mod outcome;
mod peers;
mod plot;
mod report;
mod results;
mod scenarios;
mod tools;

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result, guests};
use outcome::{Bar, Figure, Outcome};
use scenarios::SCENARIOS;
use tools::Tools;

pub(crate) const COMMAND: Command = Command {
    name: "bench",
    summary: "measure every scenario, beside native hyper and `wasmtime serve`",
    help: "
Usage: cargo xtask bench [--list] [--scenario NAME,…] [--quick] [--rounds N] [--seconds S] [--connections N] [--rate R] [--profile NAME]
       cargo xtask bench --report

Runs scenario after scenario: each server in turn, round after round, the server on core 0, the load on core 1, over loopback. Prints a
table of medians for each, and appends it to bench/results/<scenario>.jsonl; at the end docs/benchmarks.md, bench/results/bars.md and
a picture of each scenario are written anew from the last result of each. A scenario that fails says why, and the others go on. The
first run installs wasmtime-cli into <target>/tools, which takes about ten minutes; Node and Go are compared where they are installed.

  --list             the scenarios, and how long each takes
  --scenario NAME,…  only these; default all
  --quick            two rounds of half a second with the release profile, to try things out; results go to <target>/bench/results and
                     change nothing in the repository
  --rounds N         default 10
  --seconds S        of load per server and round, default 3
  --connections N    kept alive, default 32
  --rate R           requests a second of the figures at one equal rate, default 5000; 0 leaves them out
  --profile NAME     cargo profile of Fornax, default dist, which is what `cargo xtask dist` makes and takes ten minutes to build the first
                     time; `release` builds faster and runs slower
  --report           only writes pages and pictures anew",
    run,
};

/// How measuring is done.
#[derive(Clone, Debug)]
struct Plan {
    rounds: usize,
    seconds: f64,
    connections: u32,
    /// Requests a second of the figures at one rate; 0 leaves them out.
    rate: f64,
    /// Whether server and load have a core each.
    pinned: bool,
    profile: String,
    quick: bool,
}

impl Plan {
    fn new(args: &Args) -> Result<Self> {
        let quick = args.has("--quick");
        let plan = Self {
            rounds: args.number("--rounds", if quick { 2 } else { 10 })?,
            seconds: args.number("--seconds", if quick { 0.5 } else { 3.0 })?,
            connections: args.number("--connections", 32)?,
            rate: args.number("--rate", 5000.0)?,
            pinned: measure::can_pin(),
            profile: args.text("--profile").unwrap_or(if quick { "release" } else { "dist" }).to_string(),
            quick,
        };
        // Less than a tenth of a second is a few ticks of the kernel's accounting.
        let is_sound = plan.rounds > 0 && plan.connections > 0 && (0.1..=600.0).contains(&plan.seconds) && plan.rate >= 0.0;
        if is_sound {
            Ok(plan)
        } else {
            Err("--rounds and --connections are at least 1, --seconds is 0.1 to 600, --rate is not negative".into())
        }
    }
}

/// What a scenario works with.
struct Context {
    plan: Plan,
    tools: Tools,
}

/// One thing that is measured.
struct Scenario {
    name: &'static str,
    /// What it stands for: the rest of the line that begins with its name.
    what: &'static str,
    /// The columns of its table; the picture is of the first.
    figures: &'static [Figure],
    /// What it must reach.
    bars: &'static [Bar],
    /// Loads of `--seconds` in a round, for the estimate.
    loads: f64,
    /// Seconds of a round beside them, for the estimate.
    beside_s: f64,
    run: fn(&Context) -> Result<Outcome>,
}

impl Scenario {
    fn seconds(&self, plan: &Plan) -> f64 {
        // A warm-up of a second and the start of each server come once.
        (self.loads * plan.seconds + self.beside_s) * plan.rounds as f64 + 2.0 * self.loads
    }
}

fn run(args: &[String]) -> Result<()> {
    let switches = ["--list", "--quick", "--report"];
    let values = ["--scenario", "--rounds", "--seconds", "--connections", "--rate", "--profile"];
    let args = Args::parse_whole(args, &switches, &values)?;
    let plan = Plan::new(&args)?;
    let chosen = choose(args.text("--scenario"))?;
    if args.has("--list") {
        list(&plan);
        return Ok(());
    }
    if args.has("--report") {
        return report::write(&results::folder(false), &work::root().join("docs/benchmarks.md"));
    }
    let mut steps = Steps::new(3 + chosen.len());
    guests::build(&mut steps)?;
    let tools = steps.step("fornax and the load generator", || Tools::build(&plan.profile))?;
    let context = Context { plan, tools };
    let machine = machine::Machine::look();
    eprintln!("{machine}");
    if !context.plan.pinned {
        eprintln!("NOTE: nothing is pinned (no `taskset`, or one core): expect noise");
    }
    let seconds: f64 = chosen.iter().map(|scenario| scenario.seconds(&context.plan)).sum();
    eprintln!("{} scenarios, about {:.0} minutes", chosen.len(), (seconds / 60.0).ceil());
    let mut failures = Vec::new();
    for scenario in &chosen {
        let result = steps.step(scenario.name, || measured(scenario, &context, &machine));
        failures.extend(result.inspect_err(|error| eprintln!("FAILED: {error}")).err());
    }
    let folder = results::folder(context.plan.quick);
    let page = if context.plan.quick { folder.join("benchmarks.md") } else { work::root().join("docs/benchmarks.md") };
    report::write(&folder, &page)?;
    eprintln!("results in {}, {:.0} s", folder.display(), steps.seconds());
    // What they said in full is above.
    let lines: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().next()).collect();
    if lines.is_empty() { Ok(()) } else { Err(format!("{} failed:\n  {}", lines.len(), lines.join("\n  "))) }
}

/// Measures one scenario, keeps and shows what came of it; an error where answers of ours were wrong.
#[expect(clippy::print_stdout, reason = "the table is this command's data")]
fn measured(scenario: &Scenario, context: &Context, machine: &machine::Machine) -> Result<()> {
    let mut outcome = (scenario.run)(context)?;
    outcome.notes.extend(outcome.disturbed());
    results::append(scenario, &outcome, &context.plan, machine)?;
    println!("\n{}", report::table(scenario, &outcome));
    for bar in scenario.bars {
        println!("{}", bar.judge(scenario.figures, &outcome).line(bar));
    }
    println!();
    match outcome.wrong_of(peers::FORNAX) {
        0 => Ok(()),
        count => Err(format!("{count} answers of Fornax were wrong")),
    }
}

fn choose(wanted: Option<&str>) -> Result<Vec<&'static Scenario>> {
    let Some(wanted) = wanted else { return Ok(SCENARIOS.iter().collect()) };
    let find = |name: &str| {
        SCENARIOS
            .iter()
            .find(|scenario| scenario.name == name)
            .ok_or_else(|| format!("there is no scenario `{name}`; --list shows what there is"))
    };
    wanted.split(',').map(find).collect()
}

#[expect(clippy::print_stdout, reason = "the list is this command's data")]
fn list(plan: &Plan) {
    for Scenario { name, what, .. } in SCENARIOS {
        println!("  {name:<18} {what}");
    }
    let seconds: f64 = SCENARIOS.iter().map(|scenario| scenario.seconds(plan)).sum();
    println!("\n{} scenarios, about {:.0} minutes", SCENARIOS.len(), (seconds / 60.0).ceil());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_columns_are_there_once() {
        let names: BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        for scenario in SCENARIOS {
            assert!(!scenario.figures.is_empty(), "{}", scenario.name);
            for bar in scenario.bars {
                let known = scenario.figures.iter().any(|figure| figure.key == bar.figure);
                assert!(known, "{}: a bar of {}, which is no column", scenario.name, bar.figure);
            }
        }
    }

    #[test]
    fn scenarios_are_chosen_by_name() {
        assert_eq!(choose(None).unwrap().len(), SCENARIOS.len());
        let names: Vec<_> = choose(Some("zipf,restart")).unwrap().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, ["zipf", "restart"]);
        assert!(choose(Some("zpf")).err().unwrap().contains("zpf"));
    }

    #[test]
    fn a_plan_that_measures_nothing_is_refused() {
        let plan = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            Plan::new(&Args::parse_whole(&args, &["--quick"], &["--rounds", "--seconds", "--rate"]).unwrap())
        };
        assert!(plan("--rounds 0").is_err() && plan("--seconds 0").is_err() && plan("--rate -1").is_err());
        assert_eq!((plan("").unwrap().profile, plan("--quick").unwrap().profile), ("dist".into(), "release".into()));
    }
}
