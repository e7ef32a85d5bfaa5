//! What came of each attack, as a table: a row for each, a column for each entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use testkit::Response;

use crate::attacks::{self, Attack};

const COLUMNS: [&str; 6] = ["wasi:http 0.2", "wasi:http 0.3", "program", "plugin", "wasi:cli 0.2", "wasi:cli 0.3"];

/// What was measured in one cell: by each way there, such as another codec, within a chain, or in an instance that is kept.
#[derive(Debug, Default)]
struct Cell {
    answers: BTreeSet<String>,
    attacks: usize,
    slowest: Duration,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    rows: Vec<&'static str>,
    cells: BTreeMap<(&'static str, usize), Cell>,
}

impl Matrix {
    pub(crate) fn note(&mut self, attack: &Attack, response: &Response, took: Duration) {
        if !self.rows.contains(&attack.row) {
            self.rows.push(attack.row);
        }
        let cell = self.cells.entry((attack.row, attack.column)).or_default();
        cell.attacks += 1;
        cell.slowest = cell.slowest.max(took);
        let kind = serde_json::from_slice::<serde_json::Value>(&response.body).ok();
        let kind = kind.as_ref().and_then(|body| body["type"].as_str()).filter(|_| response.status >= 400);
        let cut = if response.truncated { " cut off" } else { "" };
        cell.answers.insert(match kind {
            Some(kind) => format!("{} {kind}{cut}", response.status),
            None => format!("{}{cut}", response.status),
        });
    }

    /// In Markdown.
    ///
    /// # Panics
    ///
    /// If a cell is empty without a reason.
    pub(crate) fn text(&self) -> String {
        let reasons: BTreeMap<_, _> = attacks::without().map(|(row, column, reason)| ((row, column), reason)).collect();
        let mut numbers: Vec<&str> = Vec::new();
        let mut text = format!("| attack | {} |\n|{}\n", COLUMNS.join(" | "), " --- |".repeat(COLUMNS.len() + 1));
        for row in &self.rows {
            let cells = (0..COLUMNS.len()).map(|column| match (self.cells.get(&(*row, column)), reasons.get(&(*row, column))) {
                (Some(cell), _) => {
                    let answers = cell.answers.iter().cloned().collect::<Vec<_>>().join(", ");
                    format!("{answers}: {} × {} ms", cell.attacks, cell.slowest.as_millis())
                }
                (None, reason) => {
                    assert!(
                        reason.is_some() || !attacks::is_everywhere(row),
                        "{row}, {}: neither attack nor reason",
                        COLUMNS[column]
                    );
                    let reason =
                        reason.copied().unwrap_or("the codec, the ABI or the answer that is attacked is another entry's");
                    let number = numbers.iter().position(|known| *known == reason).unwrap_or_else(|| {
                        numbers.push(reason);
                        numbers.len() - 1
                    });
                    format!("[{}]", number + 1)
                }
            });
            let cells: Vec<_> = cells.collect();
            // Writing to a String does not fail.
            let _ = writeln!(text, "| {row} | {} |", cells.join(" | "));
        }
        for (number, reason) in numbers.iter().enumerate() {
            let _ = writeln!(text, "\n[{}] {reason}", number + 1);
        }
        text
    }
}
