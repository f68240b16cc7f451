//! Renders a comparison for the terminal: the table of its rows, the runs and kernels that are missing from it, and a summary of
//! what it can and cannot show.

use std::fmt::Write;

use ktstr_record::brief::counted;

use super::family::Row;
use super::judge::Conclusion;
use super::report::{Report, Side};
use crate::check::short;
use crate::table;

/// The largest number of rows in the table. If there are more, they are sorted by their conclusions, in the order of
/// [`order`], and the first ones are shown.
const MOST: usize = 40;
/// The largest number of runs without metrics that are listed below the table.
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
            "and {} more: --json FILE has all",
            counted(rows.len() - MOST, "row")
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
            "and {} more without numbers",
            counted(report.ended.len() - ENDED, "run")
        )?;
    }
    let [only_a, only_b] = report.alone;
    if only_a + only_b > 0 {
        writeln!(
            text,
            "not compared: {} that only A has, and {only_b} that only B has",
            counted(only_a, "run")
        )?;
    }
    for kernel in &report.missing_kernels {
        writeln!(text, "not run: {kernel}")?;
    }
    sum_up(text, report)
}

fn sum_up(text: &mut String, report: &Report) -> std::fmt::Result {
    let count = |conclusion: Conclusion| {
        let rows = report.rows.iter();
        rows.filter(|row| row.conclusion == conclusion).count() as u64
    };
    let tests = counted(report.tests, "test");
    writeln!(
        text,
        "A is {}, B is {}. In {tests} on {}: {}, {} and {}. The probability of a false alarm among all tests is at most {:.0} %.",
        name(&report.a),
        name(&report.b),
        seeds(report),
        counted(count(Conclusion::Regression), "regression"),
        counted(count(Conclusion::Improvement), "improvement"),
        counted(count(Conclusion::Different), "other difference"),
        report.level * 100.0
    )?;
    if report.same_runs > 0 {
        writeln!(
            text,
            "In {} of {} the run of A and the run of B are the same to the last bit.",
            report.same_runs,
            counted(report.pairs, "pair")
        )?;
    }
    let dead = report.only_b_ended();
    if dead > 0 {
        writeln!(
            text,
            "In {} the run of B failed by the scheduler's fault and has no numbers, while the run of A has some: `cargo ktstr check` has the details.",
            counted(dead, "pair")
        )?;
    }
    let hidden = count(Conclusion::NotShown);
    if hidden > 0 {
        writeln!(
            text,
            "No difference shows in {}. A difference smaller than CAN SHOW can have gone unnoticed.",
            counted(hidden, "test")
        )?;
    }
    if report.tests == 0 {
        let [first, end] = report.seeds;
        let few = report
            .pairs_needed
            .filter(|needed| end.saturating_sub(first) < *needed as u64);
        match few {
            Some(needed) => writeln!(
                text,
                "Nothing was tested: a test needs at least {needed} pairs of runs, so run both with at least {needed} seeds (`--seeds`)."
            )?,
            None => writeln!(
                text,
                "Nothing was tested, because no scenario has enough pairs in which both runs have numbers."
            )?,
        }
    }
    let few = count(Conclusion::TooFewSeeds);
    if few > 0 {
        match report.pairs_needed {
            Some(needed) => writeln!(
                text,
                "In {few} of {tests} there are too few pairs to show any difference: it takes at least {needed} for this many tests, or fewer scenarios."
            )?,
            None => writeln!(
                text,
                "No number of seeds decides {tests}: name fewer scenarios."
            )?,
        }
    }
    writeln!(
        text,
        "P is adjusted for all tests (Holm). CAN SHOW is the smallest difference that this number of seeds, with this noise, could have shown."
    )
}

/// Returns the number of seeds that every place has, with the larger number in some places if there were further looks.
fn seeds(report: &Report) -> String {
    let [first, end] = report.seeds;
    let count = |end: u64| end.saturating_sub(first);
    match report.looks.first() {
        Some(look) if look.end < end => format!(
            "{} (up to {} in places where these left a difference open)",
            counted(count(look.end), "seed"),
            count(end)
        ),
        _ => counted(count(end), "seed"),
    }
}

fn name(side: &Side) -> String {
    let words = std::iter::once(&side.name).chain(&side.args);
    words.cloned().collect::<Vec<_>>().join(" ")
}

/// Formats a difference with its sign, as a percentage of the value `of`; as a plain number if that value is 0.
fn change(difference: f64, of: f64) -> String {
    match of {
        0.0 if difference == 0.0 => "0.0 %".to_owned(),
        0.0 => format!("{difference:+.2}"),
        of => format!("{:+.1} %", difference / of.abs() * 100.0),
    }
}

/// Formats a size, which has no sign, as a percentage of the value `of`; as a plain number if that value is 0.
fn size(difference: f64, of: f64) -> String {
    match of {
        0.0 => short(difference),
        of => format!("{:.1} %", difference / of.abs() * 100.0),
    }
}

/// Returns the rank of a conclusion. If there are more rows than the table holds, the rows with the smallest
/// ranks are shown.
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

        A is eevdf, B is ./scx_mine. In 1 test on 7 seeds: 1 regression, 0 improvements and 0 other differences. The probability of a false alarm among all tests is at most 5 %.
        P is adjusted for all tests (Holm). CAN SHOW is the smallest difference that this number of seeds, with this noise, could have shown.
        ");
    }

    #[test]
    fn more_seeds_in_some_places_are_named() {
        let mut report = compared(50.0);
        report.looks[0].end = 5;
        report.rows[0].conclusion = Conclusion::NotShown;
        let text = render(&report);
        let seeds = "In 1 test on 4 seeds (up to 7 in places where these left a difference open): ";
        assert!(text.contains(seeds), "{text}");
        let hidden = "No difference shows in 1 test. A difference smaller than CAN SHOW can have gone unnoticed.";
        assert!(text.contains(hidden), "{text}");
    }

    #[test]
    fn a_comparison_without_tests_says_what_it_lacks() {
        let mut report = compared(50.0);
        report.rows.clear();
        (report.tests, report.pairs_needed) = (0, Some(6));
        let enough = "Nothing was tested, because no scenario has enough pairs in which both runs have numbers.";
        assert!(render(&report).contains(enough), "7 seeds are enough");
        report.seeds = [1, 2];
        let text = render(&report);
        assert!(
            text.contains("run both with at least 6 seeds (`--seeds`)."),
            "{text}"
        );
    }

    #[test]
    fn pairs_of_equal_runs_are_counted() {
        let text = render(&compared(0.0));
        let same = "In 7 of 7 pairs the run of A and the run of B are the same to the last bit.";
        assert!(text.contains(same), "{text}");
        assert!(text.contains("identical"), "{text}");
    }

    #[test]
    fn too_few_seeds_name_the_number_that_is_needed() {
        let mut report = compared(50.0);
        report.rows[0].conclusion = Conclusion::TooFewSeeds;
        report.pairs_needed = Some(9);
        let text = render(&report);
        let needed = "In 1 of 1 test there are too few pairs to show any difference: it takes at least 9 for";
        assert!(text.contains(needed), "{text}");
        report.pairs_needed = None;
        assert!(render(&report).contains("No number of seeds decides 1 test: "));
    }
}
