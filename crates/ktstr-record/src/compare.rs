//! Compares two runs that should be identical, and finds where they diverge if they are not.
//!
//! The comparison uses what a run under the virtual clock records: its digests, and its trace of context switches. It does not
//! compare verdicts or measurements.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use crate::error::RecordError;
use crate::list::read;
use crate::record::{Repeated, RunRecord, Start};
use crate::switches::{SWITCHES_FILE, Switch, Switches};

/// The parts of a recorded run that a comparison uses: its record and its trace.
#[derive(Debug, Clone)]
pub struct Run {
    /// The contents of the run's `record.json`.
    pub record: RunRecord,
    /// The run's trace; `None` if there is no trace that can be read.
    pub switches: Option<Switches>,
}

impl Run {
    /// Reads the run of a `record.json`.
    ///
    /// # Errors
    /// If the record does not exist or cannot be parsed.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let trace = std::fs::read(path.with_file_name(SWITCHES_FILE)).ok();
        Ok(Self {
            record: read(path)?,
            switches: trace.and_then(|bytes| Switches::decode(&bytes)),
        })
    }
}

/// The result of comparing two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// The runs are identical.
    Same,
    /// The runs differ, from this point on.
    Differ(Parting),
    /// It is unknown whether the runs are identical. The text is the reason.
    Unknown(String),
}

/// The point at which two runs diverge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parting {
    /// The runs diverge at this context switch.
    Switch {
        /// The number of the switch, counted from 0.
        number: usize,
        /// The last switch that both runs have; `None` if the runs differ in the first switch already.
        before: Option<Switch>,
        /// The switch in the first run; `None` if it has no more switches.
        left: Option<Switch>,
        /// The switch in the second run; `None` if it has no more switches.
        right: Option<Switch>,
    },
    /// The runs differ, and it is unknown where: this number of switches are the same, and then at least one trace ends. The
    /// number is 0 if a trace is missing.
    Beyond(usize),
    /// The runs differ only in the memory, the console or the captures, while all switches are the same.
    Content(&'static str),
}

impl Parting {
    /// Returns whether both runs have a switch at that point, and the two differ.
    fn is_certain(&self) -> bool {
        matches!(
            self,
            Self::Switch {
                left: Some(_),
                right: Some(_),
                ..
            }
        )
    }
}

/// Compares two runs of the virtual clock.
#[must_use]
pub fn compare(left: &Run, right: &Run) -> Comparison {
    let (a, b) = (&left.record, &right.record);
    let (Some(one), Some(other)) = (&a.digest, &b.digest) else {
        return without_digests(left, right);
    };
    let captures = match (&a.captures_digest, &b.captures_digest) {
        // Captures do not change a run, so two runs with different numbers of captures can be the same. Their digests of
        // captures are not compared.
        _ if a.periodic_real != b.periodic_real => true,
        (one, other) => one == other,
    };
    if one == other && a.switches == b.switches {
        return if captures {
            Comparison::Same
        } else {
            Comparison::Differ(Parting::Content("the captures"))
        };
    }
    Comparison::Differ(match (&left.switches, &right.switches) {
        (Some(left), Some(right)) => parting(left, right),
        _ => Parting::Beyond(0),
    })
}

/// Compares a run with its repeat. If they differ, and ran different schedulers or began in different templates, the result
/// is unknown: such runs cannot be expected to be the same.
#[must_use]
pub fn repeated(recorded: &Run, again: &Run) -> Comparison {
    let comparison = compare(recorded, again);
    let (a, b) = (&recorded.record, &again.record);
    match comparison {
        Comparison::Differ(_) if schedulers(a) != schedulers(b) => Comparison::Unknown(
            "the two runs had different scheduler binaries: run the test again and replay the new run".to_owned(),
        ),
        Comparison::Differ(_) if a.start != b.start || a.template != b.template => {
            Comparison::Unknown(format!(
                "the recorded run started from {}, and the repeat from {}: run the test again and replay the new run, or run both \
                 with KTSTR_COLD=1",
                started_from(a),
                started_from(b),
            ))
        }
        other => other,
    }
}

/// Returns the hashes of the binaries of all schedulers that a run could start.
fn schedulers(record: &RunRecord) -> BTreeSet<&str> {
    let own = record
        .scheduler
        .iter()
        .filter_map(|scheduler| scheduler.hash.as_deref());
    own.chain(record.staged.values().map(String::as_str))
        .collect()
}

/// Returns what the machine of a run was started from, as text for people.
fn started_from(record: &RunRecord) -> String {
    let template = record.template.as_deref().unwrap_or("without a name");
    match record.start {
        None => "an unknown state".to_owned(),
        Some(Start::Cold) => "a cold boot".to_owned(),
        Some(Start::Booted) => format!("the template {template} of a booted guest"),
        Some(Start::Attached) => {
            format!("the template {template}, which has the scheduler attached")
        }
    }
}

impl Repeated {
    /// Returns the outcome that the record of a repeat contains for this comparison.
    #[must_use]
    pub const fn of(comparison: &Comparison) -> Self {
        match comparison {
            Comparison::Same => Self::Same,
            Comparison::Differ(_) => Self::Different,
            Comparison::Unknown(_) => Self::Unknown,
        }
    }
}

/// Compares runs of which at least one has no digest, in most cases because the host stopped it, for example after a kernel
/// panic. Identical runs that the host stops may end at different switches, but have the same switches before that.
fn without_digests(left: &Run, right: &Run) -> Comparison {
    let which = if left.record.digest.is_none() {
        "first"
    } else {
        "second"
    };
    let found = left.switches.as_ref().zip(right.switches.as_ref());
    match found.map(|(left, right)| {
        (
            parting(left, right),
            left.first.len().min(right.first.len()),
        )
    }) {
        Some((parting, _)) if parting.is_certain() => Comparison::Differ(parting),
        Some((_, common)) => Comparison::Unknown(format!(
            "the {which} run has no digest, because it was stopped; the first {common} context switches are the same"
        )),
        None => Comparison::Unknown(format!("the {which} run has no digest")),
    }
}

fn parting(left: &Switches, right: &Switches) -> Parting {
    let common = left
        .first
        .iter()
        .zip(&right.first)
        .take_while(|(a, b)| a == b)
        .count();
    let (a, b) = (left.first.get(common), right.first.get(common));
    let cut = |switches: &Switches| switches.first.len() as u64 != switches.count;
    match (a, b) {
        // A trace that is full ends before its run does, so the later switches of that run are unknown.
        (None, Some(_)) if cut(left) => Parting::Beyond(common),
        (Some(_), None) if cut(right) => Parting::Beyond(common),
        (None, None) if cut(left) || cut(right) => Parting::Beyond(common),
        (None, None) => Parting::Content("memory or the console"),
        _ => Parting::Switch {
            number: common,
            before: common
                .checked_sub(1)
                .and_then(|last| left.first.get(last))
                .copied(),
            left: a.copied(),
            right: b.copied(),
        },
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("the same run, to the last bit"),
            Self::Differ(parting) => parting.fmt(f),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |switch: &Option<Switch>| {
            switch.map_or_else(|| "no more switches".to_owned(), |s| s.to_string())
        };
        match self {
            Self::Switch {
                number,
                before,
                left,
                right,
            } => {
                match number {
                    0 => write!(f, "the runs diverge at the first context switch")?,
                    1 => write!(
                        f,
                        "the first context switch is the same, then the runs diverge"
                    )?,
                    many => write!(
                        f,
                        "the first {many} context switches are the same, then the runs diverge"
                    )?,
                }
                writeln!(f, " (tasks by process ID):")?;
                if let Some(before) = before {
                    writeln!(f, "  both   {before}")?;
                }
                writeln!(f, "  first  {}", shown(left))?;
                write!(f, "  second {}", shown(right))
            }
            Self::Beyond(kept) => write!(
                f,
                "the runs diverge after the first {kept} context switches, which are the same; their traces hold no more"
            ),
            Self::Content(what) => write!(
                f,
                "the runs have the same context switches, and differ in {what}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::SwitchesRecord;

    fn run(digest: &str, tasks: &[u32], count: u64) -> Run {
        Run {
            record: RunRecord {
                digest: Some(digest.to_owned()),
                switches: Some(SwitchesRecord {
                    count,
                    digest: format!("{tasks:?}"),
                }),
                ..RunRecord::new("t")
            },
            switches: Some(Switches {
                count,
                first: tasks
                    .iter()
                    .enumerate()
                    .map(|(i, &next)| Switch {
                        clock_ns: 1_000_000 * i as u64,
                        cpu: 0,
                        prev: 1,
                        next,
                    })
                    .collect(),
            }),
        }
    }

    #[test]
    fn equal_runs_are_the_same_and_no_digest_is_no_answer() {
        let one = run("a", &[1, 2], 2);
        assert_eq!(compare(&one, &one.clone()), Comparison::Same);
        let mut without = one.clone();
        without.record.digest = None;
        insta::assert_snapshot!(compare(&one, &without), @"unknown: the second run has no digest, because it was stopped; the first 2 context switches are the same");
        let mut other = run("a", &[1, 3], 2);
        other.record.digest = None;
        assert!(matches!(compare(&one, &other), Comparison::Differ(_)));
        without.switches = None;
        assert_eq!(
            compare(&one, &without),
            Comparison::Unknown("the second run has no digest".to_owned())
        );
    }

    #[test]
    fn a_repeat_with_another_scheduler_is_no_answer() {
        let (mut one, mut other) = (run("a", &[1, 2], 2), run("b", &[1, 3], 2));
        assert!(matches!(repeated(&one, &other), Comparison::Differ(_)));
        let staged = |hash: &str| [("/built/scx_x".to_owned(), hash.to_owned())].into();
        one.record.staged = staged("11");
        other.record.staged = staged("22");
        let comparison = repeated(&one, &other);
        assert!(
            matches!(&comparison, Comparison::Unknown(why) if why.contains("different scheduler binaries")),
            "{comparison}"
        );
    }

    #[test]
    fn captures_count_where_there_are_equally_many() {
        let mut one = run("a", &[1], 1);
        one.record.captures_digest = Some("x".to_owned());
        let mut other = one.clone();
        other.record.captures_digest = Some("y".to_owned());
        assert_eq!(
            compare(&one, &other),
            Comparison::Differ(Parting::Content("the captures"))
        );
        other.record.periodic_real = 3;
        assert_eq!(compare(&one, &other), Comparison::Same);
    }

    #[test]
    fn the_first_switch_that_differs_is_named() {
        let comparison = compare(&run("a", &[1, 2, 3], 3), &run("b", &[1, 2, 4, 5], 4));
        insta::assert_snapshot!(comparison.to_string(), @r"
        the first 2 context switches are the same, then the runs diverge (tasks by process ID):
          both   at 0.001000000 s on CPU 0: 1 -> 2
          first  at 0.002000000 s on CPU 0: 1 -> 3
          second at 0.002000000 s on CPU 0: 1 -> 4
        ");
        let shorter = compare(&run("a", &[1, 2], 2), &run("b", &[1, 2, 4], 3));
        insta::assert_snapshot!(shorter.to_string(), @r"
        the first 2 context switches are the same, then the runs diverge (tasks by process ID):
          both   at 0.001000000 s on CPU 0: 1 -> 2
          first  no more switches
          second at 0.002000000 s on CPU 0: 1 -> 4
        ");
    }

    #[test]
    fn what_the_traces_do_not_hold_is_not_made_up() {
        let full = |digest| run(digest, &[1, 2], 100);
        let mut other = full("b");
        other.record.switches.as_mut().unwrap().digest.push('x');
        assert_eq!(
            compare(&full("a"), &other),
            Comparison::Differ(Parting::Beyond(2))
        );
        let content = compare(&run("a", &[1], 1), &run("b", &[1], 1));
        assert_eq!(
            content,
            Comparison::Differ(Parting::Content("memory or the console"))
        );
    }
}
