//! A picture of one result: the first figure of each row as a bar with its median, a dot for each round, a broken line where a bar of the
//! scenario has its limit. Written by hand as SVG: nothing else is drawn.

use super::Scenario;
use super::outcome::{Outcome, median};
use super::results::Kept;

const WIDTH: f64 = 760.0;
/// Names are left of it.
const LEFT: f64 = 250.0;
/// Right of the longest bar, for its number.
const RIGHT: f64 = 90.0;
const TOP: f64 = 64.0;
const STEP: f64 = 30.0;
const BOTTOM: f64 = 30.0;

pub(super) fn svg(scenario: &Scenario, kept: &Kept) -> String {
    let Kept { outcome, caption, .. } = kept;
    let Some(figure) = scenario.figures.first() else { return String::new() };
    let height = TOP + STEP * outcome.rows.len() as f64 + BOTTOM;
    let limits = limits(scenario, outcome);
    let values = outcome.rows.iter().flat_map(|row| row.rounds(figure.key).iter().copied());
    let most = values.chain(limits.iter().map(|(_, limit)| *limit)).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * if most > 0.0 { value / most } else { 0.0 };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{}: {}</text>\n\
         <text x=\"12\" y=\"44\" fill=\"#555\" font-size=\"11\">{}</text>\n",
        escape(scenario.name),
        escape(figure.label),
        escape(caption)
    );
    for (index, row) in outcome.rows.iter().enumerate() {
        let top = TOP + STEP * index as f64;
        let middle = top + STEP / 2.0;
        // Ours stand out.
        let color = if row.name.starts_with(super::peers::FORNAX) { "#d9622b" } else { "#8aa1b4" };
        text.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 8.0,
            middle + 4.0,
            escape(&row.name)
        ));
        let Some(value) = row.median(figure.key) else { continue };
        text.push_str(&format!(
            "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\n",
            top + 5.0,
            x(value) - LEFT,
            STEP - 10.0
        ));
        let rounds = row.rounds(figure.key);
        for dot in rounds {
            text.push_str(&format!(
                "<circle cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"2\" fill=\"#222\" fill-opacity=\"0.5\"/>\n",
                x(*dot)
            ));
        }
        let end = rounds.iter().copied().fold(value, f64::max);
        text.push_str(&format!("<text x=\"{:.1}\" y=\"{:.1}\">{value:.*}</text>\n", x(end) + 8.0, middle + 4.0, figure.digits));
    }
    for (row, limit) in limits {
        let top = TOP + STEP * row as f64;
        let (at, end) = (x(limit), top + STEP);
        text.push_str(&format!(
            "<line x1=\"{at:.1}\" y1=\"{top:.1}\" x2=\"{at:.1}\" y2=\"{end:.1}\" stroke=\"#111\" stroke-width=\"1.5\" stroke-dasharray=\"4 3\"/>\n"
        ));
    }
    let legend = "bars: medians; dots: rounds; broken line: a limit the row has";
    text.push_str(&format!("<text x=\"12\" y=\"{:.1}\" fill=\"#555\" font-size=\"11\">{legend}</text>\n</svg>\n", height - 10.0));
    text
}

/// Where a row has a limit of the figure that is drawn: the row's number and the limit.
fn limits(scenario: &Scenario, outcome: &Outcome) -> Vec<(usize, f64)> {
    let Some(figure) = scenario.figures.first() else { return Vec::new() };
    let limit = |bar: &super::Bar| {
        let row = outcome.rows.iter().position(|row| row.name == bar.of)?;
        let other = match bar.to {
            None => 0.0,
            Some(to) => median(outcome.row(to)?.rounds(bar.figure).to_vec())?,
        };
        Some((row, bar.times * other + bar.plus))
    };
    scenario.bars.iter().filter(|bar| bar.figure == figure.key).filter_map(limit).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Bar;
    use super::super::outcome::tests::{FIGURES, outcome};
    use super::*;

    const SCENARIO: Scenario = Scenario {
        name: "a<b",
        what: "",
        figures: FIGURES,
        bars: &[Bar::ratio("", "cpu_us", "fornax", 2.5, "native"), Bar::ratio("", "cpu_us", "nobody", 2.5, "native")],
        loads: 0.0,
        beside_s: 0.0,
        run: |_| Ok(Outcome::default()),
    };

    #[test]
    fn a_bar_for_each_row_a_dot_for_each_round_and_the_limit() {
        let kept = Kept { outcome: outcome(0.0), caption: "here".into(), commit: String::new() };
        let text = svg(&SCENARIO, &kept);
        assert!(text.contains("a&lt;b: CPU µs/request"), "{text}");
        // One rectangle is the background; the longest dot is at the end of the scale; the limit is at 2.5 × 6 of 100.
        assert_eq!((text.matches("<rect").count(), text.matches("<circle").count(), text.matches("<line").count()), (4, 9, 1));
        assert!(text.contains("<circle cx=\"670.0\""), "{text}");
        assert!(text.contains("<line x1=\"313.0\" y1=\"124.0\""), "{text}");
    }
}
