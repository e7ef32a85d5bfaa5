//! Interleaved rounds: load on one core, the server on another, CPU time and memory before and after.

use super::outcome::{OTHERS, Outcome, Sample, WRONG};
use super::peers::Words;
use super::{Context, Plan};
use crate::server::Server;
use crate::{Result, work};
use serde_json::Value;
use std::fs;
use std::process::Command;

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

    /// A server on its core.
    pub(super) fn serve(&self, program: &[String]) -> Result<Server> {
        start(self.on_core(0, program))
    }
}

/// A server that may be anywhere.
pub(super) fn start(mut command: Command) -> Result<Server> {
    // wasmtime pays for backtraces at every error it makes, ours is built without: unset for everybody.
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
    Server::start(&mut command, "http://")
}

pub(super) fn can_pin() -> bool {
    work::installed("taskset") && std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2)
}

/// What a server is asked: flags of `bench-load`.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    flags: Vec<String>,
}

impl Load {
    /// `/`, answered by the hello.
    pub(super) fn hello() -> Self {
        Self::default()
    }

    pub(super) fn of(flags: &[&str]) -> Self {
        Self { flags: flags.iter().map(ToString::to_string).collect() }
    }

    pub(super) fn with(&self, flag: &str, value: impl ToString) -> Self {
        let mut flags = self.flags.clone();
        flags.extend([flag.to_string(), value.to_string()]);
        Self { flags }
    }

    fn command(&self, context: &Context, address: &str, seconds: f64) -> Command {
        let plan = &context.plan;
        let mut words = vec![context.tools.load.display().to_string(), address.to_string()];
        // What the scenario says comes later, and wins.
        words.extend(["--connections".into(), plan.connections.to_string(), "--seconds".into(), seconds.to_string()]);
        words.extend(self.flags.clone());
        plan.on_core(1, &words)
    }

    /// Starts it beside another load; the caller ends it.
    pub(super) fn beside(&self, context: &Context, address: &str, seconds: f64) -> Result<Noise> {
        let mut command = self.command(context, address, seconds);
        let child = command.stdout(std::process::Stdio::null()).spawn();
        Ok(Noise(child.map_err(|error| work::could_not_start(&command, &error))?))
    }
}

/// A load whose answers nobody counts; dropped, it ends, and its connections with it.
pub(super) struct Noise(std::process::Child);

impl Drop for Noise {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who is asked what: servers, and rows that ask one of them.
#[derive(Default)]
pub(super) struct Field {
    servers: Vec<Words>,
    rows: Vec<FieldRow>,
    pub(super) notes: Vec<String>,
}

struct FieldRow {
    name: &'static str,
    isolation: &'static str,
    server: usize,
    load: Load,
}

impl Field {
    /// A row with a server of its own.
    pub(super) fn add(&mut self, name: &'static str, isolation: &'static str, server: Words, load: Load) {
        self.servers.push(server);
        self.again(name, isolation, load);
    }

    /// A row that asks the server of the row before.
    pub(super) fn again(&mut self, name: &'static str, isolation: &'static str, load: Load) {
        self.rows.push(FieldRow { name, isolation, server: self.servers.len().saturating_sub(1), load });
    }

    /// Each row in turn, round after round, as fast as it goes.
    pub(super) fn measure(self, context: &Context) -> Result<Outcome> {
        self.rounds(context, 0.0)
    }

    /// The same, and each row once more at the plan's rate.
    pub(super) fn measure_with_rate(self, context: &Context) -> Result<Outcome> {
        self.rounds(context, context.plan.rate)
    }

    fn rounds(self, context: &Context, rate: f64) -> Result<Outcome> {
        let Plan { rounds, seconds, .. } = context.plan;
        let servers = self.servers.iter().map(|words| context.plan.serve(words)).collect::<Result<Vec<_>>>()?;
        for row in &self.rows {
            load(context, &servers[row.server], &row.load, seconds.min(1.0), "warming up")?;
        }
        let names: Vec<_> = self.rows.iter().map(|row| (row.name, row.isolation)).collect();
        let mut outcome = Outcome { notes: self.notes, ..Outcome::of(&names) };
        for round in 1..=rounds {
            let mut samples = Vec::new();
            for row in &self.rows {
                let server = &servers[row.server];
                let mut sample = load(context, server, &row.load, seconds, row.name)?.sample();
                if rate > 0.0 {
                    let paced = load(context, server, &row.load.with("--rate", rate), seconds, row.name)?;
                    sample.extend([
                        ("cpu_at_rate_us", paced.cpu_us()),
                        ("p50_at_rate_ms", paced.p50_ms),
                        ("p99_at_rate_ms", paced.p99_ms),
                    ]);
                    *sample.entry(WRONG).or_default() += paced.bad;
                }
                samples.push(sample);
            }
            progress(context, round, &names, &samples, "cpu_us");
            outcome.add(samples);
        }
        for server in servers {
            // How it ends is not what is measured here; what matters is that it is gone.
            let _ = server.stop();
        }
        Ok(outcome)
    }
}

/// One figure of each row of a round.
pub(super) fn progress(context: &Context, round: usize, rows: &[(&str, &str)], samples: &[Sample], key: &str) {
    let figure =
        |((name, _), sample): (&(&str, &str), &Sample)| format!("{name} {:.1}", sample.get(key).copied().unwrap_or(f64::NAN));
    let words: Vec<String> = rows.iter().zip(samples).map(figure).collect();
    eprintln!("  round {round}/{}: {key}: {}", context.plan.rounds, words.join(", "));
}

/// What the load generator counted, and what the server burned and held meanwhile.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) ok: f64,
    pub(super) refused: f64,
    pub(super) left: f64,
    pub(super) bad: f64,
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// How much of its core the load generator used.
    pub(super) busy: f64,
    /// How much of a core all else on the machine used.
    pub(super) others: f64,
    pub(super) cpu_seconds: f64,
    /// The most that was resident, since the load began.
    pub(super) peak_mb: f64,
}

impl Loaded {
    pub(super) fn cpu_us(&self) -> f64 {
        // Answers that were wrong or no cost too: leaving them out would make a failing server look dear, not cheap.
        self.cpu_seconds * 1e6 / (self.ok + self.refused + self.left + self.bad).max(1.0)
    }

    pub(super) fn sample(&self) -> Sample {
        Sample::from([
            ("rps", self.ok / self.seconds),
            ("cpu_us", self.cpu_us()),
            ("p50_ms", self.p50_ms),
            ("p99_ms", self.p99_ms),
            ("max_ms", self.max_ms),
            ("busy", self.busy),
            ("server_busy", self.cpu_seconds / self.seconds),
            (OTHERS, self.others),
            ("peak_mb", self.peak_mb),
            ("refused_s", self.refused / self.seconds),
            ("left_s", self.left / self.seconds),
            ("elapsed_s", self.seconds),
            (WRONG, self.bad),
        ])
    }
}

/// Loads a server once. `who` is named where answers are wrong.
pub(super) fn load(context: &Context, server: &Server, load: &Load, seconds: f64, who: &str) -> Result<Loaded> {
    let pid = server.pid();
    // 5 forgets the peak; where that is not allowed it is that of the whole run.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    let (all_before, before) = (machine_seconds(), cpu_seconds(pid)?);
    let answer = work::output(&mut load.command(context, &server.address, seconds));
    let answer = answer.map_err(|error| format!("{who}: {error}\n{}", server.said()))?;
    let cpu_seconds = cpu_seconds(pid)? - before;
    let all_seconds = machine_seconds() - all_before;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("bench-load: {error}"))?;
    let number = |name: &str| answer[name].as_f64().unwrap_or_default();
    if let Some(first) = answer["first_bad"].as_str() {
        eprintln!("  {who}: {} wrong answers, the first: {first}", number("bad"));
    }
    Ok(Loaded {
        ok: number("ok"),
        refused: number("refused"),
        left: number("left"),
        bad: number("bad"),
        seconds: number("seconds"),
        p50_ms: number("p50_us") / 1000.0,
        p99_ms: number("p99_us") / 1000.0,
        max_ms: number("max_us") / 1000.0,
        busy: number("busy"),
        others: (all_seconds - cpu_seconds) / number("seconds") - number("busy"),
        cpu_seconds,
        peak_mb: kib(pid, &["VmHWM"]) / 1024.0,
    })
}

/// Sum of fields of `/proc/PID/status`, in KiB.
pub(super) fn kib(pid: u32, fields: &[&str]) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status_kib(&status, fields)
}

fn status_kib(status: &str, fields: &[&str]) -> f64 {
    let value = |line: &str| -> Option<f64> {
        let (name, rest) = line.split_once(':')?;
        fields.contains(&name).then(|| rest.trim().strip_suffix(" kB")?.trim().parse().ok())?
    };
    status.lines().filter_map(value).sum()
}

/// Time that all cores together were not idle, since the machine started; 0 where that is not said.
fn machine_seconds() -> f64 {
    fs::read_to_string("/proc/stat").map_or(0.0, |text| busy_ticks(&text) as f64 / TICKS_PER_SECOND)
}

/// Of the first line of `/proc/stat`: user, nice and system time, and that of interrupts. Idle time and waiting for disks are no work.
fn busy_ticks(stat: &str) -> u64 {
    let fields = stat.lines().next().and_then(|line| line.strip_prefix("cpu")).unwrap_or_default().split_whitespace();
    fields
        .take(7)
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4))
        .filter_map(|(_, field)| field.parse::<u64>().ok())
        .sum()
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
    fn idle_time_is_no_work() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 0 0\ncpu0 1 1 1 1 1 1 1 1\n"), 31);
        assert_eq!(busy_ticks(""), 0);
    }

    #[test]
    fn memory_is_read_by_field() {
        let status = "Name:\tx\nVmHWM:\t   2048 kB\nRssAnon:\t     100 kB\nRssFile:\t  7 kB\nRssShmem:\t      20 kB\n";
        assert_eq!(status_kib(status, &["RssAnon", "RssShmem"]), 120.0);
        assert_eq!(status_kib(status, &["VmHWM"]), 2048.0);
        assert!(kib(std::process::id(), &["VmHWM"]) > 0.0);
    }

    #[test]
    fn commands_are_pinned_where_that_is_possible() {
        let mut plan =
            Plan { rounds: 1, seconds: 1.0, connections: 1, rate: 0.0, pinned: false, profile: String::new(), quick: true };
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
