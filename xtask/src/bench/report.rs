//! The table a person reads and the line that is kept.

use super::machine::Machine;
use super::measure::{Plan, Sample};
use super::peers::WASMTIME;
use crate::{Result, work};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// One guest on every server.
pub(super) struct Section {
    pub(super) guest: &'static str,
    pub(super) what: &'static str,
    /// Names and isolation, in the order of the samples.
    pub(super) peers: Vec<(&'static str, &'static str)>,
    pub(super) rounds: Vec<Vec<Sample>>,
}

impl Section {
    fn median(&self, peer: usize, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round[peer])).collect())
    }

    /// How much more CPU a request of `peer` takes than one of `other`: the median of the rounds' own ratios.
    fn ratio(&self, peer: usize, other: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[peer].cpu_us / round[other].cpu_us).collect())
    }

    /// The same to `wasmtime serve`, where it was there.
    fn ratio_to_wasmtime(&self, peer: usize) -> Option<f64> {
        let wasmtime = self.peers.iter().position(|(name, _)| *name == WASMTIME)?;
        Some(self.ratio(peer, wasmtime))
    }

    fn bad_of(&self, peer: usize) -> u64 {
        self.rounds.iter().map(|round| round[peer].bad).sum()
    }

    pub(super) fn bad(&self) -> u64 {
        (0..self.peers.len()).map(|peer| self.bad_of(peer)).sum()
    }

    /// Its median over the rounds; none where it was not measured.
    fn optional(&self, peer: usize, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        self.rounds
            .iter()
            .all(|round| figure(&round[peer]).is_some())
            .then(|| self.median(peer, |s| figure(s).unwrap_or_default()))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[expect(clippy::print_stdout, reason = "the table is this command's data")]
pub(super) fn print(section: &Section, plan: &Plan) {
    println!("\n{}", table(section, plan));
}

fn table(section: &Section, plan: &Plan) -> String {
    let Plan { rounds, seconds, connections, rate, .. } = plan;
    let pinned = if plan.pinned { "one core" } else { "unpinned" };
    let mut text =
        format!("{} ({}), {rounds} rounds of {seconds} s, {connections} connections, {pinned}\n\n", section.guest, section.what);
    let at_rate = if *rate > 0.0 { format!(" | CPU µs at {rate}/s | p99 ms at {rate}/s") } else { String::new() };
    text.push_str(&format!("| server | isolation | req/s | CPU µs/request | × native | × wasmtime serve{at_rate} | wrong |\n"));
    let columns = if *rate > 0.0 { 7 } else { 5 };
    text.push_str(&format!("| --- | ---{} |\n", " | ---:".repeat(columns)));
    for (peer, (name, isolation)) in section.peers.iter().enumerate() {
        let speed = section.median(peer, |sample| sample.requests_per_second);
        let cpu = section.median(peer, |sample| sample.cpu_us);
        let native = section.ratio(peer, 0);
        let wasmtime = section.ratio_to_wasmtime(peer).map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
        text.push_str(&format!("| {name} | {isolation} | {speed:.0} | {cpu:.1} | {native:.2} | {wasmtime}"));
        if let (Some(cpu), Some(p99)) =
            (section.optional(peer, |sample| sample.cpu_at_rate_us), section.optional(peer, |sample| sample.p99_at_rate_us))
        {
            text.push_str(&format!(" | {cpu:.1} | {:.2}", p99 / 1000.0));
        }
        text.push_str(&format!(" | {} |\n", section.bad_of(peer)));
    }
    text
}

/// Where results are kept.
pub(super) fn file() -> PathBuf {
    work::root().join("bench/results/hello.jsonl")
}

pub(super) fn append(section: &Section, plan: &Plan, machine: &Machine, profile: &str) -> Result<()> {
    keep(&line(section, plan, machine, profile))
}

/// The row without a server: calls a second by the library on one core.
#[expect(clippy::print_stdout, reason = "the figure is this command's data")]
pub(super) fn library(rates: Vec<f64>, plan: &Plan, machine: &Machine, profile: &str) -> Result<()> {
    let rate = median(rates);
    println!("\nplugin-uppercase by the library, a fresh instance a call, one core: {rate:.0} calls/s ({:.2} µs)", 1e6 / rate);
    keep(&json!({
        "date": machine.date,
        "commit": machine.commit,
        "machine": { "cpu": machine.cpu, "cores": machine.cores, "kernel": machine.kernel },
        "profile": profile,
        "guest": "plugin-uppercase by the library",
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "calls_per_second": rounded(rate, 0),
    }))
}

fn keep(line: &Value) -> Result<()> {
    let file = file();
    work::create_dir(file.parent().unwrap_or(&file))?;
    let open = OpenOptions::new().create(true).append(true).open(&file);
    open.and_then(|mut open| writeln!(open, "{line}")).map_err(|error| format!("{}: {error}", file.display()))
}

fn line(section: &Section, plan: &Plan, machine: &Machine, profile: &str) -> Value {
    let servers = section.peers.iter().enumerate().map(|(peer, (name, isolation))| {
        json!({
            "server": name,
            "isolation": isolation,
            "requests_per_second": rounded(section.median(peer, |sample| sample.requests_per_second), 0),
            "cpu_us": rounded(section.median(peer, |sample| sample.cpu_us), 2),
            "to_native": rounded(section.ratio(peer, 0), 3),
            "to_wasmtime_serve": section.ratio_to_wasmtime(peer).map(|ratio| rounded(ratio, 3)),
            "cpu_us_at_rate": section.optional(peer, |sample| sample.cpu_at_rate_us).map(|value| rounded(value, 2)),
            "p99_us_at_rate": section.optional(peer, |sample| sample.p99_at_rate_us).map(|value| rounded(value, 0)),
            "wrong": section.bad_of(peer),
        })
    });
    let servers: Vec<Value> = servers.collect();
    json!({
        "date": machine.date,
        "commit": machine.commit,
        "machine": { "cpu": machine.cpu, "cores": machine.cores, "kernel": machine.kernel },
        "profile": profile,
        "guest": section.guest,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "connections": plan.connections,
        "rate": plan.rate,
        "pinned": plan.pinned,
        "servers": servers,
    })
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(rate: bool) -> Section {
        let sample = |cpu_us: f64| Sample {
            requests_per_second: 1e5 / cpu_us,
            cpu_us,
            cpu_at_rate_us: rate.then_some(cpu_us * 2.0),
            p99_at_rate_us: rate.then_some(1500.0),
            bad: 0,
        };
        let round = |a, b, c| vec![sample(a), sample(b), sample(c)];
        Section {
            guest: "hello",
            what: "lean",
            peers: vec![("native", "none"), ("wasmtime serve", "fresh"), ("fornax", "fresh")],
            rounds: vec![round(5.0, 50.0, 10.0), round(10.0, 100.0, 40.0), round(6.0, 60.0, 12.0)],
        }
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        assert_eq!(section(false).ratio(2, 0), 2.0);
        assert_eq!(section(false).ratio(2, 1), 0.2);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn the_table_and_the_line() {
        let mut plan = Plan { rounds: 3, seconds: 1.0, connections: 32, rate: 0.0, pinned: true };
        let plain = table(&section(false), &plan);
        assert!(plain.ends_with("| fornax | fresh | 8333 | 12.0 | 2.00 | 0.200 | 0 |\n"), "{plain}");
        plan.rate = 5000.0;
        let paced = table(&section(true), &plan);
        assert!(paced.ends_with("| fornax | fresh | 8333 | 12.0 | 2.00 | 0.200 | 24.0 | 1.50 | 0 |\n"), "{paced}");
        let line = line(&section(true), &plan, &Machine::default(), "release");
        assert_eq!(line["servers"][2]["to_wasmtime_serve"], 0.2);
        assert_eq!(line["servers"][2]["cpu_us_at_rate"], 24.0);
    }
}
