//! What was measured, and whether it is enough.
//!
//! A sample has whatever figures its scenario took; figures are compared within a round, and medians over rounds are told. A bar says
//! which figure of which row may be how much of which other: it is judged here and nowhere by hand.

use crate::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What one row came to in one round: figures by key.
pub(super) type Sample = BTreeMap<&'static str, f64>;

/// The key of what every scenario counts: wrong answers, and connections that broke.
pub(super) const WRONG: &str = "wrong";

/// The key of how much of a core all else on the machine used.
pub(super) const OTHERS: &str = "others";

/// More than this is no quiet machine: the load of one row alone varies by some hundredths of a core.
const OTHERS_MAX: f64 = 0.15;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) key: &'static str,
    /// What stands above it, with the unit.
    pub(super) label: &'static str,
    /// Behind the point.
    pub(super) digits: usize,
}

impl Figure {
    pub(super) const fn new(key: &'static str, label: &'static str, digits: usize) -> Self {
        Self { key, label, digits }
    }
}

/// One row of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// What keeps one call from the next; stated beside every number.
    pub(super) isolation: String,
    /// Each figure, round by round.
    pub(super) figures: BTreeMap<String, Vec<f64>>,
}

impl Row {
    pub(super) fn rounds(&self, key: &str) -> &[f64] {
        self.figures.get(key).map_or(&[], Vec::as_slice)
    }

    /// None where it was not measured.
    pub(super) fn median(&self, key: &str) -> Option<f64> {
        median(self.rounds(key).to_vec())
    }
}

/// What a scenario came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) rows: Vec<Row>,
    /// What a reader of the table should know, such as a peer that was not there.
    pub(super) notes: Vec<String>,
}

impl Outcome {
    /// Rows without figures yet: names and isolation.
    pub(super) fn of(rows: &[(&str, &str)]) -> Self {
        let row = |(name, isolation): &(&str, &str)| Row {
            name: (*name).to_string(),
            isolation: (*isolation).to_string(),
            figures: BTreeMap::new(),
        };
        Self { rows: rows.iter().map(row).collect(), notes: Vec::new() }
    }

    /// Adds a round: a sample for each row.
    pub(super) fn add(&mut self, samples: Vec<Sample>) {
        for (row, sample) in self.rows.iter_mut().zip(samples) {
            for (key, value) in sample {
                row.figures.entry(key.to_string()).or_default().push(value);
            }
        }
    }

    pub(super) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// How much of `to` the figure of `of` is: the median of the rounds' own ratios.
    pub(super) fn ratio(&self, key: &str, of: &str, to: &str) -> Option<f64> {
        let (of, to) = (self.row(of)?.rounds(key), self.row(to)?.rounds(key));
        median(of.iter().zip(to).map(|(of, to)| of / to).collect())
    }

    /// Wrong answers of all rows whose name begins like this.
    pub(super) fn wrong_of(&self, name: &str) -> u64 {
        self.rows.iter().filter(|row| row.name.starts_with(name)).map(|row| row.rounds(WRONG).iter().sum::<f64>() as u64).sum()
    }

    /// What a reader must know where other programs took much of the machine: ratios suffer less than absolute numbers, but suffer.
    pub(super) fn disturbed(&self) -> Option<String> {
        let others = self.rows.iter().filter_map(|row| row.median(OTHERS)).fold(0.0, f64::max);
        (others > OTHERS_MAX)
            .then(|| format!("Other programs used up to {others:.1} cores meanwhile: repeat it on a quiet machine"))
    }

    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> =
            self.rows.iter().map(|row| json!({ "name": row.name, "isolation": row.isolation, "figures": row.figures })).collect();
        json!({ "rows": rows, "notes": self.notes })
    }

    /// What [`Outcome::json`] wrote.
    pub(super) fn read(line: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_string).ok_or_else(|| format!("no text: {value}"));
        let list = |value: &Value| value.as_array().cloned().ok_or_else(|| format!("no list: {value}"));
        let figures = |value: &Value| -> Result<BTreeMap<String, Vec<f64>>> {
            let map = value.as_object().ok_or_else(|| format!("no figures: {value}"))?;
            map.iter().map(|(key, values)| Ok((key.clone(), list(values)?.iter().filter_map(Value::as_f64).collect()))).collect()
        };
        let row = |value: &Value| {
            Ok(Row { name: text(&value["name"])?, isolation: text(&value["isolation"])?, figures: figures(&value["figures"])? })
        };
        Ok(Self {
            rows: list(&line["rows"])?.iter().map(row).collect::<Result<_>>()?,
            notes: list(&line["notes"])?.iter().map(text).collect::<Result<_>>()?,
        })
    }
}

/// None of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Which side of the limit is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    AtMost,
    AtLeast,
}

/// What a row must reach: a figure that is at most, or at least, `times` the same figure of `to`, and `plus` on top.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    /// The sentence of the table.
    pub(super) says: &'static str,
    pub(super) figure: &'static str,
    pub(super) of: &'static str,
    pub(super) need: Need,
    pub(super) times: f64,
    /// None: the limit is `plus` alone.
    pub(super) to: Option<&'static str>,
    pub(super) plus: f64,
}

impl Bar {
    /// At most so many times what the other pays.
    pub(super) const fn ratio(says: &'static str, figure: &'static str, of: &'static str, times: f64, to: &'static str) -> Self {
        Self { says, figure, of, need: Need::AtMost, times, to: Some(to), plus: 0.0 }
    }

    /// At most this.
    pub(super) const fn at_most(says: &'static str, figure: &'static str, of: &'static str, limit: f64) -> Self {
        Self { says, figure, of, need: Need::AtMost, times: 0.0, to: None, plus: limit }
    }

    /// The same bar from the other side.
    pub(super) const fn at_least(self) -> Self {
        Self { need: Need::AtLeast, ..self }
    }

    /// With an amount on top of the ratio.
    pub(super) const fn and(self, plus: f64) -> Self {
        Self { plus, ..self }
    }

    pub(super) fn judge(&self, figures: &[Figure], outcome: &Outcome) -> Verdict {
        let missing = || Verdict { measured: "not measured".into(), limit: String::new(), holds: None };
        let figure = figures.iter().find(|figure| figure.key == self.figure);
        let (Some(figure), Some(row)) = (figure, outcome.row(self.of)) else { return missing() };
        let values = row.rounds(self.figure);
        let others = match self.to {
            None => vec![0.0; values.len()],
            Some(to) => outcome.row(to).map(|row| row.rounds(self.figure).to_vec()).unwrap_or_default(),
        };
        let limits: Vec<f64> = others.iter().map(|other| self.times * other + self.plus).collect();
        let quotients = values.iter().zip(&limits).map(|(value, limit)| value / limit).collect();
        let (Some(quotient), Some(value), Some(limit)) = (median(quotients), row.median(self.figure), median(limits)) else {
            return missing();
        };
        let wrong = row.rounds(WRONG).iter().sum::<f64>() as u64;
        let inside = if self.need == Need::AtMost { quotient <= 1.0 } else { quotient >= 1.0 };
        let mut measured = if self.to.is_some() && self.plus == 0.0 {
            format!("{:.3} ×", quotient * self.times)
        } else {
            format!("{value:.*} {}", figure.digits, figure.label)
        };
        if wrong > 0 {
            measured.push_str(&format!(", {wrong} wrong answers"));
        }
        let sign = if self.need == Need::AtMost { "≤" } else { "≥" };
        let limit = if self.to.is_some() && self.plus == 0.0 {
            format!("{sign} {} ×", round(self.times))
        } else {
            format!("{sign} {limit:.*}", figure.digits)
        };
        Verdict { measured, limit, holds: Some(inside && wrong == 0) }
    }
}

/// Three digits behind the point at most, and none that say nothing.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What became of a bar.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) measured: String,
    pub(super) limit: String,
    /// None where it was not measured.
    pub(super) holds: Option<bool>,
}

impl Verdict {
    pub(super) fn word(&self) -> &'static str {
        match self.holds {
            Some(true) => "holds",
            Some(false) => "**does not hold**",
            None => "–",
        }
    }

    pub(super) fn line(&self, bar: &Bar) -> String {
        format!("{}: {} ({}): {}", bar.says, self.measured, self.limit, self.word())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const FIGURES: &[Figure] = &[Figure::new("cpu_us", "CPU µs/request", 1), Figure::new(WRONG, "wrong", 0)];

    /// Three rounds of three servers, of which ours takes twice and a fifth of the others.
    pub(crate) fn outcome(wrong: f64) -> Outcome {
        let mut outcome = Outcome::of(&[("native", "none"), ("wasmtime serve", "fresh"), ("fornax", "fresh")]);
        for (native, wasmtime, fornax) in [(5.0, 50.0, 10.0), (10.0, 100.0, 40.0), (6.0, 60.0, 12.0)] {
            let sample = |cpu: f64, wrong: f64| Sample::from([("cpu_us", cpu), (WRONG, wrong)]);
            outcome.add(vec![sample(native, 0.0), sample(wasmtime, 0.0), sample(fornax, wrong)]);
        }
        outcome
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        assert_eq!(outcome(0.0).ratio("cpu_us", "fornax", "native"), Some(2.0));
        assert_eq!(outcome(0.0).ratio("cpu_us", "fornax", "wasmtime serve"), Some(0.2));
        assert_eq!(outcome(0.0).ratio("cpu_us", "fornax", "nobody"), None);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn bars_hold_on_their_side_of_the_limit() {
        let holds = |bar: Bar, wrong| bar.judge(FIGURES, &outcome(wrong)).holds;
        assert_eq!(holds(Bar::ratio("", "cpu_us", "fornax", 2.0, "native"), 0.0), Some(true));
        assert_eq!(holds(Bar::ratio("", "cpu_us", "fornax", 1.9, "native"), 0.0), Some(false));
        assert_eq!(holds(Bar::ratio("", "cpu_us", "fornax", 1.9, "native").at_least(), 0.0), Some(true));
        assert_eq!(holds(Bar::at_most("", "cpu_us", "fornax", 12.0), 0.0), Some(true));
        assert_eq!(holds(Bar::at_most("", "cpu_us", "fornax", 11.9), 0.0), Some(false));
        assert_eq!(holds(Bar::at_most("", "cpu_us", "fornax", 13.0).at_least(), 0.0), Some(false));
        assert_eq!(holds(Bar::ratio("", "cpu_us", "fornax", 1.0, "native").and(6.0), 0.0), Some(true));
        assert_eq!(holds(Bar::ratio("", "cpu_us", "nobody", 2.0, "native"), 0.0), None);
        // A wrong answer is never fast enough.
        assert_eq!(holds(Bar::ratio("", "cpu_us", "fornax", 2.0, "native"), 1.0), Some(false));
    }

    #[test]
    fn a_verdict_says_what_was_measured() {
        let verdict = Bar::ratio("says", "cpu_us", "fornax", 0.25, "wasmtime serve").judge(FIGURES, &outcome(0.0));
        assert_eq!((verdict.measured.as_str(), verdict.limit.as_str()), ("0.200 ×", "≤ 0.25 ×"));
        let verdict = Bar::at_most("says", "cpu_us", "fornax", 13.0).judge(FIGURES, &outcome(1.0));
        assert_eq!(verdict.measured, "12.0 CPU µs/request, 3 wrong answers");
        assert_eq!(verdict.limit, "≤ 13.0");
    }

    #[test]
    fn a_machine_that_does_other_things_is_told() {
        let with = |others: f64| {
            let mut outcome = Outcome::of(&[("fornax", "fresh")]);
            outcome.add(vec![Sample::from([(OTHERS, others)])]);
            outcome.disturbed()
        };
        assert_eq!(with(0.1), None);
        assert!(with(0.5).unwrap().contains("0.5 cores"));
        assert_eq!(outcome(0.0).disturbed(), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let outcome = outcome(0.0);
        assert_eq!(Outcome::read(&outcome.json()), Ok(outcome));
        assert!(Outcome::read(&json!({ "rows": [{}], "notes": [] })).is_err());
    }
}
