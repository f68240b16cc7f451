//! `cargo ktstr schedule RUN --latency`: prints one line per task, with the time that the task ran, the number of times that
//! it got a CPU, its average and its longest wait for a CPU, and the times at which the longest wait began and ended. The
//! columns are those of `perf sched latency`, plus the total time of waiting.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use ktstr_schedule::Pid;
use ktstr_schedule::query::Wait;

use super::escape;
use crate::story::Story;
use crate::table::numbers;

/// The line of a task. `ran` and `waited` are in nanoseconds.
#[derive(Debug, Default)]
struct Row {
    ran: u64,
    switches: u64,
    waits: u64,
    waited: u64,
    longest: Option<Wait>,
}

/// Prints the table of the tasks that `wanted` accepts, with the longest wait first. If `phase` is given, only the time of
/// that phase counts.
pub(super) fn print(
    out: &mut dyn Write,
    story: &Story,
    phase: Option<u16>,
    wanted: impl Fn(Pid) -> bool,
) -> Result<()> {
    let mut rows: BTreeMap<Pid, Row> = BTreeMap::new();
    let inside = |of: Option<u16>| phase.is_none() || of == phase;
    for (key, totals) in &story.answers.totals {
        if wanted(key.task) && inside(key.phase) {
            let row = rows.entry(key.task).or_default();
            row.ran += totals.run_ns;
            row.switches += totals.runs;
        }
    }
    for wait in story.answers.waits_of(phase) {
        if wanted(wait.task) {
            let row = rows.entry(wait.task).or_default();
            row.waits += 1;
            row.waited += wait.len_ns();
            if row
                .longest
                .is_none_or(|longest| longest.len_ns() < wait.len_ns())
            {
                row.longest = Some(*wait);
            }
        }
    }
    let mut rows: Vec<(Pid, Row)> = rows
        .into_iter()
        .filter(|(_, row)| row.ran > 0 || row.waits > 0)
        .collect();
    let longest = |row: &Row| row.longest.map_or(0, |wait| wait.len_ns());
    rows.sort_by_key(|(pid, row)| (std::cmp::Reverse(longest(row)), *pid));
    let header = [
        "TASK",
        "RAN MS",
        "SWITCHES",
        "WAITED MS",
        "AVG WAIT MS",
        "MAX WAIT MS",
        "FROM S",
        "TO S",
    ];
    let mut table = numbers(&header, 1);
    for (pid, row) in &rows {
        let ms = |ns: u64| format!("{:.3}", ns as f64 / 1e6);
        let at = |of: fn(&Wait) -> u64| {
            let wait = row.longest.as_ref();
            wait.map_or_else(|| "-".to_owned(), |wait| seconds(story, of(wait)))
        };
        let unserved = match row.longest {
            Some(Wait { served: false, .. }) => "*",
            _ => "",
        };
        table.add_row([
            escape(&story.name(*pid)),
            ms(row.ran),
            row.switches.to_string(),
            ms(row.waited),
            ms(row.waited / row.waits.max(1)),
            format!("{}{unserved}", ms(longest(row))),
            at(|wait| wait.from_ns),
            at(|wait| wait.to_ns),
        ]);
    }
    let ran: u64 = rows.iter().map(|(_, row)| row.ran).sum();
    let switches: u64 = rows.iter().map(|(_, row)| row.switches).sum();
    writeln!(out, "{}\n", table.trim_fmt())?;
    writeln!(
        out,
        "All: {:.3} ms in {switches} switches. Times count from the beginning of the first step.",
        ran as f64 / 1e6
    )?;
    if rows
        .iter()
        .any(|(_, row)| row.longest.is_some_and(|wait| !wait.served))
    {
        writeln!(out, "* The task still had no CPU at the end of this time.")?;
    }
    Ok(())
}

/// Formats a time as seconds since the first step began.
pub(super) fn seconds(story: &Story, ns: u64) -> String {
    format!("{:.6}", (ns as f64 - story.zero_ns() as f64) / 1e9)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::story::testing::story;

    fn text(phase: Option<u16>, wanted: impl Fn(Pid) -> bool) -> String {
        let mut out = Vec::new();
        print(&mut out, &story(), phase, wanted).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_longest_wait_goes_first_with_its_time() {
        insta::assert_snapshot!(text(None, |_| true), @r"
         TASK              RAN MS  SWITCHES  WAITED MS  AVG WAIT MS  MAX WAIT MS    FROM S      TO S
         </script>[7]      10.000         1     34.000       17.000      29.000*  0.051000  0.080000
         hog|`\u{202e}[8]  78.000         2     10.000       10.000       10.000  0.007000  0.017000

        All: 88.000 ms in 3 switches. Times count from the beginning of the first step.
        * The task still had no CPU at the end of this time.
        ");
    }

    #[test]
    fn a_task_and_a_phase_can_be_asked_for() {
        let first = text(Some(1), |pid| pid == Pid(7));
        assert!(first.contains("10.000"), "{first}");
        assert!(
            !first.contains("29.000") && !first.contains("hog"),
            "{first}"
        );
    }
}
