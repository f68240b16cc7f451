//! Writes the result of a check to the summary page of a CI job, if `GITHUB_STEP_SUMMARY` names a file: a table of the findings,
//! and the commands that reproduce the worst of them.
//!
//! The text is short, because all commands of a step append to the same page, and GitHub shows nothing at all of a page that is
//! larger than 1 MiB.
//! Names and messages may come from a guest, so their markup is escaped.

use std::fmt::Write;

use ktstr_record::brief::{counted, shortened};
use ktstr_record::markdown::{fence, inline};
use ktstr_record::step_summary;
use ktstr_record::terminal::eprint_line;
use ktstr_state::env::GITHUB_STEP_SUMMARY;

use super::report::{Report, Row};

/// The largest number of rows of the table. The rows are grouped by the list of the report that they come from: first the
/// kernels on which the scheduler does not load, then what is broken, then the other lists.
const ROWS: usize = 40;
/// The largest number of commands that are shown.
const COMMANDS: usize = 6;
/// The largest number of lines about kernels that are not available.
const MISSING: usize = 6;
/// The number of characters that are kept of a cell of the table that holds no message, and of the scheduler's path.
const CELL: usize = 80;
/// The number of characters that are kept of a message, in the table and below it.
const MESSAGE: usize = 240;
/// The largest length of a command in bytes. A longer one is left out, because a part of a command is of no use.
const COMMAND: usize = 1000;

/// Appends the report to the job's page, if there is one. A page that cannot be written only causes a warning, because this
/// failure shows nothing about the scheduler.
pub fn append(report: &Report) {
    let Some(file) = GITHUB_STEP_SUMMARY.get() else {
        return;
    };
    if let Err(failed) = step_summary::append_to(&file, &render(report)) {
        eprint_line(&format!(
            "warning: the result could not be appended to {}, which {GITHUB_STEP_SUMMARY} names: {failed}",
            file.display()
        ));
    }
}

/// Returns the block of Markdown that is appended to the job's page.
fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = render_to(&mut text, report);
    text
}

fn render_to(text: &mut String, report: &Report) -> std::fmt::Result {
    let path = cut(&report.scheduler.path.display().to_string(), CELL);
    let conclusion = match report.exit {
        0 => "nothing is broken that these runs can show",
        1 => "broken",
        _ => "no answer",
    };
    writeln!(text, "### cargo ktstr check: {path}: {conclusion}\n")?;
    let shard = report.shard.as_deref().map_or_else(String::new, |shard| {
        format!(", shard {} of the check", cut(shard, CELL))
    });
    writeln!(
        text,
        "{} (level {}{shard}): {} sound, {} without an answer, {} skipped because the scenario is not for the shape, {} left out.\n",
        counted(report.runs, "run"),
        report.level,
        report.sound,
        report.runs - report.judged - report.skipped,
        report.skipped,
        report.not_started
    )?;
    let rows = rows(report);
    if !rows.is_empty() {
        text.push_str("| | Scenario | Kernel | Shape | Seeds | Check | Message |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        for row in rows.iter().take(ROWS) {
            writeln!(text, "| {} |", row.join(" | "))?;
        }
        text.push('\n');
    }
    if rows.len() > ROWS {
        let more = rows.len() - ROWS;
        writeln!(
            text,
            "and {} more: `--json` and `--html` have all.\n",
            counted(more, "row")
        )?;
    }
    for kernel in report.missing_kernels.iter().take(MISSING) {
        writeln!(text, "not run: {}\n", cut(kernel, MESSAGE))?;
    }
    if report.missing_kernels.len() > MISSING {
        let more = report.missing_kernels.len() - MISSING;
        let more = counted(more, "kernel");
        writeln!(text, "and {more} more that were not run.\n")?;
    }
    commands(text, report);
    Ok(())
}

/// Returns the cells of all rows, the worst list first.
fn rows(report: &Report) -> Vec<[String; 7]> {
    let mut rows = Vec::new();
    for kernel in &report.not_loaded {
        let reason = kernel.reason.first().map_or("", String::as_str);
        rows.push([
            "**DOES NOT LOAD**".to_owned(),
            String::new(),
            cut(&kernel.kernel, CELL),
            String::new(),
            counted(kernel.runs, "run"),
            match kernel.blamed {
                true => String::new(),
                false => "not the scheduler's fault".to_owned(),
            },
            cut(reason, MESSAGE),
        ]);
    }
    for (name, list) in [
        ("**BROKEN**", &report.broken),
        ("KNOWN", &report.known),
        ("SLOWER THAN EEVDF", &report.slower),
        ("NO ANSWER", &report.no_answer),
        ("NOT PROMISED", &report.not_promised),
    ] {
        rows.extend(list.iter().map(|row| cells(name, row)));
    }
    rows
}

fn cells(list: &str, row: &Row) -> [String; 7] {
    [
        list.to_owned(),
        cut(&row.scenario, CELL),
        cut(&row.kernel, CELL),
        cut(&row.topology, CELL),
        format!("{} of {}", row.seeds.len(), row.of),
        cut(&row.check, CELL),
        cut(&row.message, MESSAGE),
    ]
}

/// Appends the commands that reproduce what counts against the scheduler.
fn commands(text: &mut String, report: &Report) {
    let not_loaded = report.not_loaded.iter().filter(|kernel| kernel.blamed);
    let again = not_loaded.map(|kernel| &kernel.again);
    let again = again.chain(report.broken.iter().map(|row| &row.again));
    let short = again.filter(|command| command.len() <= COMMAND);
    // Several rows of one run have the same command.
    let mut lines: Vec<String> = Vec::new();
    for command in short {
        if lines.len() < COMMANDS && !lines.contains(command) {
            lines.push(command.clone());
        }
    }
    if !lines.is_empty() {
        text.push_str("Run it again:\n\n");
        fence(text, "sh", &lines);
    }
}

/// Returns the first `most` characters of a text, with an ellipsis if it is longer, and with the markup escaped.
fn cut(text: &str, most: usize) -> String {
    inline(&shortened(text, most))
}

#[cfg(test)]
mod tests {
    use super::super::report::NotLoaded;
    use super::super::testing::results;
    use super::*;

    #[test]
    fn the_block() {
        insta::assert_snapshot!(render(&results().report()), @r"
        ### cargo ktstr check: ./scx\_mine: broken

        5 runs (level quick): 2 sound, 1 without an answer, 0 skipped because the scenario is not for the shape, 0 left out.

        | | Scenario | Kernel | Shape | Seeds | Check | Message |
        | --- | --- | --- | --- | --- | --- | --- |
        | **BROKEN** | steady | 7.3.4 | 1n1l2c1t | 1 of 2 | starvation | starvation of &lt;worker&gt; |
        | NO ANSWER | sweep | 7.3.4 | own | 1 of 1 | no answer | the disk is full |
        | NOT PROMISED | bursts | 7.3.4 | 1n1l2c1t | 1 of 1 | spread | spread of &lt;worker&gt; |

        Run it again:

        ```sh
        cargo ktstr check ./scx_mine --scenarios steady --kernels 7.3.4-ab --seeds 1..2 -- --fast
        ```
        ");
    }

    #[test]
    fn the_command_of_a_run_is_printed_once() {
        let mut report = results().report();
        let mut second = report.broken[0].clone();
        second.check = "isolation".to_owned();
        report.broken.push(second);
        let text = render(&report);
        assert_eq!(text.matches("| **BROKEN** |").count(), 2, "{text}");
        assert_eq!(
            text.matches("cargo ktstr check ./scx_mine").count(),
            1,
            "{text}"
        );
    }

    #[test]
    fn text_of_a_guest_ends_no_cell_and_opens_no_tag() {
        let mut report = results().report();
        let hostile = "a | b\n| c `d` <img src=x> @team #1 [x](http://y) \u{1b}[2J\u{202e}";
        let row = &mut report.broken[0];
        (row.scenario, row.check, row.message) = (hostile.into(), hostile.into(), hostile.into());
        row.again = "cargo ktstr check './a```b'".to_owned();
        report.missing_kernels.push(hostile.to_owned());
        report.not_loaded.push(NotLoaded {
            kernel: hostile.to_owned(),
            reason: vec![hostile.to_owned()],
            blamed: true,
            runs: 1,
            again: "one\n```\n# two".to_owned(),
            record: None,
        });
        let text = render(&report);
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            let bars = line.matches('|').count() - line.matches("\\|").count();
            assert_eq!(bars, 8, "{line}");
        }
        for raw in [
            "<img", " @team", " #1", " [x]", "\u{1b}", "\u{202e}", "\n| c",
        ] {
            assert!(!text.contains(raw), "{raw:?} is in\n{text}");
        }
        // The fence is longer than the backticks in it, so neither command ends it.
        let fences = text.lines().filter(|line| line.starts_with("````"));
        assert_eq!(fences.collect::<Vec<_>>(), ["````sh", "````"], "{text}");
    }

    #[test]
    fn the_block_is_bounded_and_counts_the_rest() {
        let mut report = results().report();
        let long = "&".repeat(100_000);
        let mut row = report.broken[0].clone();
        (row.scenario, row.message, row.again) = (long.clone(), long.clone(), long.clone());
        row.seeds = (0..10_000).collect();
        report.broken = vec![row; 5_000];
        report.missing_kernels = vec![long; 50];
        let text = render(&report);
        assert!(text.len() < 100_000, "{} bytes", text.len());
        let all = rows(&report).len();
        let rest = format!(
            "\nand {} rows more: `--json` and `--html` have all.\n",
            all - ROWS
        );
        assert!(text.contains(&rest), "{rest}");
        assert!(text.contains("\nand 44 kernels more that were not run.\n"));
        assert!(text.contains("| 10000 of "), "seeds are counted");
    }
}
