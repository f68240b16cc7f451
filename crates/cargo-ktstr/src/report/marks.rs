//! The marks on the time line: the times that findings are about, and events of the whole machine.

use ktstr::run::Aim;
use ktstr_record::{FindingRecord, RunRecord};

use crate::story::Story;

/// A mark on the time line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The number of the finding in the record, from 1; 0 if the mark is not about a finding.
    pub finding: usize,
    /// The start in nanoseconds of the kernel's scheduler clock.
    pub from_ns: u64,
    /// The end in nanoseconds of the kernel's scheduler clock.
    pub to_ns: u64,
    /// A description in one line.
    pub text: String,
    /// The pid of the task that the mark is about.
    pub pid: Option<u32>,
    /// Whether the mark is at the time of the finding itself, and does not merely cover its step or the whole run.
    pub exact: bool,
}

/// Returns a mark for each finding, in the order of the record, then one for each event of the machine, in the order of time.
/// The marks of captures are in [`crate::captures::marks`].
pub fn marks(record: &RunRecord, story: &Story) -> Vec<Mark> {
    let findings = record.findings.iter().enumerate();
    let findings = findings.map(|(at, finding)| of_finding(at + 1, finding, story));
    let moments = story.moments.iter().map(|moment| Mark {
        finding: 0,
        from_ns: moment.at_ns,
        to_ns: moment.at_ns,
        text: moment.text.clone(),
        pid: None,
        exact: true,
    });
    findings.chain(moments).collect()
}

fn of_finding(number: usize, finding: &FindingRecord, story: &Story) -> Mark {
    let aim = Aim::of(finding, &story.timeline);
    Mark {
        finding: number,
        from_ns: aim.from_ns,
        to_ns: aim.to_ns,
        text: finding
            .message
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        pid: aim.pid,
        exact: aim.exact,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::story::testing::story;

    fn marked(data: Value, phase: Option<&str>) -> Mark {
        let finding = FindingRecord {
            message: "a task waited\nmore".to_owned(),
            phase: phase.map(str::to_owned),
            data,
            ..FindingRecord::default()
        };
        let record = RunRecord {
            findings: vec![finding],
            ..RunRecord::new("t")
        };
        marks(&record, &story()).swap_remove(0)
    }

    #[test]
    fn a_finding_is_marked_where_it_happened() {
        let ms = |mark: &Mark| (mark.from_ns / 1_000_000, mark.to_ns / 1_000_000);
        let starved =
            serde_json::json!({ "starved": { "task": "x[y][7]", "from_ms": 51, "waited_ms": 20 } });
        let mark = marked(starved, Some("Step[1]"));
        assert_eq!((ms(&mark), mark.pid, mark.exact), ((61, 81), Some(7), true));
        assert_eq!(mark.text, "a task waited");
        let gap = serde_json::json!({ "gap": { "tid": 8, "at_ms": 15, "gap_ms": 10 } });
        let mark = marked(gap, Some("Step[1]"));
        assert_eq!((ms(&mark), mark.pid), ((65, 75), Some(8)));
        let stall = serde_json::json!({ "task": "x[7]", "seconds": 0.009 });
        let ejected = serde_json::json!({ "ejected": { "cause": { "stall": stall } } });
        let mark = marked(ejected, None);
        assert_eq!((ms(&mark), mark.pid, mark.exact), ((61, 70), Some(7), true));
        let sustained = serde_json::json!({ "sustained": { "until_ms": 5 } });
        assert_eq!(ms(&marked(sustained, None)), (15, 15));
    }

    #[test]
    fn a_finding_without_a_moment_is_about_its_step_or_the_run() {
        let ms = |mark: &Mark| (mark.from_ns / 1_000_000, mark.to_ns / 1_000_000, mark.exact);
        assert_eq!(ms(&marked(Value::Null, Some("Step[1]"))), (60, 90, false));
        assert_eq!(ms(&marked(Value::Null, None)), (10, 90, false));
        let nonsense = serde_json::json!({ "gap": { "at_ms": u64::MAX, "gap_ms": 1 } });
        assert!(!marked(nonsense, None).exact);
    }
}
