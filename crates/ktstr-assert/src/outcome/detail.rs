//! One reason of a judgement: why something failed, was skipped or is inconclusive.

use super::Finding;
use crate::phase::current_phase_label;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// What a detail is about.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum DetailKind {
    /// A worker did no work at all.
    NoProgress,
    /// A worker stood still for too long.
    Stuck,
    /// CPU time was shared unevenly inside a cgroup.
    Unfair,
    /// A worker ran on a CPU outside its cpuset.
    Isolation,
    /// A rate or latency missed its bound.
    Benchmark,
    /// Too many migrations for the work done.
    Migration,
    /// Too few pages on the expected NUMA nodes.
    PageLocality,
    /// Too many pages moved between NUMA nodes.
    CrossNodeMigration,
    /// Too many pages on memory-only nodes.
    SlowTier,
    /// A monitor threshold was crossed.
    Monitor,
    /// The scheduler crashed.
    SchedulerCrashed,
    /// The scheduler left with status 0 before the test was over.
    SchedulerExitedCleanly,
    /// The scheduler is gone and nothing says why.
    SchedulerDiedUnknownReason,
    /// Something in the scheduler's log or exit record.
    SchedulerEvent,
    /// A pattern over time was broken.
    Temporal,
    /// A worker never answered the harness.
    WorkerStuck,
    /// The reason for a skip.
    Skip,
    /// What fits no other kind, such as a test's own words.
    #[default]
    Other,
    /// The host could not give the isolation the test asked for.
    PerfIsolation,
}

/// A measured latency and the bound it was judged against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyGate {
    /// What was measured, in nanoseconds.
    pub measured_ns: u64,
    /// The bound, in nanoseconds.
    pub threshold_ns: u64,
}

/// One reason: a kind, a sentence, and where in the scenario it arose.
///
/// `Display` prints the bare message; [`AssertDetail::display_with_kind`] puts the kind before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AssertDetail {
    /// What it is about.
    pub kind: DetailKind,
    /// The sentence, made from the finding unless that is [`Finding::Text`].
    pub message: String,
    /// The same as data.
    #[serde(default, skip_serializing_if = "Finding::is_text")]
    pub finding: Finding,
    /// Whether the host's other work can explain it, so that it does not count as a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_explains: bool,
    /// For a latency bound: the two numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_gate: Option<LatencyGate>,
    /// The phase it was recorded in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Cow<'static, str>>,
    /// The cgroup whose workers it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cow<'static, str>>,
}

impl AssertDetail {
    /// A detail of this finding, with its kind and its message.
    pub fn of(finding: Finding) -> Self {
        AssertDetail {
            kind: finding.kind(),
            message: finding.to_string(),
            finding,
            ..Self::default()
        }
    }

    /// The same detail under another kind: a claim has the kind that its test gives it.
    pub fn with_kind(mut self, kind: DetailKind) -> Self {
        self.kind = kind;
        self
    }

    /// A detail of this kind that is free text.
    pub fn new(kind: DetailKind, message: impl Into<String>) -> Self {
        AssertDetail {
            kind,
            message: message.into(),
            ..Self::default()
        }
    }

    /// Adds the measured latency and its bound, both in nanoseconds.
    pub fn with_latency_gate(mut self, measured_ns: u64, threshold_ns: u64) -> Self {
        self.latency_gate = Some(LatencyGate {
            measured_ns,
            threshold_ns,
        });
        self
    }

    /// Names the phase.
    pub fn with_phase(mut self, phase: impl Into<Cow<'static, str>>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    /// Names the cgroup.
    pub fn with_cgroup(mut self, cgroup: impl Into<Cow<'static, str>>) -> Self {
        self.cgroup = Some(cgroup.into());
        self
    }

    /// The message with its kind before it: `[Stuck] tid 7 …`.
    pub fn display_with_kind(&self) -> String {
        format!("[{:?}] {}", self.kind, self.message)
    }

    pub(crate) fn stamped(mut self) -> Self {
        self.phase = self.phase.or_else(current_phase_label);
        self
    }
}

impl fmt::Display for AssertDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<&str> for AssertDetail {
    fn from(message: &str) -> Self {
        Self::new(DetailKind::Other, message)
    }
}

impl From<String> for AssertDetail {
    fn from(message: String) -> Self {
        Self::new(DetailKind::Other, message)
    }
}

/// Something worth telling that does not touch the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoNote {
    /// One sentence for people.
    pub message: String,
    /// The phase it was recorded in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Cow<'static, str>>,
}

impl InfoNote {
    /// A note with this sentence.
    pub fn new(message: impl Into<String>) -> Self {
        InfoNote {
            message: message.into(),
            phase: None,
        }
    }

    /// Names the phase.
    pub fn with_phase(mut self, phase: impl Into<Cow<'static, str>>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    pub(crate) fn stamped(mut self) -> Self {
        self.phase = self.phase.or_else(current_phase_label);
        self
    }
}

impl fmt::Display for InfoNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
