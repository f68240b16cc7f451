//! `cargo ktstr show`: prints one recorded run as a block of text for a terminal, or as Markdown for an issue or a mail.
//!
//! The block says what failed, whose fault it is, which versions ran, and which command repeats the run. It quotes the log
//! of the scheduler or the kernel.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ktstr_record::brief::{self, Excerpt, evidence, facts, headline};
use ktstr_record::{
    CaptureMoment, CaptureRecord, Repeated, RunRecord, markdown, read, repeat_of, runs_root,
};

use crate::exit::Exit;
use crate::{captures, cell, payloads, replay, story};

/// The options of `cargo ktstr show`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run: its name or the start of it, as `cargo ktstr runs` lists it, or the path of its folder or of its `record.json`.
    #[arg(value_name = "RUN")]
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
    if options.markdown {
        let block = markdown::block(&record, again.as_deref(), excerpt.as_ref());
        out.write_all(block.as_bytes())?;
        return Ok(Exit::Done);
    }
    let zero_ns = story::zero_of(&path);
    let captured = captures::listed(&record, zero_ns);
    let why = brief::why(&record).filter(|_| zero_ns.is_some());
    let commands = [("why", why), ("again", again)];
    let mut text = plain(&record, &captured, &commands, excerpt.as_ref());
    for line in repeats(&record, &path) {
        let _ = writeln!(text, "{line}");
    }
    out.write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// Returns the command that runs the test again; `None` if the record gives none, or if the run is one of `check`,
/// `compare`, `power` or `verifier`, whose records do not have all settings of the run.
pub fn again(record: &RunRecord) -> Option<String> {
    brief::again(record).filter(|_| !record.test.starts_with(cell::PREFIX))
}

/// Returns sentences about the run that this one repeats, and about the repeat of this one.
pub fn repeats(record: &RunRecord, path: &Path) -> Vec<String> {
    let outcome = |repeated: Repeated| match repeated {
        Repeated::Same => "the two runs are identical to the last bit",
        Repeated::Different => "the two runs differ",
        Repeated::Unknown => "whether the two runs are identical is unknown",
        Repeated::FailedAgain => "it failed again",
        Repeated::DidNotFailAgain => "it did not fail again",
    };
    let mut lines = Vec::new();
    if let Some(first) = &record.repeats {
        let outcome = outcome(first.outcome);
        lines.push(format!("This run repeats {}: {outcome}.", first.run));
    }
    if let Some(repeat) = repeat_of(record, path) {
        let outcome = repeat.repeats.as_ref().map_or("", |of| outcome(of.outcome));
        let asked = |capture: &&CaptureRecord| capture.moment == Some(CaptureMoment::Asked);
        let tag = repeat.captures.iter().rfind(asked);
        let (what, tag) = match tag {
            Some(tag) => ("A capture of the repeat", format!(" --capture {}", tag.tag)),
            None => ("The repeat", String::new()),
        };
        lines.push(format!(
            "The run was repeated: {outcome}. {what}: cargo ktstr show {}{tag}",
            repeat.run_id
        ));
    }
    lines
}

fn plain(
    record: &RunRecord,
    captured: &str,
    commands: &[(&str, Option<String>)],
    excerpt: Option<&Excerpt>,
) -> String {
    let mut text = format!("{}\n", headline(record));
    for line in evidence(record) {
        let _ = writeln!(text, "  {line}");
    }
    if !record.trail.is_empty() {
        let _ = writeln!(text, "trail: {}", record.trail.join("\n  "));
    }
    for (name, value) in facts(record).into_iter().chain(payloads::facts(record)) {
        let _ = writeln!(text, "{name}: {value}");
    }
    text.push_str(captured);
    for (name, command) in commands {
        if let Some(command) = command {
            let _ = writeln!(text, "{name}: {command}");
        }
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
    #![allow(clippy::unwrap_used)]
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
        let commands = [("why", None), ("again", again(&record))];
        insta::assert_snapshot!(plain(&record, "", &commands, Some(&excerpt)), @r"
        two_steps failed, the scheduler's fault
          step 1: the kernel ejected scx-ktstr
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

    #[test]
    fn a_run_and_its_repeat_name_each_other() {
        use ktstr_record::{RepeatRecord, RunDir};
        let root = tempfile::tempdir().unwrap();
        let written = |record: RunRecord| {
            let path = RunDir::create(root.path(), "t")
                .unwrap()
                .commit(record)
                .unwrap();
            (read(&path).unwrap(), path)
        };
        let (first, of_first) = written(RunRecord::new("t"));
        assert!(repeats(&first, &of_first).is_empty());
        let mut repeat = RunRecord::new("t");
        repeat.repeats = Some(RepeatRecord {
            run: first.run_id.clone(),
            outcome: Repeated::Same,
            text: String::new(),
        });
        repeat.captures.push(CaptureRecord {
            tag: "chosen_time".to_owned(),
            moment: Some(CaptureMoment::Asked),
            ..CaptureRecord::default()
        });
        let (repeat, of_repeat) = written(repeat);
        // Another run of the same process repeats nothing.
        let _other = written(RunRecord::new("t"));
        assert_eq!(
            repeats(&first, &of_first),
            [format!(
                "The run was repeated: the two runs are identical to the last bit. A capture of the repeat: cargo ktstr show {} --capture chosen_time",
                repeat.run_id
            )]
        );
        assert_eq!(
            repeats(&repeat, &of_repeat),
            [format!(
                "This run repeats {}: the two runs are identical to the last bit.",
                first.run_id
            )]
        );
    }
}
