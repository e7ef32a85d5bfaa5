//! What people read: the table of a run, the page of all results, the table of all bars. Made from results, never by hand.

use super::outcome::{Figure, Outcome, Row, WRONG};
use super::results::{self, Kept};
use super::scenarios::SCENARIOS;
use super::{Scenario, plot};
use crate::{Result, work};
use std::fs;
use std::path::Path;

const WRITTEN: &str = "<!-- Written by `cargo xtask bench`, never by hand. -->\n";

/// The last column of every table.
const WRONG_ANSWERS: Figure = Figure::new(WRONG, "wrong", 0);

/// Rows and columns of one result; a ratio to the first row beside the first column.
pub(super) fn table(scenario: &Scenario, outcome: &Outcome) -> String {
    let figures: Vec<&Figure> = scenario.figures.iter().filter(|figure| figure.key != WRONG).collect();
    let floor = outcome.rows.first().filter(|_| outcome.rows.len() > 1);
    let mut head = vec!["server".to_string(), "isolation".to_string()];
    for (index, figure) in figures.iter().enumerate() {
        head.push(figure.label.to_string());
        head.extend(floor.filter(|_| index == 0).map(|row| format!("× {}", row.name)));
    }
    head.push(WRONG_ANSWERS.label.to_string());
    let rule = format!("| --- | ---{} |\n", " | ---:".repeat(head.len() - 2));
    let mut text = format!("| {} |\n{rule}", head.join(" | "));
    for row in &outcome.rows {
        let mut cells = vec![row.name.clone(), row.isolation.clone()];
        for (index, figure) in figures.iter().enumerate() {
            cells.push(row.median(figure.key).map_or("–".into(), |value| number(value, figure.digits)));
            let ratio = floor.filter(|_| index == 0).map(|floor| outcome.ratio(figure.key, &row.name, &floor.name));
            cells.extend(ratio.map(|ratio| ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"))));
        }
        cells.push(wrong(row));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    for note in &outcome.notes {
        text.push_str(&format!("\n{note}.\n"));
    }
    text
}

fn wrong(row: &Row) -> String {
    number(row.rounds(WRONG).iter().sum(), WRONG_ANSWERS.digits)
}

/// Thousands with a comma between them.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// Writes the page, the bars and the pictures anew from the last result of each scenario.
pub(super) fn write(folder: &Path, page: &Path) -> Result<()> {
    let mut known = Vec::new();
    for scenario in SCENARIOS {
        if let Some(kept) = results::last(folder, scenario.name)? {
            put(&folder.join(format!("{}.svg", scenario.name)), &plot::svg(scenario, &kept))?;
            known.push((scenario, kept));
        }
    }
    // The pictures, as the page names them.
    let pictures = if page.parent() == Some(folder) { "" } else { "../bench/results/" };
    put(page, &all(&known, pictures))?;
    put(&folder.join("bars.md"), &bars(&known))
}

fn put(file: &Path, text: &str) -> Result<()> {
    work::create_dir(file.parent().unwrap_or(file))?;
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn all(known: &[(&Scenario, Kept)], pictures: &str) -> String {
    let mut text = format!(
        "{WRITTEN}# Benchmarks\n\n\
         What was measured last of each scenario, by `cargo xtask bench`; [performance.md](performance.md) says what the figures mean and how to\n\
         measure. Figures are medians over rounds, ratios medians of the rounds' own ratios. Server and load have a core each; what keeps\n\
         one call from the next is said beside each number. Absolute numbers belong to the machine, ratios travel.\n"
    );
    for (scenario, kept) in known {
        text.push_str(&format!("\n## {}\n\n{}\n\n{}.\n\n", scenario.name, scenario.what, kept.caption));
        text.push_str(&table(scenario, &kept.outcome));
        for bar in scenario.bars {
            text.push_str(&format!("\n{}.\n", bar.judge(scenario.figures, &kept.outcome).line(bar)));
        }
        text.push_str(&format!("\n![{}]({pictures}{}.svg)\n", scenario.name, scenario.name));
    }
    text
}

fn bars(known: &[(&Scenario, Kept)]) -> String {
    let mut text = format!(
        "{WRITTEN}# Bars\n\n\
         What Fornax must reach, and what was measured last.\n\n\
         | bar | scenario | measured | limit | | when, commit |\n| --- | --- | ---: | ---: | --- | --- |\n"
    );
    for scenario in SCENARIOS {
        let kept = known.iter().find(|(known, _)| known.name == scenario.name).map(|(_, kept)| kept);
        for bar in scenario.bars {
            let (outcome, commit) = kept.map_or((Outcome::default(), "–"), |kept| (kept.outcome.clone(), &kept.commit));
            let verdict = bar.judge(scenario.figures, &outcome);
            let (measured, limit, word) = (&verdict.measured, &verdict.limit, verdict.word());
            text.push_str(&format!("| {} | {} | {measured} | {limit} | {word} | {commit} |\n", bar.says, scenario.name));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Bar;
    use super::super::outcome::tests::{FIGURES, outcome};
    use super::*;

    const SCENARIO: Scenario = Scenario {
        name: "hello",
        what: "lean",
        figures: FIGURES,
        bars: &[Bar::ratio("half of native", "cpu_us", "fornax", 0.5, "native")],
        loads: 1.0,
        beside_s: 0.0,
        run: |_| Ok(Outcome::default()),
    };

    fn kept() -> Kept {
        Kept { outcome: outcome(0.0), caption: "here and now".into(), commit: "2026-01-02, abc".into() }
    }

    #[test]
    fn a_table_has_a_ratio_to_its_first_row() {
        let text = table(&SCENARIO, &outcome(2.0));
        assert!(text.starts_with("| server | isolation | CPU µs/request | × native | wrong |\n"), "{text}");
        assert!(text.ends_with("| fornax | fresh | 12.0 | 2.00 | 6 |\n"), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([number(1_234_567.0, 0), number(999.0, 0), number(-1234.5, 1)], ["1,234,567", "999", "-1,234.5"]);
    }

    #[test]
    fn the_page_has_table_verdict_and_picture() {
        let text = all(&[(&SCENARIO, kept())], "../bench/results/");
        assert!(text.contains("\n## hello\n\nlean\n\nhere and now.\n"), "{text}");
        assert!(text.contains("half of native: 2.000 × (≤ 0.5 ×): **does not hold**."), "{text}");
        assert!(text.ends_with("![hello](../bench/results/hello.svg)\n"), "{text}");
    }

    #[test]
    fn every_bar_is_in_the_table_measured_or_not() {
        let text = bars(&[]);
        let count = SCENARIOS.iter().map(|scenario| scenario.bars.len()).sum::<usize>();
        assert_eq!(text.matches("not measured").count(), count);
    }
}
