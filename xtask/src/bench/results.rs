//! Results as they are kept: a file for each scenario, a line for each run of it.

use super::machine::Machine;
use super::outcome::Outcome;
use super::{Plan, Scenario};
use crate::{Result, work};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where they are; runs to try things out keep theirs to themselves.
pub(super) fn folder(quick: bool) -> PathBuf {
    if quick { work::target().join("bench/results") } else { work::root().join("bench/results") }
}

fn file(folder: &Path, scenario: &str) -> PathBuf {
    folder.join(format!("{scenario}.jsonl"))
}

pub(super) fn append(scenario: &Scenario, outcome: &Outcome, plan: &Plan, machine: &Machine) -> Result<()> {
    let folder = folder(plan.quick);
    work::create_dir(&folder)?;
    let file = file(&folder, scenario.name);
    let line = line(scenario, outcome, plan, machine);
    let open = OpenOptions::new().create(true).append(true).open(&file);
    open.and_then(|mut open| writeln!(open, "{line}")).map_err(|error| format!("{}: {error}", file.display()))
}

fn line(scenario: &Scenario, outcome: &Outcome, plan: &Plan, machine: &Machine) -> Value {
    let mut line = outcome.json();
    for row in line["rows"].as_array_mut().into_iter().flatten() {
        for values in row["figures"].as_object_mut().into_iter().flat_map(|figures| figures.values_mut()) {
            for value in values.as_array_mut().into_iter().flatten() {
                *value = json!(significant(value.as_f64().unwrap_or_default()));
            }
        }
    }
    let bars = scenario.bars.iter().map(|bar| {
        let verdict = bar.judge(scenario.figures, outcome);
        json!({ "says": bar.says, "measured": verdict.measured, "limit": verdict.limit, "holds": verdict.holds })
    });
    line["bars"] = bars.collect();
    line["scenario"] = json!(scenario.name);
    line["date"] = json!(machine.date);
    line["commit"] = json!(machine.commit);
    line["machine"] = json!({ "cpu": machine.cpu, "cores": machine.cores, "kernel": machine.kernel });
    line["plan"] = json!({
        "rounds": plan.rounds, "seconds": plan.seconds, "connections": plan.connections, "rate": plan.rate,
        "pinned": plan.pinned, "profile": plan.profile,
    });
    line
}

/// Four digits: more of them are noise.
fn significant(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// A result that is kept, and the words about it.
pub(super) struct Kept {
    pub(super) outcome: Outcome,
    /// When, what, where and how.
    pub(super) caption: String,
    /// The commit and the date of it alone.
    pub(super) commit: String,
}

/// The last result of a scenario; none where there is none yet.
pub(super) fn last(folder: &Path, scenario: &str) -> Result<Option<Kept>> {
    let file = file(folder, scenario);
    if !file.is_file() {
        return Ok(None);
    }
    let text = work::read(&file)?;
    let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) else { return Ok(None) };
    let wrong = |error: String| format!("{}: the last line: {error}", file.display());
    let line: Value = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
    let outcome = Outcome::read(&line).map_err(wrong)?;
    let text = |value: &Value| value.as_str().unwrap_or("?").to_string();
    let (machine, plan) = (&line["machine"], &line["plan"]);
    let day = text(&line["date"]).chars().take(10).collect::<String>();
    let commit = format!("{day}, {}", text(&line["commit"]));
    let caption = format!(
        "{commit}, profile {}; {} rounds of {} s, {} connections, rate {}/s; {} × {}, Linux {}",
        text(&plan["profile"]),
        plan["rounds"],
        plan["seconds"],
        plan["connections"],
        plan["rate"].as_f64().unwrap_or_default(),
        machine["cores"],
        text(&machine["cpu"]),
        text(&machine["kernel"]),
    );
    Ok(Some(Kept { outcome, caption, commit }))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::outcome;
    use super::*;

    #[test]
    fn numbers_are_kept_as_far_as_they_mean_something() {
        assert_eq!([1234.56, 0.012_345_6, 0.0].map(significant), [1235.0, 0.01235, 0.0]);
    }

    #[test]
    fn the_last_line_counts() {
        let folder = std::env::temp_dir().join(format!("xtask-results-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (first, second) = (outcome(1.0), outcome(0.0));
        let line = |outcome: &Outcome| {
            let mut line = outcome.json();
            line["date"] = json!("2026-01-02T03:04:05Z");
            line["commit"] = json!("abc");
            line.to_string()
        };
        std::fs::write(file(&folder, "hello"), format!("{}\n{}\n\n", line(&first), line(&second))).unwrap();
        let kept = last(&folder, "hello").unwrap().unwrap();
        assert_eq!((kept.outcome, kept.commit.as_str()), (second, "2026-01-02, abc"));
        assert!(last(&folder, "none").unwrap().is_none());
        std::fs::write(file(&folder, "broken"), "{}\n").unwrap();
        assert!(last(&folder, "broken").err().unwrap().contains("broken.jsonl"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
