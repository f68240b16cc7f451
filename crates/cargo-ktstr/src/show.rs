//! `cargo ktstr show`: one recorded run as a block of text, for a terminal, or as Markdown for an issue or a mail.
//!
//! It says what failed and whose fault that is, on which versions, with which command to see it again, and an excerpt of
//! what the scheduler or the kernel said. All of that may come from a guest, so Markdown gets it in fences that it cannot close.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use ktstr_record::{Clock, RunRecord, RunVerdict, read, runs_root};

use crate::exit::Exit;
use crate::replay;

/// Findings that are shown: the record has the rest.
const MOST_FINDINGS: usize = 10;
/// Lines of the excerpt.
const MOST_LINES: usize = 40;
/// How a dump of sched_ext begins (`scx_dump_state` in kernel/sched/ext.c, from 6.12 on).
const DUMP: &str = " triggered exit kind ";

/// What was asked for.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Path of a `record.json` or of its folder, or the name of a run, which is the name of its folder.
    record: PathBuf,
    /// Print Markdown, to paste into an issue or a mail.
    #[arg(long)]
    markdown: bool,
}

/// Prints the block.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let path = replay::find(&options.record, &runs_root())?;
    let record = read(&path)?;
    let excerpt = ["scheduler.log", "console.log"]
        .into_iter()
        .filter(|name| record.artefacts.iter().any(|artefact| artefact == name))
        .find_map(|name| {
            // It may have been deleted since; then there is nothing to show of it.
            let bytes = std::fs::read(path.with_file_name(name)).ok()?;
            let lines = excerpt(&String::from_utf8_lossy(&bytes))?;
            Some((name, lines))
        })
        .filter(|_| record.verdict != RunVerdict::Pass);
    let text = match options.markdown {
        true => markdown(&record, excerpt.as_ref()),
        false => plain(&record, excerpt.as_ref()),
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// The beginning of sched_ext's dump, else the last lines.
fn excerpt(log: &str) -> Option<Vec<String>> {
    let lines: Vec<&str> = log.lines().collect();
    let dump = lines.iter().position(|line| line.contains(DUMP));
    let from = dump.unwrap_or(lines.len().saturating_sub(MOST_LINES));
    let some = lines.into_iter().skip(from).take(MOST_LINES);
    let some: Vec<String> = some.map(str::to_owned).collect();
    (!some.is_empty()).then_some(some)
}

/// The first line: what became of what.
fn headline(record: &RunRecord) -> String {
    let fault = record
        .fault
        .as_deref()
        .map_or_else(String::new, |fault| match fault {
            "undetermined" => ", and whose fault it is is undetermined".to_owned(),
            fault => format!(", the {fault}'s fault"),
        });
    let verdict = match record.verdict {
        RunVerdict::Pass => "passed",
        RunVerdict::Fail => "failed",
        RunVerdict::Inconclusive => "came to no answer",
        RunVerdict::Skip => "was skipped",
    };
    format!("{} {verdict}{fault}", record.test)
}

/// What it ran on, by name.
fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let scheduler = record.scheduler.as_ref().map(|scheduler| {
        let mut text = scheduler
            .version
            .clone()
            .unwrap_or_else(|| scheduler.name.clone());
        for arg in &scheduler.args {
            let _ = write!(text, " {arg}");
        }
        if let Some(hash) = &scheduler.hash {
            let _ = write!(text, ", BLAKE3 {hash:.12}");
        }
        text
    });
    facts.push((
        "scheduler",
        scheduler.unwrap_or_else(|| "the kernel's own".to_owned()),
    ));
    facts.extend(record.kernel.clone().map(|kernel| ("kernel", kernel)));
    let clock = match record.clock {
        Some(Clock::Virtual) => format!(
            "virtual clock, {} MIPS, seed {}",
            record.mips.unwrap_or(0),
            record.seed.unwrap_or(0)
        ),
        Some(Clock::Real) => "real clock".to_owned(),
        None => "no machine was started".to_owned(),
    };
    let shape = record.topology.clone().into_iter();
    let memory = record.memory_mib.map(|mib| format!("{mib} MiB"));
    let machine: Vec<String> = shape.chain(memory).chain([clock]).collect();
    facts.push(("machine", machine.join(", ")));
    let qemu = record.qemu.as_ref();
    let qemu = qemu.map_or_else(String::new, |qemu| format!(", QEMU {qemu}"));
    facts.push(("ktstr", format!("{}{qemu}", record.ktstr)));
    facts
}

/// What speaks for the verdict, a line each.
fn evidence(record: &RunRecord) -> Vec<String> {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = record
        .findings
        .iter()
        .take(MOST_FINDINGS)
        .map(|finding| match &finding.phase {
            Some(phase) => format!("{phase}: {}", first_line(&finding.message)),
            None => first_line(&finding.message),
        })
        .collect();
    if record.findings.len() > MOST_FINDINGS {
        lines.push(format!(
            "and {} more findings",
            record.findings.len() - MOST_FINDINGS
        ));
    }
    let fault = record.evidence.as_ref();
    lines.extend(fault.map(|evidence| format!("fault: {evidence}")));
    lines
}

/// The command that shows it again, on the machine that it ran on.
fn again(record: &RunRecord) -> Option<String> {
    (record.clock == Some(Clock::Virtual)).then(|| format!("cargo ktstr replay {}", record.run_id))
}

fn plain(record: &RunRecord, excerpt: Option<&(&str, Vec<String>)>) -> String {
    let mut text = format!("{}\n", headline(record));
    for line in evidence(record) {
        let _ = writeln!(text, "  {line}");
    }
    for (name, value) in facts(record) {
        let _ = writeln!(text, "{name}: {value}");
    }
    if let Some(command) = again(record) {
        let _ = writeln!(text, "again: {command}");
    }
    if let Some((name, lines)) = excerpt {
        let _ = writeln!(text, "--- {name} ---");
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

fn markdown(record: &RunRecord, excerpt: Option<&(&str, Vec<String>)>) -> String {
    let mut text = format!("### {}\n\n", inline(&headline(record)));
    let evidence = evidence(record);
    if !evidence.is_empty() {
        fence(&mut text, &evidence);
        text.push('\n');
    }
    text.push_str("| | |\n| --- | --- |\n");
    for (name, value) in facts(record) {
        let _ = writeln!(text, "| {name} | {} |", inline(&value));
    }
    if let Some(command) = again(record) {
        let _ = writeln!(text, "| again | {} |", inline(&command));
    }
    if let Some((name, lines)) = excerpt {
        let _ = write!(text, "\n<details><summary>{name}</summary>\n\n",);
        fence(&mut text, lines);
        text.push_str("\n</details>\n");
    }
    text
}

/// Text in the middle of a line of Markdown: what would be markup there is not.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '@' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Lines in a fence that is longer than any run of backticks in them.
fn fence(text: &mut String, lines: &[String]) {
    let longest = lines.iter().flat_map(|line| line.split(|c| c != '`'));
    let longest = longest.map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let _ = writeln!(text, "{fence}text");
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "{fence}");
}

#[cfg(test)]
mod tests {
    use ktstr_record::{FindingRecord, SchedulerRecord};

    use super::*;

    fn record() -> RunRecord {
        let finding = |message: &str| FindingRecord {
            message: message.to_owned(),
            phase: Some("Step[0]".to_owned()),
            ..FindingRecord::default()
        };
        RunRecord {
            run_id: "20260102T030405.678Z-two_steps-7.0".to_owned(),
            ktstr: "0.1.0".to_owned(),
            verdict: RunVerdict::Fail,
            fault: Some("scheduler".to_owned()),
            evidence: Some("sched_ext notes SCX_EXIT_ERROR_STALL".to_owned()),
            findings: vec![
                finding("the kernel ejected scx-ktstr\nmore"),
                finding("```\n"),
            ],
            kernel: Some("7.3.4".to_owned()),
            clock: Some(Clock::Virtual),
            mips: Some(250),
            seed: Some(3),
            topology: Some("1n1l2c1t".to_owned()),
            memory_mib: Some(384),
            qemu: Some("10.0.2".to_owned()),
            scheduler: Some(SchedulerRecord {
                name: "mine".to_owned(),
                version: Some("scx_mine 1.2 <dev|x>".to_owned()),
                hash: Some("e5b2ff64676c0000".to_owned()),
                args: vec!["--slow".to_owned()],
                ..SchedulerRecord::default()
            }),
            ..RunRecord::new("two_steps")
        }
    }

    #[test]
    fn a_terminal_gets_lines() {
        let log = excerpt("noise\nktstr[7] triggered exit kind 1026:\n  stall (``)\n");
        let excerpt = log.map(|lines| ("scheduler.log", lines));
        insta::assert_snapshot!(plain(&record(), excerpt.as_ref()), @r"
        two_steps failed, the scheduler's fault
          Step[0]: the kernel ejected scx-ktstr
          Step[0]: ```
          fault: sched_ext notes SCX_EXIT_ERROR_STALL
        scheduler: scx_mine 1.2 <dev|x> --slow, BLAKE3 e5b2ff64676c
        kernel: 7.3.4
        machine: 1n1l2c1t, 384 MiB, virtual clock, 250 MIPS, seed 3
        ktstr: 0.1.0, QEMU 10.0.2
        again: cargo ktstr replay 20260102T030405.678Z-two_steps-7.0
        --- scheduler.log ---
            ktstr[7] triggered exit kind 1026:
              stall (``)
        ");
    }

    #[test]
    fn markdown_holds_what_a_guest_says_in_fences_that_it_cannot_close() {
        let log = excerpt("one\ntwo ````\n").map(|lines| ("scheduler.log", lines));
        insta::assert_snapshot!(markdown(&record(), log.as_ref()), @r"
        ### two\_steps failed, the scheduler's fault

        ````text
        Step[0]: the kernel ejected scx-ktstr
        Step[0]: ```
        fault: sched_ext notes SCX_EXIT_ERROR_STALL
        ````

        | | |
        | --- | --- |
        | scheduler | scx\_mine 1.2 &lt;dev\|x> --slow, BLAKE3 e5b2ff64676c |
        | kernel | 7.3.4 |
        | machine | 1n1l2c1t, 384 MiB, virtual clock, 250 MIPS, seed 3 |
        | ktstr | 0.1.0, QEMU 10.0.2 |
        | again | cargo ktstr replay 20260102T030405.678Z-two\_steps-7.0 |

        <details><summary>scheduler.log</summary>

        `````text
        one
        two ````
        `````

        </details>
        ");
    }

    #[test]
    fn a_run_without_a_machine_says_so() {
        let bare = RunRecord::new("bare");
        let text = plain(&bare, None);
        assert!(text.contains("bare came to no answer\n"), "{text}");
        assert!(text.contains("no machine was started"), "{text}");
        assert!(!text.contains("again:"), "{text}");
    }

    #[test]
    fn many_findings_are_counted() {
        let mut many = record();
        many.findings = vec![FindingRecord::default(); MOST_FINDINGS + 3];
        assert!(evidence(&many).contains(&"and 3 more findings".to_owned()));
    }
}
