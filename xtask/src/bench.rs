//! `cargo xtask bench`: what a call costs, beside what others pay for it, in one interleaved run.
//!
//! Absolute numbers belong to a machine and a minute; ratios within one run travel. So every round asks each server in turn, a ratio is
//! made per round, and medians are reported. CPU time of the server per request is the figure to judge by: it does not depend on how fast
//! the load generator is, and it is what a fleet pays for.

mod machine;
mod measure;
mod peers;
mod report;

use crate::args::Args;
use crate::work::{self, Steps};
use crate::{Command, Result, demo, guests};
use measure::Plan;
use peers::Peer;
use report::Section;
use std::path::PathBuf;

pub(crate) const COMMAND: Command = Command {
    name: "bench",
    summary: "compare with native hyper and `wasmtime serve`",
    help: "
Usage: cargo xtask bench [--guest NAME] [--rounds N] [--seconds S] [--connections N] [--rate R] [--profile NAME]

Runs native hyper, `wasmtime serve` where it can, and Fornax with the same guest, each in turn, round after round, and prints CPU time per
request, medians, and ratios to the other two. The server is pinned to core 0, the load to core 1. The first run installs wasmtime-cli
into <target>/tools, which takes about ten minutes. Every result is appended to bench/results/hello.jsonl.

  --guest NAME       only this row; default all: hello-wasip2 (lean), hello-wstd (ordinary), hello-wasip3 (WASI 0.3), json-command and
                     ignis-json (preview 1 commands in Rust and Go), plugin-uppercase, chain (three plugins), and library: the plugin
                     called by a program that embeds Fornax
  --rounds N         default 10
  --seconds S        of load per server and round, default 3
  --connections N    kept alive, default 32
  --rate R           requests a second of the second figure, equal for all; default 5000, 0 leaves it out
  --profile NAME     cargo profile of Fornax, default dist, which is what `cargo xtask dist` makes and takes ten minutes to build the first
                     time; `release` builds faster and runs slower",
    run,
};

/// A row of the comparison.
struct Guest {
    name: &'static str,
    /// What it stands for.
    what: &'static str,
    /// What `wasmtime serve` needs to run it, and to run it the way we do; as little as possible, so that its default is what is measured.
    /// None for what only Fornax serves.
    wasmtime: Option<&'static [&'static str]>,
    /// What Fornax needs to serve it.
    fornax: &'static [&'static str],
    /// What is asked for, and how the right answer begins; the hello for what all servers answer.
    ask: Option<(&'static str, &'static str)>,
}

impl Guest {
    const fn hello(name: &'static str, what: &'static str, wasmtime: &'static [&'static str]) -> Self {
        Self { name, what, wasmtime: Some(wasmtime), fornax: &[], ask: None }
    }

    const fn ours(
        name: &'static str,
        what: &'static str,
        fornax: &'static [&'static str],
        path: &'static str,
        answer: &'static str,
    ) -> Self {
        Self { name, what, wasmtime: None, fornax, ask: Some((path, answer)) }
    }

    /// What servers are given: the guest, or an app that is written down for it.
    fn file(&self) -> Result<PathBuf> {
        if self.name != CHAIN {
            return Ok(guests::directory().join(format!("{}.wasm", self.name)));
        }
        let file = work::target().join("bench-chain.toml");
        let module = |name: &str| format!("[[module]]\nname = \"{name}\"\nsource = \"guests/plugin-{name}.wasm\"\n");
        // What the last writes is the answer: the reverser also writes what it was given, which differs from call to call.
        let names = ["rot13", "reverser", "uppercase"];
        let route = format!("[[route]]\npath = \"/\"\nchain = {names:?}\n");
        let text: String = names.iter().map(|name| module(name)).chain([route]).collect();
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(file)
    }
}

/// The row that is an app of three plugins.
const CHAIN: &str = "chain";

const GUESTS: &[Guest] = &[
    Guest::hello("hello-wasip2", "lean, WASI 0.2", &[]),
    Guest::hello("hello-wstd", "ordinary (std, wstd), WASI 0.2", &["-Scli"]),
    // It keeps instances of WASI 0.3 for the next 128 requests unless it is told not to.
    Guest::hello(
        "hello-wasip3",
        "WASI 0.3",
        &["-Scli", "-Sp3", "-Wcomponent-model-async", "--max-instance-reuse-count=1", "--max-instance-concurrent-reuse-count=1"],
    ),
    Guest::ours(
        "json-command",
        "preview 1 command in Rust, JSON in and out",
        &["--codec", "wasio"],
        "/?name=Ada",
        "{\"message\":\"Hello, Ada!\"",
    ),
    Guest::ours(
        "ignis-json",
        "preview 1 command in Go, protobuf in and out",
        &["--codec", "ignis"],
        "/",
        "{\n  \"method\": \"GET\"",
    ),
    Guest::ours("plugin-uppercase", "`process` plugin", &[], "/?input=hello", "Result = HELLO"),
    Guest::ours(CHAIN, "three plugins in sequence", &[], "/?input=hello", "Result = BYYRU"),
];

fn run(args: &[String]) -> Result<()> {
    let args = Args::parse_whole(args, &[], &["--guest", "--rounds", "--seconds", "--connections", "--rate", "--profile"])?;
    let plan = Plan {
        rounds: args.number("--rounds", 10)?,
        seconds: args.number("--seconds", 3.0)?,
        connections: args.number("--connections", 32)?,
        rate: args.number("--rate", 5000.0)?,
        pinned: measure::can_pin(),
    };
    let profile = args.text("--profile").unwrap_or("dist");
    let wanted = args.text("--guest");
    let chosen: Vec<_> = GUESTS.iter().filter(|guest| wanted.is_none_or(|wanted| wanted == guest.name)).collect();
    if chosen.is_empty() && wanted != Some(LIBRARY) {
        return Err(format!("no such guest to compare: {}", wanted.unwrap_or_default()));
    }
    let library = wanted.is_none_or(|wanted| wanted == LIBRARY);
    let mut steps = Steps::new(4 + chosen.len() + usize::from(library));
    guests::build(&mut steps)?;
    let fornax = steps.step("fornax and the load generator", || {
        work::run(work::cargo(["build", "--release", "-p", "bench"]).args(work::locked()))?;
        demo::build(profile)
    })?;
    let wasmtime = steps.step("wasmtime-cli", wasmtime)?;
    let machine = machine::Machine::look();
    eprintln!("{machine}");
    if !plan.pinned {
        eprintln!("NOTE: nothing is pinned (no `taskset`, or one core): expect noise");
    }
    let mut bad = 0;
    for guest in chosen {
        let peers = peers::all(&fornax, &wasmtime, &guest.file()?, guest);
        let section = steps.step(&format!("{}: {}", guest.name, guest.what), || section(guest, &peers, &plan))?;
        bad += section.bad();
        report::print(&section, &plan);
        report::append(&section, &plan, &machine, profile)?;
    }
    if library {
        steps.step("plugin-uppercase by the library", || by_library(&plan, &machine, profile))?;
    }
    eprintln!("appended to {}", report::file().display());
    if bad > 0 { Err(format!("{bad} answers were wrong; the table says whose")) } else { Ok(()) }
}

/// The row that no server is part of: a plugin called by a program that embeds Fornax, on one core.
const LIBRARY: &str = "library";

fn by_library(plan: &Plan, machine: &machine::Machine, profile: &str) -> Result<()> {
    work::run(work::cargo(["build", "--profile", profile, "-p", "fornax", "--example", "execute"]).args(work::locked()))?;
    let program = demo::program(profile).with_file_name("examples").join("execute").display().to_string();
    let plugin = guests::directory().join("plugin-uppercase.wasm").display().to_string();
    let mut rates = Vec::new();
    for round in 1..=plan.rounds {
        let words = [program.clone(), plugin.clone(), plan.seconds.to_string()];
        let printed = work::output(&mut plan.on_core(0, &words))?;
        let rate: f64 = printed.trim().parse().map_err(|_| format!("execute printed {printed:?}"))?;
        eprintln!("  round {round}/{}: {rate:.0} calls/s", plan.rounds);
        rates.push(rate);
    }
    report::library(rates, plan, machine, profile)
}

fn section(guest: &Guest, peers: &[Peer], plan: &Plan) -> Result<Section> {
    let servers = peers.iter().map(|peer| peer.start(plan)).collect::<Result<Vec<_>>>()?;
    let rounds = measure::rounds(peers, &servers, plan)?;
    for server in servers {
        // How it ends is not what is measured here; what matters is that it is gone.
        let _ = server.stop();
    }
    let names = peers.iter().map(|peer| (peer.name, peer.isolation)).collect();
    Ok(Section { guest: guest.name, what: guest.what, peers: names, rounds })
}

/// `wasmtime` of the generation Fornax is built on, installed when it is not there.
fn wasmtime() -> Result<PathBuf> {
    let tools = work::target().join("tools");
    let program = tools.join("bin/wasmtime");
    if program.is_file() && work::output(work::command(&program).arg("--version"))?.starts_with("wasmtime 48.") {
        return Ok(program);
    }
    eprintln!("installing wasmtime-cli 48 into {}: about ten minutes, once", tools.display());
    let build = work::target().join("tools-build");
    let mut install = work::cargo(["install", "--locked", "--version", "^48", "--force", "wasmtime-cli", "--root"]);
    work::run(install.arg(&tools).env("CARGO_TARGET_DIR", &build))?;
    // Gigabytes that nothing needs again.
    std::fs::remove_dir_all(&build).map_err(|error| format!("{}: {error}", build.display()))?;
    Ok(program)
}
