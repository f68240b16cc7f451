//! The summary of a recorded run for people: its verdict, the versions, the evidence, and the command that runs it again. Each
//! part is data or a plain line; [`crate::markdown`] and the commands do the layout.

use std::borrow::Cow;
use std::fmt::Display;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::{Clock, RunRecord, RunVerdict};

/// The largest number of findings in a summary; the record has the rest.
pub const MOST_FINDINGS: usize = 9;
/// The largest number of lines of an excerpt, without the line that counts the lines that are left out.
const MOST_LINES: usize = 40;
/// The text in the first line of a dump of sched_ext (`scx_dump_state` in kernel/sched/ext.c, from 6.12 on).
const DUMP: &str = " triggered exit kind ";

/// Returns the first `most` characters of `text`, followed by an ellipsis if characters are left out. Use this for texts in a
/// table or on a page of limited size.
#[must_use]
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// Returns a number with its noun, such as `1 run` or `2 runs`. The plural of `noun` must end in an s.
#[must_use]
pub fn counted<N: PartialEq + From<u8> + Display>(count: N, noun: &str) -> String {
    match count == N::from(1) {
        true => format!("{count} {noun}"),
        false => format!("{count} {noun}s"),
    }
}

/// Returns the first line of the summary: the name of the test, its verdict, and whose fault a failure is.
#[must_use]
pub fn headline(record: &RunRecord) -> String {
    let fault = match record.fault.as_deref() {
        None => String::new(),
        Some("undetermined") => ", and it is undetermined whose fault that is".to_owned(),
        Some(fault) => format!(", the {fault}'s fault"),
    };
    let verdict = match record.verdict {
        RunVerdict::Pass => "passed",
        RunVerdict::Fail => "failed",
        RunVerdict::Inconclusive => "was inconclusive",
        RunVerdict::Skip => "was skipped",
    };
    format!("{} {verdict}{fault}", record.test)
}

/// Returns what the run ran on, as pairs of a name and a text in display order.
#[must_use]
pub fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    let mut facts = vec![("scheduler", scheduler(record))];
    if let Some(kernel) = &record.kernel {
        let hash = record.kernel_hash.as_ref();
        let hash = hash.map_or_else(String::new, |hash| format!(", image SHA-256 {hash:.12}"));
        facts.push(("kernel", format!("{kernel}{hash}")));
    }
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

fn scheduler(record: &RunRecord) -> String {
    let Some(scheduler) = &record.scheduler else {
        return "the kernel's own".to_owned();
    };
    let name = scheduler.version.as_ref().unwrap_or(&scheduler.name);
    let mut text = name.clone();
    for arg in &scheduler.args {
        let _ = write!(text, " {arg}");
    }
    if let Some(path) = &scheduler.path {
        let _ = write!(text, ", {}", path.display());
    }
    if let Some(hash) = &scheduler.hash {
        let _ = write!(text, ", BLAKE3 {hash:.12}");
    }
    text
}

/// Returns the name under which screens show the phase with this label in the record: `step 1` for `Step[0]`. An empty label
/// stands for the whole run.
#[must_use]
pub fn step(label: &str) -> String {
    let index = label
        .strip_prefix("Step[")
        .and_then(|rest| rest.strip_suffix(']'));
    match (label, index.and_then(|index| index.parse::<u32>().ok())) {
        ("", _) => "whole run".to_owned(),
        (_, Some(index)) => format!("step {}", index.saturating_add(1)),
        (other, None) => other.to_lowercase(),
    }
}

/// Returns the first line of a message. If the message quotes a log, this line ends with a clause such as "; its last output:",
/// which is left out, because the quote does not follow.
#[must_use]
pub fn first_line(message: &str) -> &str {
    let mut lines = message.lines();
    let line = lines.next().unwrap_or_default();
    let is_quote = lines.next().is_some() && line.ends_with(':');
    match line.rsplit_once("; ").filter(|_| is_quote) {
        Some((line, _)) => line,
        None => line,
    }
}

/// Returns the evidence for the verdict, at most ten lines.
#[must_use]
pub fn evidence(record: &RunRecord) -> Vec<String> {
    let first_findings = |count: usize| {
        let findings = record.findings.iter().take(count);
        findings.map(|finding| {
            let phase = finding
                .phase
                .iter()
                .map(|label| format!("{}: ", step(label)));
            let cgroup = finding.cgroup.iter().map(|cgroup| format!(" [{cgroup}]"));
            let message = [first_line(&finding.message).to_owned()];
            phase.chain(message).chain(cgroup).collect()
        })
    };
    let fault = record.evidence.as_ref();
    let fault = fault.map(|evidence| format!("fault: {evidence}"));
    // The last line is about the fault, if there is one; before it comes the number of findings that are left out.
    if record.findings.len() <= MOST_FINDINGS {
        return first_findings(MOST_FINDINGS).chain(fault).collect();
    }
    let shown = MOST_FINDINGS - 1;
    let is_cut = |omitted: &String| omitted.starts_with(crate::record::FINDINGS);
    let at_least = match record.omitted.iter().any(is_cut) {
        true => "at least ",
        false => "",
    };
    let more = format!(
        "and {at_least}{} more findings",
        record.findings.len() - shown
    );
    first_findings(shown).chain([more]).chain(fault).collect()
}

/// Returns the command that runs the test again. If the record has none, as in older versions of ktstr, returns the command that
/// replays the run; `None` if the run cannot be replayed, because its clock was not virtual.
#[must_use]
pub fn again(record: &RunRecord) -> Option<String> {
    let replay = || format!("cargo ktstr replay {}", record.run_id);
    let replayed = (record.clock == Some(Clock::Virtual)).then(replay);
    record.again.clone().or(replayed)
}

/// Returns the command that explains the longest wait of the first task that a finding names; `None` if no finding names
/// one. The command needs the run's schedule.
#[must_use]
pub fn why(record: &RunRecord) -> Option<String> {
    let pid = record
        .findings
        .iter()
        .find_map(|finding| pid(&finding.data))?;
    Some(format!("cargo ktstr why {} {pid}", record.run_id))
}

/// Returns the process ID of the first task that the data of a finding names, in a field `tid`, or in a field `task` or `who`
/// with a text such as `comm[7]`.
fn pid(data: &Value) -> Option<u64> {
    let fields = data.as_object()?;
    let task = |text: &str| text.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok();
    let own = fields.get("tid").and_then(Value::as_u64);
    let named = |name: &str| fields.get(name)?.as_str().and_then(task);
    let own = own.or_else(|| named("task")).or_else(|| {
        let who = fields.get("who")?.as_str()?;
        (!who.starts_with("cgroup "))
            .then(|| named("who"))
            .flatten()
    });
    own.or_else(|| fields.values().find_map(pid))
}

/// The most informative lines of the guest's output, for a run that did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The artefact that the lines are from.
    pub name: String,
    /// The lines, as the guest wrote them.
    pub lines: Vec<String>,
}

impl Excerpt {
    /// Returns the excerpt of the run whose record is in `folder`: the beginning of sched_ext's dump if there is one,
    /// otherwise the end of the scheduler's log or, without such a log, of the console. `None` for a pass or a skip, and if
    /// there was no output.
    #[must_use]
    pub fn of(record: &RunRecord, folder: &Path) -> Option<Self> {
        if matches!(record.verdict, RunVerdict::Pass | RunVerdict::Skip) {
            return None;
        }
        // An artefact that the record does not list, or that has been deleted since, counts as missing.
        let read = |name: &str| {
            let is_there = record.artefacts.iter().any(|artefact| artefact == name);
            let bytes = std::fs::read(folder.join(name)).ok().filter(|_| is_there)?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let dump = || {
            let exit: serde_json::Value = serde_json::from_str(&read("scx_exit.json")?).ok()?;
            Self::in_text("scx_exit.json", exit.get("dump")?.as_str()?)
        };
        let log = |name: &str| Self::in_text(name, &read(name)?);
        dump()
            .or_else(|| log("scheduler.log"))
            .or_else(|| log("console.log"))
    }

    /// Returns the beginning of sched_ext's dump in `text`, otherwise the last lines of `text`; `None` if it is empty.
    pub(crate) fn in_text(name: &str, text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let dump = lines.iter().position(|line| line.contains(DUMP));
        let from = dump.unwrap_or(lines.len().saturating_sub(MOST_LINES));
        let left_out = lines.len().saturating_sub(from + MOST_LINES);
        let some = lines.into_iter().skip(from).take(MOST_LINES);
        let mut lines: Vec<String> = some.map(str::to_owned).collect();
        if left_out > 0 {
            lines.push(format!("... {} in {name}", counted(left_out, "more line")));
        }
        let name = name.to_owned();
        (!lines.is_empty()).then_some(Self { name, lines })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::FindingRecord;

    #[test]
    fn many_findings_are_counted_and_ten_lines_are_enough() {
        let mut record = RunRecord::new("t");
        record.evidence = Some("why".to_owned());
        for count in [0, 1, MOST_FINDINGS, MOST_FINDINGS + 1, 100] {
            record.findings = vec![FindingRecord::default(); count];
            let lines = evidence(&record);
            assert!(lines.len() <= 10, "{} lines", lines.len());
            let left_out = count.saturating_sub(MOST_FINDINGS - 1);
            let is_counted = lines.contains(&format!("and {left_out} more findings"));
            assert_eq!(is_counted, count > MOST_FINDINGS);
        }
    }

    #[test]
    fn the_first_task_that_a_finding_names_can_be_explained() {
        let of = |data: Value| FindingRecord {
            data,
            ..FindingRecord::default()
        };
        let mut record = RunRecord::new("t");
        record.run_id = "RUN".to_owned();
        record.findings = vec![
            of(serde_json::json!({"left": {"pid": 3}})),
            of(serde_json::json!({"ejected": {"cause": {"stall": {"task": "a[b][12]"}}}})),
            of(serde_json::json!({"gap": {"tid": 13}})),
        ];
        assert_eq!(why(&record).as_deref(), Some("cargo ktstr why RUN 12"));
        record.findings.remove(1);
        assert_eq!(why(&record).as_deref(), Some("cargo ktstr why RUN 13"));
        record.findings.clear();
        assert_eq!(why(&record), None);
    }

    #[test]
    fn a_finding_has_its_cgroup_and_announces_no_quote_that_is_left_out() {
        let mut record = RunRecord::new("t");
        record.findings = vec![FindingRecord {
            message: "it exited with code 0; its last output:\n  bye".to_owned(),
            phase: Some("Step[0]".to_owned()),
            cgroup: Some("left".to_owned()),
            ..FindingRecord::default()
        }];
        assert_eq!(evidence(&record), ["step 1: it exited with code 0 [left]"]);
    }

    #[test]
    fn findings_that_the_record_leaves_out_are_counted() {
        let mut record = RunRecord::new("t");
        record.findings = vec![FindingRecord::default(); 279];
        record.normalise();
        assert_eq!(
            record.omitted,
            ["findings: the first 100 of 279; result.json has all of them"]
        );
        let lines = evidence(&record);
        let more = lines.last().expect("a record with findings has evidence");
        let shown = MOST_FINDINGS - 1;
        assert_eq!(*more, format!("and at least {} more findings", 100 - shown));
    }

    #[test]
    fn an_excerpt_says_how_much_it_leaves_out() {
        let text = format!("x{DUMP}1:\n{}", "line\n".repeat(MOST_LINES));
        let excerpt = Excerpt::in_text("scx_exit.json", &text).unwrap();
        assert_eq!(excerpt.lines.len(), MOST_LINES + 1);
        assert_eq!(
            excerpt.lines[MOST_LINES],
            "... 1 more line in scx_exit.json"
        );
    }

    #[test]
    fn one_is_singular() {
        let counts = [0_u64, 1, 2].map(|count| counted(count, "run"));
        assert_eq!(counts, ["0 runs", "1 run", "2 runs"]);
    }

    #[test]
    fn a_long_text_ends_in_an_ellipsis() {
        let long = "é".repeat(9);
        assert_eq!(shortened(&long, 8), "é".repeat(8) + "…");
        assert_eq!(shortened(&long, 9), long);
    }

    #[test]
    fn a_run_without_a_machine_says_so() {
        let bare = RunRecord::new("bare");
        assert_eq!(headline(&bare), "bare was inconclusive");
        assert!(facts(&bare).contains(&("machine", "no machine was started".to_owned())));
        assert_eq!(again(&bare), None);
    }

    #[test]
    fn the_dump_goes_before_the_logs() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut record = RunRecord::new("t");
        assert_eq!(Excerpt::of(&record, folder.path()), None);
        put("console.log", "booted\n");
        put(
            "scx_exit.json",
            r#"{"dump": "x\na[1] triggered exit kind 1026:\nend"}"#,
        );
        assert_eq!(
            Excerpt::of(&record, folder.path()),
            None,
            "the record names neither artefact"
        );
        record.artefacts = vec!["console.log".to_owned()];
        let excerpt = Excerpt::of(&record, folder.path()).unwrap();
        assert_eq!(
            (excerpt.name.as_str(), excerpt.lines.len()),
            ("console.log", 1)
        );
        record.artefacts.push("scx_exit.json".to_owned());
        let excerpt = Excerpt::of(&record, folder.path()).unwrap();
        assert_eq!(excerpt.lines, ["a[1] triggered exit kind 1026:", "end"]);
        record.verdict = RunVerdict::Pass;
        assert_eq!(Excerpt::of(&record, folder.path()), None);
    }
}
