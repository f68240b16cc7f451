//! The outcome of a cell: the verdict, whose fault it is, the findings with their evidence, and the metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ktstr::assert::WorkerExitInfo;
use ktstr::assert::outcome::finding::CHECK_EJECTED;
use ktstr::prelude::*;
use ktstr_record::RunVerdict;
use serde::{Deserialize, Serialize};

/// The largest number of findings that are kept.
const MOST: usize = 8;
/// The largest number of characters that are kept of a line.
const LINE: usize = 240;
/// The largest number of lines that are kept of the first finding.
const LINES: usize = 12;

/// The evidence for a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The kernel reported it, or the host saw it: the scheduler was ejected, exited or did not attach, or the guest
    /// panicked or hung.
    Kernel,
    /// The exact schedule shows it.
    Schedule,
    /// A worker observed it: the worker ran on a CPU that it must not use, or did no work at all.
    Worker,
    /// A number is outside the range that the scenario or the monitor expects. This proves nothing, because sound schedulers,
    /// too, differ in such numbers.
    Expected,
    /// The finding is not about the scheduler.
    Nothing,
}

impl Proof {
    /// Returns whether this evidence proves a finding. An expectation alone does not.
    pub fn proves(self) -> bool {
        matches!(self, Self::Kernel | Self::Schedule | Self::Worker)
    }
}

/// One finding of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Name of the check.
    pub check: String,
    /// The message of the finding, in one line.
    pub message: String,
    /// The evidence for the finding.
    pub proof: Proof,
    /// Whether the finding is about speed alone, that is, a latency or a rate.
    pub speed: bool,
    /// Whether the finding is a failure in its own right, and not only a consequence of another finding of the run. A finding
    /// that does not count may explain a run, but is not held against the scheduler.
    pub counts: bool,
}

/// A BPF program of the guest, as the guest's kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The first 15 bytes of the program's name, because the kernel keeps no more.
    pub name: String,
    /// The number of instructions that the verifier processed at load; 0 if the kernel does not report it.
    pub insns: u64,
}

/// The outcome of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the run ended.
    pub verdict: RunVerdict,
    /// Whose fault it is, as the run's record names it, such as `scheduler`; `None` for a pass and a skip.
    pub fault: Option<String>,
    /// The findings, the most significant first.
    #[serde(rename = "found")]
    pub findings: Vec<Found>,
    /// The first lines of the first finding's text, because [`Found::message`] keeps only one line, and a message of the
    /// verifier has several.
    pub details: Vec<String>,
    /// Broken expectations that the scheduler does not promise to meet.
    pub not_promised: Vec<String>,
    /// The metrics by the names in [`super::METRICS`].
    pub metrics: BTreeMap<String, f64>,
    /// The guest's BPF programs by name; only for [`super::LOAD_ONLY`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
    /// The scheduler's log, which contains the messages of the verifier; only for [`super::LOAD_ONLY`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verifier_log: String,
    /// The digest of the run; `None` if the run left none.
    pub digest: Option<String>,
    /// The wall time of the run in seconds; 0 for an outcome that no run reported.
    pub wall_s: f64,
    /// Release of the kernel; `None` if the run left no record.
    pub kernel: Option<String>,
    /// The shape that the machine had; `None` if the run left no record.
    pub topology: Option<String>,
    /// Path of the run's record; `None` if there is none.
    pub record: Option<PathBuf>,
}

impl Outcome {
    /// Returns the outcome of a run that was inconclusive for this reason, through a fault of the harness.
    pub fn without_answer(why: String) -> Self {
        Self {
            verdict: RunVerdict::Inconclusive,
            fault: Some("harness".to_owned()),
            details: vec![why.clone()],
            findings: vec![Found {
                check: "no answer".to_owned(),
                message: first_line(&why),
                proof: Proof::Nothing,
                speed: false,
                counts: false,
            }],
            not_promised: Vec::new(),
            metrics: BTreeMap::new(),
            programs: Vec::new(),
            verifier_log: String::new(),
            digest: None,
            wall_s: 0.0,
            kernel: None,
            topology: None,
            record: None,
        }
    }

    /// Returns the name of the check of the first finding, which is the most significant; `None` without findings.
    pub fn check(&self) -> Option<&str> {
        self.findings.first().map(|found| found.check.as_str())
    }

    /// Returns whether the scheduler never took over the CPUs. All findings are searched, not only the first: if the scheduler's
    /// own error made the kernel refuse it, the ejection is a finding as well, and comes first.
    pub fn never_attached(&self) -> bool {
        let check = ktstr::assert::outcome::finding::CHECK_NOT_ATTACHED;
        self.findings.iter().any(|found| found.check == check)
    }
}

/// Returns the failures and the reasons why the run was inconclusive or skipped, the most significant first. They are at
/// most [`MOST`], unless more checks than that have a proved finding. Also returns the first [`LINES`] lines of the first one.
pub fn findings(result: &AssertResult) -> (Vec<Found>, Vec<String>) {
    let failures = result.failure_details().map(|detail| (detail, true));
    let others = result
        .inconclusive_details()
        .chain(result.skip_details())
        .map(|detail| (detail, false));
    let mut details: Vec<(&AssertDetail, bool)> = failures.chain(others).collect();
    // The reason for an ejection comes first, then the exit of the scheduler, then any other finding that explains the rest.
    details.sort_by_key(|(detail, _)| match &*detail.check_name() {
        CHECK_EJECTED => 0,
        check if check.starts_with("scheduler ") => 1,
        _ if detail.explains_the_rest() => 2,
        _ => 3,
    });
    let first = details
        .first()
        .map_or("", |(detail, _)| detail.message.as_str());
    let lines = first.lines().take(LINES);
    let lines = lines.map(|line| line.chars().take(LINE).collect());
    let waiting: Vec<i32> = result
        .failure_details()
        .filter_map(|detail| match detail.finding {
            Finding::Gap { tid, .. } => Some(tid),
            _ => None,
        })
        .collect();
    let proof_of = |detail: &AssertDetail| proof(&detail.finding, &waiting);
    let cause = details.iter().position(|(detail, failed)| {
        *failed && detail.explains_the_rest() && proof_of(detail).proves()
    });
    let is_starved = result
        .failure_details()
        .any(|detail| matches!(detail.finding, Finding::Starved { .. }));
    let findings = details.iter().enumerate();
    let findings = findings.map(|(at, (detail, failed))| Found {
        check: detail.check_name().into_owned(),
        message: match &detail.cgroup {
            Some(cgroup) => format!("{} [{cgroup}]", first_line(&detail.message)),
            None => first_line(&detail.message),
        },
        proof: proof_of(detail),
        speed: detail.kind == DetailKind::Benchmark,
        counts: *failed
            && !(is_starved && matches!(detail.finding, Finding::NoProgress { .. }))
            && cause.is_none_or(|cause| cause == at || outlives_the_scheduler(&detail.finding)),
    });
    (shortened(findings.collect()), lines.collect())
}

/// Returns whether a finding shows a failure of its own even if the scheduler has ended, or has left its tasks to another class.
/// Most findings then only repeat the cause: the process of an ejected scheduler dies, and workers that waited for it got nothing
/// done. But no class of the kernel runs a worker outside of its cpuset, so that finding is never a consequence of the
/// scheduler's end.
fn outlives_the_scheduler(finding: &Finding) -> bool {
    matches!(finding, Finding::OutsideCpuset { .. })
}

/// Cuts a list of findings to [`MOST`], but keeps the first proved finding of each check.
fn shortened(findings: Vec<Found>) -> Vec<Found> {
    let of_check = |found: &Found| found.counts && found.proof.proves();
    let is_first = |at: usize, found: &Found| {
        let mut earlier = findings[..at].iter();
        of_check(found) && !earlier.any(|other| of_check(other) && other.check == found.check)
    };
    let firsts: Vec<bool> = findings
        .iter()
        .enumerate()
        .map(|(at, found)| is_first(at, found))
        .collect();
    let kept = firsts.iter().filter(|first| **first).count();
    let mut room = MOST.saturating_sub(kept);
    let all = findings.into_iter().zip(firsts);
    let short = all.filter(|(_, first)| {
        let fits = *first || room > 0;
        room = room.saturating_sub(usize::from(!first));
        fits
    });
    short.map(|(found, _)| found).collect()
}

/// Returns the evidence for a finding. `waiting` are the workers that did not complete an iteration for too long (`Gap`).
fn proof(finding: &Finding, waiting: &[i32]) -> Proof {
    match finding {
        Finding::SchedulerDied { .. }
        | Finding::Ejected { .. }
        | Finding::NotAttached { .. }
        | Finding::StartupDeath { .. }
        | Finding::OtherError { .. }
        | Finding::Hung { .. }
        | Finding::TestHung { .. }
        | Finding::KernelPanic { .. } => Proof::Kernel,
        Finding::Starved { .. }
        | Finding::Underserved { .. }
        | Finding::WastedCpu { .. }
        | Finding::LateWakeups { .. }
        | Finding::Preemptions { .. }
        | Finding::NotDriven { .. } => Proof::Schedule,
        // It is not the scheduler's fault if a worker ended by itself, or did not stop in time but has no finding about a gap.
        Finding::NoProgress { tid, exit } => match exit {
            None => Proof::Worker,
            Some(WorkerExitInfo::TimedOut) if waiting.contains(tid) => Proof::Worker,
            Some(_) => Proof::Nothing,
        },
        Finding::OutsideCpuset { .. } => Proof::Worker,
        Finding::Gap { .. }
        | Finding::Spread { .. }
        | Finding::Throughput { .. }
        | Finding::SlowWorker { .. }
        | Finding::WakeLatency { .. }
        | Finding::Migrations { .. }
        | Finding::Bound { .. }
        | Finding::PageLocality { .. }
        | Finding::PagesMoved { .. }
        | Finding::SlowTier { .. }
        | Finding::Sustained { .. }
        | Finding::IdleCpu { .. }
        | Finding::WaitingTask { .. }
        | Finding::PayloadMetric { .. }
        | Finding::Claim { .. } => Proof::Expected,
        Finding::Text
        | Finding::NotMeasured { .. }
        | Finding::NothingToMeasure { .. }
        | Finding::MonitorUnavailable { .. }
        | Finding::SetUp { .. }
        | Finding::WorkerKilled { .. }
        | Finding::PayloadFailed { .. }
        | Finding::WentDown { .. }
        | Finding::TestPanicked { .. }
        | Finding::TestError { .. }
        | Finding::NoResult { .. }
        | Finding::OutOfMemory { .. }
        | Finding::KernelReport { .. }
        | Finding::NoAnswer { .. } => Proof::Nothing,
    }
}

/// Returns the first line of a text, with at most [`LINE`] characters.
pub fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(LINE).collect()
}

#[cfg(test)]
mod tests {
    use ktstr::assert::{Ejection, Finding};

    use super::*;

    #[test]
    fn a_scheduler_whose_own_error_ends_its_attach_never_attached() {
        let ejected = Finding::Ejected {
            scheduler: "x".to_owned(),
            reason: "runtime error".to_owned(),
            cause: Ejection::Error,
        };
        let not_attached = Finding::NotAttached {
            scheduler: "x".to_owned(),
            why: "it exited with code 1".to_owned(),
            log: String::new(),
        };
        let outcome = |all: &[Finding]| {
            let mut result = AssertResult::pass();
            for finding in all {
                result.record_fail(AssertDetail::of(finding.clone()));
            }
            Outcome {
                findings: findings(&result).0,
                ..Outcome::without_answer(String::new())
            }
        };
        assert!(outcome(&[not_attached, ejected.clone()]).never_attached());
        assert!(!outcome(&[ejected]).never_attached());
    }

    #[test]
    fn findings_name_their_checks_and_an_ejection_comes_first() {
        let mut result = AssertResult::pass();
        let mut verdict = Verdict::new();
        verdict
            .claim("smaller share over larger of two equal cgroups", 0.1)
            .kind(DetailKind::Unfair)
            .at_least(0.4);
        for finding in [
            Finding::Gap {
                tid: 7,
                gap_ms: 2500,
                cpu: 0,
                at_ms: 1,
                bound_ms: 2000,
            },
            Finding::Spread {
                low_pct: 10.0,
                high_pct: 40.0,
                workers: 2,
                cpus: 1,
                bound_pct: 15.0,
            },
            Finding::Ejected {
                scheduler: "x".to_owned(),
                reason: "runnable task stall\nmore".to_owned(),
                cause: Ejection::Error,
            },
        ] {
            result.record_fail(AssertDetail::of(finding));
        }
        result.merge(verdict.into_result());
        let (findings, details) = findings(&result);
        let names: Vec<(&str, Proof)> = findings
            .iter()
            .map(|found| (found.check.as_str(), found.proof))
            .collect();
        assert_eq!(
            names,
            [
                ("scheduler ejected", Proof::Kernel),
                ("gap", Proof::Expected),
                ("spread", Proof::Expected),
                (
                    "smaller share over larger of two equal cgroups",
                    Proof::Expected
                )
            ]
        );
        assert!(!findings[0].message.contains("more"));
        assert!(details.last().is_some_and(|line| line.contains("more")));
    }

    #[test]
    fn the_first_finding_of_a_proved_check_is_never_cut_off() {
        let mut result = AssertResult::pass();
        for tid in 0..20 {
            result.record_fail(AssertDetail::of(Finding::Gap {
                tid,
                gap_ms: 2500,
                cpu: 0,
                at_ms: 1,
                bound_ms: 2000,
            }));
        }
        let wasted = AssertDetail::of(Finding::WastedCpu {
            wasted_ms: 900,
            share: 0.4,
            bound: 0.1,
        });
        result.record_fail(wasted.with_cgroup("left"));
        result.record_fail(AssertDetail::of(late()));
        let (findings, _) = findings(&result);
        assert_eq!(findings.len(), MOST);
        assert!(findings.iter().any(|f| f.message.ends_with(" [left]")));
        let proved = findings.iter().filter(|f| f.proof == Proof::Schedule);
        let checks: Vec<&str> = proved.map(|f| f.check.as_str()).collect();
        assert_eq!(checks, ["wasted CPU time", "late wake-ups"]);
    }

    fn late() -> Finding {
        Finding::LateWakeups {
            p90_ms: 90.0,
            queue: 1.0,
            wakeups: 200,
            bound_ms: 25.0,
        }
    }

    /// Returns the checks of the findings that count, for failures with these findings.
    fn counted(failures: impl IntoIterator<Item = Finding>) -> Vec<String> {
        let mut result = AssertResult::pass();
        for finding in failures {
            result.record_fail(AssertDetail::of(finding));
        }
        let found = findings(&result).0.into_iter();
        found.filter(|f| f.counts).map(|f| f.check).collect()
    }

    #[test]
    fn what_may_follow_from_the_end_of_the_scheduler_does_not_count() {
        let ejected = || Finding::Ejected {
            scheduler: "x".to_owned(),
            reason: "runtime error".to_owned(),
            cause: Ejection::Error,
        };
        let died = || Finding::SchedulerDied {
            scheduler: None,
            end: ktstr::assert::SchedulerEnd::Crashed,
            how: "exited with code 1".to_owned(),
            log: String::new(),
        };
        let nothing_done = || Finding::NoProgress { tid: 7, exit: None };
        assert_eq!(
            counted([nothing_done(), died(), ejected()]),
            ["scheduler ejected"]
        );
        let not_driven = || Finding::NotDriven {
            share: 0.1,
            floor: 0.5,
        };
        assert_eq!(counted([late(), not_driven()]), ["not driven"]);
        assert_eq!(
            counted([late(), nothing_done()]),
            ["late wake-ups", "no progress"]
        );
        // The finding about a worker without progress only repeats the starvation that the schedule shows.
        let starved = Finding::Starved {
            task: "worker[7]".to_owned(),
            waited_ms: 900,
            owed_ms: 400,
            from_ms: 0,
            served: false,
            bound_ms: 50.0,
        };
        assert_eq!(counted([nothing_done(), starved]), ["starvation"]);
        // No scheduling class runs a worker outside of its cpuset, so this finding counts although the scheduler was ejected.
        let outside = Finding::OutsideCpuset {
            tid: 7,
            cpus: [3].into(),
            cpuset: [0].into(),
        };
        assert_eq!(counted([outside, ejected()]).len(), 2);
    }

    #[test]
    fn an_inconclusive_finding_of_a_run_that_failed_does_not_count() {
        let mut result = AssertResult::inconclusive(AssertDetail::of(Finding::NotDriven {
            share: 0.1,
            floor: 0.5,
        }));
        result.record_fail(AssertDetail::of(late()));
        let found = findings(&result).0;
        let counts: Vec<(&str, bool)> = found.iter().map(|f| (&*f.check, f.counts)).collect();
        assert_eq!(counts, [("not driven", false), ("late wake-ups", true)]);
    }

    #[test]
    fn a_worker_that_ended_by_itself_proves_nothing() {
        let of = |exit| Finding::NoProgress { tid: 7, exit };
        assert_eq!(proof(&of(None), &[]), Proof::Worker);
        assert_eq!(
            proof(&of(Some(WorkerExitInfo::Exited(1))), &[7]),
            Proof::Nothing
        );
        let timed_out = of(Some(WorkerExitInfo::TimedOut));
        assert_eq!(proof(&timed_out, &[]), Proof::Nothing);
        assert_eq!(proof(&timed_out, &[7]), Proof::Worker);
    }
}
