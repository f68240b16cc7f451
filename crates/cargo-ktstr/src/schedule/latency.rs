//! `cargo ktstr schedule RUN --latency`: prints one line per task, with the time that the task ran, how often it got a CPU,
//! its average and its longest wait for a CPU, and the times at which the longest wait began and ended. The
//! columns are those of `perf sched latency`, plus the total time of waiting.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use ktstr_schedule::Pid;
use ktstr_schedule::query::Wait;

use super::escape;
use crate::story::Story;
use crate::table::numbers;

/// The line of a task. Times are in nanoseconds.
#[derive(Debug, Default)]
struct Row {
    ran: u64,
    switches: u64,
    /// The time that the task waited. Only the part of each wait that lies in the phase counts.
    waited: u64,
    waits: u64,
    /// The sum of the lengths of the waits. A wait counts with its whole length, even if it began before the phase.
    lengths: u64,
    longest: Option<Wait>,
}

/// Prints the table of the tasks that `wanted` accepts; the task with the longest wait comes first. If `phase` is given,
/// only the time of that phase counts.
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
            row.waited += totals.wait_ns;
        }
    }
    for wait in story.answers.waits_of(phase) {
        if wanted(wait.task) {
            let row = rows.entry(wait.task).or_default();
            row.waits += 1;
            row.lengths += wait.len_ns();
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
            ms(row.lengths / row.waits.max(1)),
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

    /// A task waits from 10 ms on, for 20 ms of the first step and 5 ms of the second one, which begins at 40 ms.
    #[test]
    fn a_step_has_only_the_part_of_a_wait_that_lies_in_it() {
        use ktstr_schedule::{Class, Cpu, Event, Reason, Tables, What, Writer};
        let mut writer = Writer::default();
        let enqueue = What::Enqueue {
            task: Pid(7),
            on: Cpu(0),
            class: Class::Fair,
            wakeup: true,
        };
        let switch = What::Switch {
            prev: Pid(8),
            next: Pid(7),
            reason: Reason::Slept,
        };
        for (ms, what) in [
            (5, What::Phase { number: 1 }),
            (10, enqueue),
            (30, What::End {}),
            (40, What::Phase { number: 2 }),
            (45, switch),
            (50, What::End {}),
        ] {
            writer.push(Event {
                time_ns: ms * 1_000_000,
                cpu: Cpu(0),
                what,
            });
        }
        let story = Story::read(&writer.finish(&Tables::default())).unwrap();
        let mut out = Vec::new();
        print(&mut out, &story, Some(2), |pid| pid == Pid(7)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        // The wait that ended in the step began before it, and has its whole length.
        assert_eq!(row[3..6], ["5.000", "35.000", "35.000"], "{text}");
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
