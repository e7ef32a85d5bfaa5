//! When, what and where: a number without them says nothing next month.

use crate::work;
use std::fmt;
use std::fs;

/// What is written beside every result.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) date: String,
    /// Short, with `+` where files differ from it.
    pub(super) commit: String,
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
}

impl Machine {
    /// What cannot be found out stays empty.
    pub(super) fn look() -> Self {
        let word = |program: &str, args: &[&str]| {
            work::output(work::command(program).args(args)).map(|text| text.trim().to_string()).unwrap_or_default()
        };
        let changed = word("git", &["status", "--porcelain", "--untracked-files=no"]);
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
        Self {
            date: word("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            commit: word("git", &["rev-parse", "--short", "HEAD"]) + if changed.is_empty() { "" } else { "+" },
            cpu: model.unwrap_or_default().to_string(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_string(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, commit, cpu, cores, kernel } = self;
        write!(f, "{date}, commit {commit}, {cores} × {cpu}, Linux {kernel}")
    }
}
