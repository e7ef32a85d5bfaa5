//! Interleaved rounds: load on one core, the server on another, CPU time before and after.

use super::peers::Peer;
use crate::server::Server;
use crate::{Result, work};
use serde_json::Value;
use std::fs;
use std::process::Command;

/// How the comparison is done.
pub(super) struct Plan {
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) connections: u32,
    /// Requests a second of the second figure; 0 leaves it out.
    pub(super) rate: f64,
    /// Whether server and load have a core each.
    pub(super) pinned: bool,
}

impl Plan {
    /// A command on this core, where cores can be given.
    pub(super) fn on_core(&self, core: usize, program: &[String]) -> Command {
        let core = core.to_string();
        let pin = ["taskset".to_string(), "-c".to_string(), core];
        let words = if self.pinned { [&pin[..], program].concat() } else { program.to_vec() };
        let mut command = work::command(&words[0]);
        command.args(&words[1..]);
        command
    }
}

pub(super) fn can_pin() -> bool {
    work::installed("taskset") && std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2)
}

/// What one server did in one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    /// Microseconds of user and system time per request.
    pub(super) cpu_us: f64,
    /// The same at the plan's rate; none where the plan has none.
    pub(super) cpu_at_rate_us: Option<f64>,
    pub(super) p99_at_rate_us: Option<f64>,
    pub(super) bad: u64,
}

/// One list per round, with a sample per peer.
pub(super) fn rounds(peers: &[Peer], servers: &[Server], plan: &Plan) -> Result<Vec<Vec<Sample>>> {
    for (peer, server) in peers.iter().zip(servers) {
        load(peer, server, plan, 1.0_f64.min(plan.seconds), None)?;
    }
    let mut rounds = Vec::new();
    for round in 1..=plan.rounds {
        let samples = peers.iter().zip(servers).map(|(peer, server)| sample(peer, server, plan)).collect::<Result<Vec<_>>>()?;
        let words: Vec<String> =
            peers.iter().zip(&samples).map(|(peer, sample)| format!("{} {:.1} µs", peer.name, sample.cpu_us)).collect();
        eprintln!("  round {round}/{}: {}", plan.rounds, words.join(", "));
        rounds.push(samples);
    }
    Ok(rounds)
}

fn sample(peer: &Peer, server: &Server, plan: &Plan) -> Result<Sample> {
    let full = load(peer, server, plan, plan.seconds, None)?;
    let mut sample =
        Sample { requests_per_second: full.ok as f64 / full.seconds, cpu_us: full.cpu_us(), bad: full.bad, ..Sample::default() };
    if plan.rate > 0.0 {
        let paced = load(peer, server, plan, plan.seconds, Some(plan.rate))?;
        sample.cpu_at_rate_us = Some(paced.cpu_us());
        sample.p99_at_rate_us = Some(paced.p99_us);
        sample.bad += paced.bad;
    }
    Ok(sample)
}

/// What the load generator counted, and what the server burned meanwhile.
struct Loaded {
    ok: u64,
    bad: u64,
    seconds: f64,
    p99_us: f64,
    cpu_seconds: f64,
}

impl Loaded {
    fn cpu_us(&self) -> f64 {
        // Wrong answers cost too: leaving them out would make a failing server look dear, not cheap.
        self.cpu_seconds * 1e6 / ((self.ok + self.bad).max(1) as f64)
    }
}

fn load(peer: &Peer, server: &Server, plan: &Plan, seconds: f64, rate: Option<f64>) -> Result<Loaded> {
    let generator = work::target().join("release/bench-load").display().to_string();
    let mut words = vec![generator, server.address.clone()];
    words.extend(["--connections".into(), plan.connections.to_string(), "--seconds".into(), seconds.to_string()]);
    if let Some(rate) = rate {
        words.extend(["--rate".into(), rate.to_string()]);
    }
    if let Some((path, answer)) = peer.ask {
        words.extend(["--path", path, "--answer", answer].map(String::from));
    }
    let before = cpu_seconds(server.pid())?;
    let answer = work::output(&mut plan.on_core(1, &words))?;
    let cpu_seconds = cpu_seconds(server.pid())? - before;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("bench-load: {error}"))?;
    let number = |name: &str| answer[name].as_f64().unwrap_or_default();
    let count = |name: &str| answer[name].as_u64().unwrap_or_default();
    Ok(Loaded { ok: count("ok"), bad: count("bad"), seconds: number("seconds"), p99_us: number("p99_us"), cpu_seconds })
}

/// User and system time of a process, its threads and its children, living and reaped.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let processes: Vec<Stat> = fs::read_dir("/proc")
        .map_err(|error| format!("/proc: {error}; the comparison needs Linux"))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter_map(|pid: u32| stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect();
    let mut family = vec![pid];
    // Children have higher numbers only until numbers wrap: look until nobody is new.
    loop {
        let known = family.len();
        for process in &processes {
            if family.contains(&process.parent) && !family.contains(&process.pid) {
                family.push(process.pid);
            }
        }
        if family.len() == known {
            break;
        }
    }
    let ticks: u64 = processes.iter().filter(|process| family.contains(&process.pid)).map(|process| process.ticks).sum();
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// The kernel's `USER_HZ`, 100 on every architecture Linux runs Fornax on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

/// `/proc/PID/stat`: number, name in brackets that may contain anything, then fields.
fn stat(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime; the state behind the name is field 3.
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Stat { pid: pid.parse().ok()?, parent: fields.get(1)?.parse().ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(stat(line), Some(Stat { pid: 42, parent: 7, ticks: 100 }));
        assert_eq!(stat("nonsense"), None);
    }

    #[test]
    fn our_own_time_passes() {
        let before = cpu_seconds(std::process::id()).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 100 {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds(std::process::id()).unwrap() > before);
    }

    #[test]
    fn commands_are_pinned_where_that_is_possible() {
        let mut plan = Plan { rounds: 1, seconds: 1.0, connections: 1, rate: 0.0, pinned: false };
        let program = ["server".to_string(), "--flag".to_string()];
        assert_eq!(plan.on_core(1, &program).get_program(), "server");
        plan.pinned = true;
        let command = plan.on_core(1, &program);
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(
            (command.get_program().to_str(), words),
            (Some("taskset"), vec!["-c".as_ref(), "1".as_ref(), "server".as_ref(), "--flag".as_ref()])
        );
    }
}
