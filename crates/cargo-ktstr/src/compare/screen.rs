//! The table of a comparison, with a note of what it can and cannot show.

use std::fmt::Write;

use super::family::Row;
use super::judge::Conclusion;
use super::report::{Report, Side};
use crate::check::short;
use crate::table;

/// The largest number of rows that are shown; rows with a conclusion come first.
const MOST: usize = 40;
/// The largest number of runs without metrics that are shown.
const ENDED: usize = 4;

/// Returns the text of the screen.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = render_to(&mut text, report);
    text
}

fn render_to(text: &mut String, report: &Report) -> std::fmt::Result {
    let mut rows: Vec<&Row> = report.rows.iter().collect();
    if rows.len() > MOST {
        rows.sort_by_key(|row| order(row.conclusion));
    }
    let several = rows
        .iter()
        .any(|row| (&row.kernel, &row.topology) != (&rows[0].kernel, &rows[0].topology));
    let mut table = table::numbers(
        &[
            "SCENARIO", "METRIC", "PAIRS", "A", "B", "B - A", "95 %", "P", "CAN SHOW", "SAID",
        ],
        2,
    );
    if let Some(column) = table.column_mut(9) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for row in rows.iter().take(MOST) {
        let place = match several {
            true => format!("{} {} {}", row.scenario, row.kernel, row.topology),
            false => row.scenario.clone(),
        };
        let (low, high) = row.interval;
        table.add_row([
            place,
            match row.unit {
                "" => row.metric.to_owned(),
                unit => format!("{}, {unit}", row.metric),
            },
            row.pairs.to_string(),
            short(row.a),
            short(row.b),
            change(row.difference, row.a),
            format!("{} to {}", change(low, row.a), change(high, row.a)),
            format!("{:.3}", row.p_adjusted),
            row.smallest
                .map_or_else(|| "nothing".to_owned(), |s| size(s, row.a)),
            row.conclusion.words().to_owned(),
        ]);
    }
    if !rows.is_empty() {
        writeln!(text, "{}\n", table.trim_fmt())?;
    }
    if rows.len() > MOST {
        writeln!(
            text,
            "and {} rows more: --json FILE has all",
            rows.len() - MOST
        )?;
    }
    for one in report.ended.iter().take(ENDED) {
        writeln!(
            text,
            "no numbers from {}: {} seed {}: {}",
            one.side.to_uppercase(),
            one.scenario,
            one.seed,
            one.message
        )?;
    }
    if report.ended.len() > ENDED {
        writeln!(
            text,
            "and {} runs more without numbers",
            report.ended.len() - ENDED
        )?;
    }
    let [only_a, only_b] = report.alone;
    if only_a + only_b > 0 {
        writeln!(
            text,
            "not compared: {only_a} runs that only A has, and {only_b} that only B has"
        )?;
    }
    for kernel in &report.missing_kernels {
        writeln!(text, "not run: {kernel}")?;
    }
    sum_up(text, report)
}

fn sum_up(text: &mut String, report: &Report) -> std::fmt::Result {
    let count = |conclusion: Conclusion| {
        report
            .rows
            .iter()
            .filter(|row| row.conclusion == conclusion)
            .count()
    };
    let pairs = report.seeds[1].saturating_sub(report.seeds[0]);
    writeln!(
        text,
        "A is {}, B is {}: {} regressions, {} improvements and {} other differences in {} tests on {}, a false alarm \
         among all of them at most {:.0} % likely.",
        name(&report.a),
        name(&report.b),
        count(Conclusion::Regression),
        count(Conclusion::Improvement),
        count(Conclusion::Different),
        report.tests,
        seeds(report),
        report.level * 100.0
    )?;
    match report.same_runs {
        0 => {}
        same if same == report.pairs => {
            writeln!(
                text,
                "All {same} pairs of runs are the same to the last bit."
            )?;
        }
        same => writeln!(
            text,
            "{same} of {} pairs of runs are the same to the last bit.",
            report.pairs
        )?,
    }
    let dead = report.only_b_ended();
    if dead > 0 {
        writeln!(
            text,
            "B exited early by its own fault in {dead} runs in which A did not: `cargo ktstr check` has the details."
        )?;
    }
    let hidden = count(Conclusion::NotShown);
    if hidden > 0 {
        writeln!(
            text,
            "In {hidden} tests no difference shows, and one that is smaller than CAN SHOW would not show either."
        )?;
    }
    if count(Conclusion::TooFewSeeds) > 0 {
        match report.pairs_needed {
            Some(needed) => writeln!(
                text,
                "{pairs} seeds cannot decide {} tests, whatever they show: it takes {needed}, or fewer scenarios.",
                report.tests
            )?,
            None => writeln!(
                text,
                "No number of seeds decides {} tests: name fewer scenarios.",
                report.tests
            )?,
        }
    }
    writeln!(
        text,
        "P is adjusted for all tests (Holm). CAN SHOW is the smallest difference that so many seeds, as noisy as these, can show."
    )
}

/// Returns on how many seeds the tests are, and where there are more.
fn seeds(report: &Report) -> String {
    let [first, end] = report.seeds;
    let count = |end: u64| end.saturating_sub(first);
    match report.looks.first() {
        Some(look) if look.end < end => format!(
            "{} seeds, and up to {} in places where these left a difference open",
            count(look.end),
            count(end)
        ),
        _ => format!("{} seeds", count(end)),
    }
}

fn name(side: &Side) -> String {
    let words = std::iter::once(&side.name).chain(&side.args);
    words.cloned().collect::<Vec<_>>().join(" ")
}

/// Formats a difference as a share of the value that it is compared with, with its sign.
fn change(difference: f64, of: f64) -> String {
    match of {
        0.0 if difference == 0.0 => "0.0 %".to_owned(),
        0.0 => format!("{difference:+.2}"),
        of => format!("{:+.1} %", difference / of.abs() * 100.0),
    }
}

/// Formats a size, which has no sign, as such a share.
fn size(difference: f64, of: f64) -> String {
    match of {
        0.0 => short(difference),
        of => format!("{:.1} %", difference / of.abs() * 100.0),
    }
}

/// Returns the rank of a conclusion: lower ones are shown first if there are too many rows.
fn order(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::Regression => 0,
        Conclusion::Improvement => 1,
        Conclusion::Different => 2,
        Conclusion::TooFewSeeds => 3,
        Conclusion::Slight => 4,
        Conclusion::NotShown => 5,
        Conclusion::Identical => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::compared;
    use super::*;

    #[test]
    fn the_table() {
        insta::assert_snapshot!(render(&compared(50.0)), @r"
         SCENARIO  METRIC        PAIRS     A     B   B - A              95 %      P  CAN SHOW  SAID
         steady    wake_p99, µs      7  1000  1050  +5.0 %  +5.0 % to +5.1 %  0.016     0.0 %  REGRESSION

        A is eevdf, B is ./scx_mine: 1 regressions, 0 improvements and 0 other differences in 1 tests on 7 seeds, a false alarm among all of them at most 5 % likely.
        P is adjusted for all tests (Holm). CAN SHOW is the smallest difference that so many seeds, as noisy as these, can show.
        ");
    }

    #[test]
    fn more_seeds_in_some_places_are_told() {
        let mut report = compared(50.0);
        report.looks[0].end = 5;
        report.rows[0].conclusion = Conclusion::NotShown;
        let text = render(&report);
        let seeds = "in 1 tests on 4 seeds, and up to 7 in places where these left a difference open, a false alarm";
        assert!(text.contains(seeds), "{text}");
        let hidden = "In 1 tests no difference shows, and one that is smaller than CAN SHOW would not show either.";
        assert!(text.contains(hidden), "{text}");
    }

    #[test]
    fn the_same_runs_are_told() {
        let text = render(&compared(0.0));
        assert!(
            text.contains("All 7 pairs of runs are the same to the last bit."),
            "{text}"
        );
        assert!(text.contains("identical"), "{text}");
    }

    #[test]
    fn what_cannot_be_decided_says_what_it_takes() {
        let mut report = compared(50.0);
        report.rows[0].conclusion = Conclusion::TooFewSeeds;
        report.pairs_needed = Some(9);
        let text = render(&report);
        assert!(text.contains("it takes 9, or fewer scenarios"), "{text}");
        report.pairs_needed = None;
        assert!(render(&report).contains("No number of seeds decides 1 tests"));
    }
}
