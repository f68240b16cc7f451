//! A recorded run as a block of Markdown, to paste into an issue or a mail.
//!
//! Names, messages and logs may come from a guest. Within a line their markup is escaped; whole lines are put into fences
//! that they cannot close; and control characters are shown in the form `\u001b`.

use std::fmt::Write as _;

use crate::RunRecord;
use crate::brief::{Excerpt, evidence, facts, headline};
use crate::terminal::escaped;

/// Returns the block: what failed, the evidence, the last events of the task that the first finding is about or of the
/// scheduler (`trail`), the versions, the command `again` that runs the test once more, and an excerpt of the guest's output.
#[must_use]
pub fn block(record: &RunRecord, again: Option<&str>, excerpt: Option<&Excerpt>) -> String {
    let mut text = format!("### {}\n\n", inline(&headline(record)));
    let evidence = evidence(record);
    if !evidence.is_empty() {
        fence(&mut text, "text", &evidence);
        text.push('\n');
    }
    if !record.trail.is_empty() {
        fence(&mut text, "text", &record.trail);
        text.push('\n');
    }
    text.push_str("| | |\n| --- | --- |\n");
    for (name, value) in facts(record) {
        let _ = writeln!(text, "| {name} | {} |", inline(&value));
    }
    let _ = writeln!(text, "| run | {} |", inline(&record.run_id));
    if let Some(command) = again {
        text.push_str("\nRun it again, where this run was recorded:\n\n");
        fence(&mut text, "sh", &[command.to_owned()]);
    }
    if let Some(Excerpt { name, lines }) = excerpt {
        let name = inline(name);
        let _ = write!(text, "\n<details><summary>{name}</summary>\n\n");
        fence(&mut text, "text", lines);
        text.push_str("\n</details>\n");
    }
    text
}

/// Escapes text for use within a line of Markdown, as in a cell of a table: it stays one line and has no markup.
#[must_use]
pub fn inline(text: &str) -> String {
    let mut out = String::new();
    for c in escaped(&text.replace('\r', " ")).chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '@' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Appends lines between fences that are longer than any run of backticks in the lines, so that no line can close the fence.
/// `kind` is the language after the opening fence.
pub fn fence(text: &mut String, kind: &str, lines: &[String]) {
    // A line break within an item of `lines` would begin a new line, so it becomes a space. `escaped` removes changes of colour,
    // which can join two runs of backticks, so the runs are measured behind it.
    let lines = lines.iter().map(|line| line.replace(['\n', '\r'], " "));
    let lines: Vec<String> = lines.map(|line| escaped(&line).into_owned()).collect();
    let runs = lines.iter().flat_map(|line| line.split(|c| c != '`'));
    let longest = runs.map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let _ = writeln!(text, "{fence}{kind}");
    for line in &lines {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "{fence}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, FindingRecord, RunVerdict, SchedulerRecord};

    #[test]
    fn what_a_guest_says_is_held_in_fences_that_it_cannot_close() {
        let finding = |message: &str| FindingRecord {
            message: message.to_owned(),
            phase: Some("Step[0]".to_owned()),
            ..FindingRecord::default()
        };
        let record = RunRecord {
            run_id: "20260102T030405.678Z-two_steps-7.0".to_owned(),
            ktstr: "0.1.0".to_owned(),
            verdict: RunVerdict::Fail,
            fault: Some("scheduler".to_owned()),
            evidence: Some("sched_ext notes SCX_EXIT_ERROR_STALL\r```".to_owned()),
            findings: vec![
                finding("the kernel ejected scx-ktstr\nmore"),
                finding("``` \u{1b}[2J<img src=x>\n"),
            ],
            kernel: Some("7.3.4".to_owned()),
            kernel_hash: Some("0123456789abcdef".to_owned()),
            clock: Some(Clock::Virtual),
            mips: Some(250),
            seed: Some(3),
            topology: Some("1n1l2c1t".to_owned()),
            memory_mib: Some(384),
            qemu: Some("10.0.2".to_owned()),
            scheduler: Some(SchedulerRecord {
                name: "mine".to_owned(),
                path: Some("/opt/scx_mine".into()),
                version: Some("scx_mine 1.2 <dev|x>\u{202e}".to_owned()),
                hash: Some("e5b2ff64676c0000".to_owned()),
                args: vec!["--slow".to_owned()],
                ..SchedulerRecord::default()
            }),
            ..RunRecord::new("two_steps")
        };
        let log = Excerpt::in_text("scheduler.log", "one\ntwo ````\u{9b}2J\n");
        let again = crate::brief::again(&record);
        insta::assert_snapshot!(block(&record, again.as_deref(), log.as_ref()), @r"
        ### two\_steps failed, the scheduler's fault

        ````text
        step 1: the kernel ejected scx-ktstr
        step 1: ``` \u001b[2J<img src=x>
        fault: sched_ext notes SCX_EXIT_ERROR_STALL ```
        ````

        | | |
        | --- | --- |
        | scheduler | scx\_mine 1.2 &lt;dev\|x&gt;\\u202e --slow, /opt/scx\_mine, BLAKE3 e5b2ff64676c |
        | kernel | 7.3.4, image SHA-256 0123456789ab |
        | machine | 1n1l2c1t, 384 MiB, virtual clock, 250 MIPS, seed 3 |
        | ktstr | 0.1.0, QEMU 10.0.2 |
        | run | 20260102T030405.678Z-two\_steps-7.0 |

        Run it again, where this run was recorded:

        ```sh
        cargo ktstr replay 20260102T030405.678Z-two_steps-7.0
        ```

        <details><summary>scheduler.log</summary>

        `````text
        one
        two ````\u009b2J
        `````

        </details>
        ");
    }

    #[test]
    fn a_change_of_colour_does_not_hide_a_run_of_backticks() {
        let mut text = String::new();
        fence(&mut text, "text", &["``\u{1b}[m`".to_owned()]);
        assert_eq!(text, "````text\n```\n````\n");
    }
}
