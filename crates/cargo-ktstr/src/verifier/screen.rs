//! Renders the loads for the terminal: for each machine how the load ended and why, and a table of its programs.

use std::fmt::Write;

use ktstr_record::brief::counted;

use super::report::{Ended, Load, Report, Row};
use crate::table;

/// The largest number of instructions that the verifier processes for one program (`BPF_COMPLEXITY_LIMIT_INSNS`).
const LIMIT: f64 = 1e6;
/// The largest number of programs that are shown of a load. If there are more, rejected programs come first, then those with
/// the most instructions.
const MOST: usize = 30;
/// The largest number of lines that are shown of a reason.
const REASON: usize = 12;

/// Renders the report as the table that a terminal shows.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = render_to(&mut text, report);
    text
}

fn render_to(text: &mut String, report: &Report) -> std::fmt::Result {
    for load in &report.loads {
        writeln!(
            text,
            "{} {}: {}{}",
            load.kernel,
            load.topology,
            load.ended.words(),
            change(load)
        )?;
        for line in load.reason.iter().take(REASON) {
            writeln!(text, "  {line}")?;
        }
        if load.reason.len() > REASON {
            let more = counted(load.reason.len() - REASON, "line");
            writeln!(text, "  and {more} more")?;
        }
        if load.ended != Ended::Loads {
            writeln!(text, "  again: {}", load.again)?;
        }
        if let Some(record) = &load.record {
            writeln!(text, "  record: {}", record.display())?;
        }
        programs(text, load, report.baseline.is_some())?;
        writeln!(text)?;
    }
    for kernel in &report.missing_kernels {
        writeln!(text, "not run: {kernel}")?;
    }
    for (load, row) in report.grown() {
        writeln!(
            text,
            "GROWN  {} on {} {} by {}, more than the allowed {} %",
            row.program,
            load.kernel,
            load.topology,
            growth(row),
            report.max_growth.unwrap_or_default()
        )?;
    }
    let count = |ended: Ended| report.loads.iter().filter(|one| one.ended == ended).count();
    writeln!(
        text,
        "{}: loads on {} of {} machines; no workload was run",
        report.scheduler.path.display(),
        count(Ended::Loads),
        report.loads.len()
    )
}

/// Returns how the load ended in the baseline, in parentheses, if it ended differently there; else an empty text.
fn change(load: &Load) -> String {
    match load.before {
        Some(before) if before != load.ended => format!(" (baseline: {})", before.words()),
        _ => String::new(),
    }
}

fn programs(text: &mut String, load: &Load, baseline: bool) -> std::fmt::Result {
    if load.programs.is_empty() {
        return Ok(());
    }
    // Only a log of the verifier has the number of states, and most schedulers do not print one.
    let has_states = load.programs.iter().any(|row| row.states.is_some());
    let mut header = vec!["  PROGRAM", "INSNS", "OF 1M"];
    header.extend(has_states.then_some("STATES"));
    if baseline {
        header.extend(["BASELINE", "CHANGE"]);
    }
    let mut table = table::numbers(&header, 1);
    let mut rows: Vec<&Row> = load.programs.iter().collect();
    if rows.len() > MOST {
        rows.sort_by_key(|row| (!row.refused, std::cmp::Reverse(row.insns)));
    }
    let number = |of: Option<u64>| of.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for row in rows.iter().take(MOST) {
        let mark = if row.refused { " (refused)" } else { "" };
        let share = row.insns.map(|insns| insns as f64 / LIMIT * 100.0);
        let mut cells = vec![
            format!("  {}{mark}", row.program),
            number(row.insns),
            share.map_or_else(String::new, |share| format!("{share:.1} %")),
        ];
        cells.extend(has_states.then(|| number(row.states)));
        if baseline {
            let before = row.before.map(|n| n.to_string());
            cells.extend([before.unwrap_or_else(|| "new".to_owned()), growth(row)]);
        }
        table.add_row(cells);
    }
    writeln!(text, "{}", table.trim_fmt())?;
    if rows.len() > MOST {
        writeln!(
            text,
            "  and {} programs more: --json FILE has all",
            rows.len() - MOST
        )?;
    }
    match load.gone.is_empty() {
        true => Ok(()),
        false => writeln!(text, "  gone since the baseline: {}", load.gone.join(", ")),
    }
}

/// Formats the change of a program's instructions since the baseline; empty if a number is unknown or the baseline's is 0.
fn growth(row: &Row) -> String {
    match (row.insns, row.before) {
        (Some(now), Some(before)) if before > 0 => {
            let share = (now as f64 - before as f64) / before as f64 * 100.0;
            format!("{share:+.1} %")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{loaded, program, refused, report};
    use super::*;

    #[test]
    fn the_table() {
        let before = report(vec![loaded(vec![
            program("mine_enqueue", 400),
            program("old", 9),
        ])]);
        let programs = vec![program("mine_enqueue", 500), program("mine_tick", 12_345)];
        let mut now = report(vec![loaded(programs), refused()]);
        now.hold_against(&before).expect("a machine in common");
        now.max_growth = Some(10);
        now.missing_kernels
            .push("kernel 9.9: there is none".to_owned());
        insta::assert_snapshot!(render(&now), @r"
        7.3.4 1n1l2c1t: loads
           PROGRAM       INSNS  OF 1M  BASELINE   CHANGE
           mine_enqueue    500  0.1 %       400  +25.0 %
           mine_tick     12345  1.2 %       new
          gone since the baseline: old

        7.0.1 1n1l2c1t: DOES NOT LOAD
          the verifier rejected it
          R1 invalid <mem>
          again: cargo ktstr verifier
           PROGRAM              INSNS  OF 1M  STATES  BASELINE  CHANGE
           mine_init (refused)      6  0.0 %       2       new

        not run: kernel 9.9: there is none
        GROWN  mine_enqueue on 7.3.4 1n1l2c1t by +25.0 %, more than the allowed 10 %
        ./scx_mine: loads on 1 of 2 machines; no workload was run
        ");
    }

    #[test]
    fn a_scheduler_of_many_programs_stays_on_the_screen() {
        let many = (0..100).map(|n| program(&format!("p{n}"), n + 1)).collect();
        let text = render(&report(vec![loaded(many)]));
        assert!(text.contains("and 70 programs more"), "{text}");
        assert!(text.contains("  p99 "), "the largest is shown: {text}");
    }
}
