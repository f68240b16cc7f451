//! `cargo ktstr show`: prints one recorded run as a block of text for a terminal, or as Markdown for an issue or a mail.
//!
//! The block says what failed, whose fault it is, which versions ran, which command repeats the run, and quotes the log of the
//! scheduler or the kernel.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ktstr_record::brief::{self, Excerpt, evidence, facts, headline};
use ktstr_record::{RunRecord, markdown, read, runs_root};

use crate::exit::Exit;
use crate::{captures, cell, payloads, replay};

/// The options of `cargo ktstr show`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Path of a `record.json` or of its folder, or the name of a run, which is the name of its folder.
    record: PathBuf,
    /// Print Markdown, to paste into an issue or a mail.
    #[arg(long)]
    markdown: bool,
    /// Print one capture of the run instead: sched_ext's state, the runqueues, the dispatch queues with their tasks, the
    /// scheduler's variables.
    #[arg(long, value_name = "TAG", conflicts_with = "markdown")]
    capture: Option<String>,
}

/// Writes what the record says about its run to `out`, or the capture that the options name.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let path = replay::find(&options.record, &runs_root())?;
    let record = read(&path)?;
    if let Some(tag) = &options.capture {
        out.write_all(captures::text(&record, &path, tag)?.as_bytes())?;
        return Ok(Exit::Done);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let excerpt = Excerpt::of(&record, folder);
    let again = again(&record);
    let text = match options.markdown {
        true => markdown::block(&record, again.as_deref(), excerpt.as_ref()),
        false => plain(&record, again.as_deref(), excerpt.as_ref()),
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// Returns the command that runs it again; `None` for a run of a matrix, whose record does not have all of its settings.
pub fn again(record: &RunRecord) -> Option<String> {
    brief::again(record).filter(|_| !record.test.starts_with(cell::PREFIX))
}

fn plain(record: &RunRecord, again: Option<&str>, excerpt: Option<&Excerpt>) -> String {
    let mut text = format!("{}\n", headline(record));
    for line in evidence(record) {
        let _ = writeln!(text, "  {line}");
    }
    for (name, value) in facts(record).into_iter().chain(payloads::facts(record)) {
        let _ = writeln!(text, "{name}: {value}");
    }
    text.push_str(&captures::listed(record));
    if let Some(command) = again {
        let _ = writeln!(text, "again: {command}");
    }
    if let Some(Excerpt { name, lines }) = excerpt {
        let _ = writeln!(text, "--- {name} ---");
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use ktstr_record::{Clock, FindingRecord, RunVerdict};

    use super::*;

    #[test]
    fn a_terminal_gets_lines() {
        let mut record = RunRecord {
            run_id: "20260102T030405.678Z-two_steps-7.0".to_owned(),
            ktstr: "0.1.0".to_owned(),
            verdict: RunVerdict::Fail,
            fault: Some("scheduler".to_owned()),
            evidence: Some("sched_ext notes SCX_EXIT_ERROR_STALL".to_owned()),
            findings: vec![FindingRecord {
                message: "the kernel ejected scx-ktstr\nmore".to_owned(),
                phase: Some("Step[0]".to_owned()),
                ..FindingRecord::default()
            }],
            clock: Some(Clock::Virtual),
            mips: Some(250),
            seed: Some(3),
            topology: Some("1n1l2c1t".to_owned()),
            memory_mib: Some(384),
            ..RunRecord::new("two_steps")
        };
        let excerpt = Excerpt {
            name: "scheduler.log".to_owned(),
            lines: vec!["stall (``)".to_owned()],
        };
        let command = again(&record);
        insta::assert_snapshot!(plain(&record, command.as_deref(), Some(&excerpt)), @r"
        two_steps failed, the scheduler's fault
          Step[0]: the kernel ejected scx-ktstr
          fault: sched_ext notes SCX_EXIT_ERROR_STALL
        scheduler: the kernel's own
        machine: 1n1l2c1t, 384 MiB, virtual clock, 250 MIPS, seed 3
        ktstr: 0.1.0
        again: cargo ktstr replay 20260102T030405.678Z-two_steps-7.0
        --- scheduler.log ---
            stall (``)
        ");
        record.again = Some("KTSTR_SEED=3 cargo test two_steps".to_owned());
        assert_eq!(again(&record), record.again);
        record.test = format!("{}steady", cell::PREFIX);
        assert_eq!(again(&record), None);
    }
}
