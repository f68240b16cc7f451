//! The outcome of a cell: the verdict, whose fault it is, the findings with their evidence, and the metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// A worker observed it: it ran on a CPU that it must not use, or never ran at all.
    Worker,
    /// A number is outside the range that the scenario or the monitor expects. This proves nothing, because sound schedulers,
    /// too, differ in such numbers.
    Expected,
    /// The finding is not about the scheduler.
    Nothing,
}

/// One finding of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Name of the check.
    pub check: String,
    /// Its message, in one line.
    pub message: String,
    /// The evidence for it.
    pub proof: Proof,
    /// Whether it is about speed alone: a latency or a rate.
    pub speed: bool,
}

/// A BPF program of the guest, as the guest's kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name, of which the kernel keeps 15 bytes.
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
    /// Returns the outcome of a run that was inconclusive for this reason, by the harness's fault.
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

    /// Returns whether the scheduler never took over the CPUs.
    pub fn never_attached(&self) -> bool {
        self.check() == Some(ktstr::assert::outcome::finding::CHECK_NOT_ATTACHED)
    }
}

/// Returns the failures and the reasons why the run was inconclusive or skipped, the most significant first and at most [`MOST`];
/// also the first [`LINES`] lines of the first of them.
pub fn findings(result: &AssertResult) -> (Vec<Found>, Vec<String>) {
    let mut details: Vec<&AssertDetail> = result
        .failure_details()
        .chain(result.inconclusive_details())
        .chain(result.skip_details())
        .collect();
    // The reason for an ejection comes first, then the exit of the scheduler, since these explain all other findings.
    details.sort_by_key(|detail| match &*detail.check_name() {
        CHECK_EJECTED => 0,
        check if check.starts_with("scheduler ") => 1,
        _ => 2,
    });
    let first = details.first().map_or("", |detail| detail.message.as_str());
    let lines = first.lines().take(LINES);
    let lines = lines.map(|line| line.chars().take(LINE).collect());
    let mut findings: Vec<Found> = details
        .iter()
        .map(|detail| Found {
            check: detail.check_name().into_owned(),
            message: match &detail.cgroup {
                Some(cgroup) => format!("{} [{cgroup}]", first_line(&detail.message)),
                None => first_line(&detail.message),
            },
            proof: proof(&detail.finding),
            speed: detail.kind == DetailKind::Benchmark,
        })
        .collect();
    // The finding with the strongest evidence must not be cut off.
    let strongest = findings.iter().map(|found| found.proof).min();
    if let Some(at) = findings.iter().position(|f| Some(f.proof) == strongest)
        && at >= MOST
    {
        findings.swap(at, MOST - 1);
    }
    findings.truncate(MOST);
    (findings, lines.collect())
}

/// Returns the evidence for a finding.
fn proof(finding: &Finding) -> Proof {
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
        Finding::NoProgress { .. } | Finding::OutsideCpuset { .. } => Proof::Worker,
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
        | Finding::MonitorUnavailable { .. }
        | Finding::SetUp { .. }
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
    fn the_strongest_evidence_is_never_cut_off() {
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
        let (findings, _) = findings(&result);
        assert_eq!(findings.len(), MOST);
        assert!(findings.iter().any(|f| f.message.ends_with(" [left]")));
        assert!(findings.iter().any(|found| found.proof == Proof::Schedule));
    }
}
