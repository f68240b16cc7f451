//! A detail: the reason why something failed, was skipped or is inconclusive.

use super::Finding;
use crate::phase::current_phase_label;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The subject of a detail.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum DetailKind {
    /// A worker did no work at all.
    NoProgress,
    /// A worker, a task, the guest or the test function made no progress for too long.
    Stuck,
    /// CPU time was shared unevenly, or was left idle while tasks waited.
    Unfair,
    /// A worker ran on a CPU outside its cpuset.
    Isolation,
    /// A rate or latency missed its bound.
    Benchmark,
    /// Workers migrated too often.
    Migration,
    /// Too few pages were on the expected NUMA nodes.
    PageLocality,
    /// Too many pages were moved between NUMA nodes.
    CrossNodeMigration,
    /// Too many pages were on memory-only nodes.
    SlowTier,
    /// A bound of the monitor was violated, a CPU was idle while a task waited, or the monitor has no usable samples.
    Monitor,
    /// The scheduler was killed by a signal, exited with an error code, or ended after an ejection.
    SchedulerCrashed,
    /// The scheduler exited with status 0 before the test ended.
    SchedulerExitedCleanly,
    /// The scheduler ended for an unknown reason, or did not attach.
    SchedulerDiedUnknownReason,
    /// The kernel ejected the scheduler, the scheduler ended with another error than the test expects, the scheduler gave too
    /// little of the workers' CPU time, or sched_ext counted an event too often.
    SchedulerEvent,
    /// A pattern over time was violated.
    Temporal,
    /// A worker did not answer the harness.
    WorkerStuck,
    /// The reason for a skip.
    Skip,
    /// Anything that fits no other kind, such as a message of the test itself.
    #[default]
    Other,
    /// The host could not provide the isolation that the test asked for.
    PerfIsolation,
}

/// A measured latency and its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyGate {
    /// The measured latency, in nanoseconds.
    pub measured_ns: u64,
    /// The bound, in nanoseconds.
    pub threshold_ns: u64,
}

/// What a quota of CPU time has to do with a failure, as far as the guest can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaEffect {
    /// The kernel throttled the workers' cgroup or one above it, and the quota can cause a wait as long as the
    /// one that the check found.
    Explains,
    /// The quota can cause such a wait, but whether the quota kept the workers from running is unknown.
    MayExplain,
}

/// The reason for an outcome: a kind, a message, and the place in the scenario to which it belongs.
///
/// `Display` prints only the message; [`AssertDetail::display_with_kind`] also prints the kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AssertDetail {
    /// The subject of the detail.
    pub kind: DetailKind,
    /// The message, which is generated from the finding unless the finding is [`Finding::Text`].
    pub message: String,
    /// The finding as data.
    #[serde(default, skip_serializing_if = "Finding::is_text")]
    pub finding: Finding,
    /// Whether a busy host can explain the failure, so that it does not count against the scheduler.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_explains: bool,
    /// What the quota (`cpu.max`) of the workers' cgroup, or of one above it, has to do with the failure; `None` if there is
    /// no quota, or if the quota has nothing to do with the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaEffect>,
    /// The measured latency and its bound; `None` if the detail is not about a latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_gate: Option<LatencyGate>,
    /// The label of the phase in which the detail was recorded; `None` outside of phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Cow<'static, str>>,
    /// The cgroup of the workers that the detail is about; `None` if it is not about one cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cow<'static, str>>,
}

impl AssertDetail {
    /// Creates a detail from a finding, with the finding's kind and message.
    pub fn of(finding: Finding) -> Self {
        AssertDetail {
            kind: finding.kind(),
            message: finding.to_string(),
            finding,
            ..Self::default()
        }
    }

    /// Changes the kind. A claim gets the kind that its test assigns to it.
    pub fn with_kind(mut self, kind: DetailKind) -> Self {
        self.kind = kind;
        self
    }

    /// Creates a detail of this kind with a free text.
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

    /// Sets the phase to which the detail belongs.
    pub fn with_phase(mut self, phase: impl Into<Cow<'static, str>>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    /// Sets the cgroup to which the detail belongs.
    pub fn with_cgroup(mut self, cgroup: impl Into<Cow<'static, str>>) -> Self {
        self.cgroup = Some(cgroup.into());
        self
    }

    /// Returns the message with its kind in front: `[Stuck] tid 7 …`.
    pub fn display_with_kind(&self) -> String {
        format!("[{:?}] {}", self.kind, self.message)
    }

    /// Adds the phase label of this thread, unless there is a label already.
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

/// A remark that does not affect the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoNote {
    /// The remark, one sentence for people.
    pub message: String,
    /// The label of the phase in which the note was recorded; `None` outside of phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Cow<'static, str>>,
}

impl InfoNote {
    /// Creates a note with this text.
    pub fn new(message: impl Into<String>) -> Self {
        InfoNote {
            message: message.into(),
            phase: None,
        }
    }

    /// Sets the phase to which the note belongs.
    pub fn with_phase(mut self, phase: impl Into<Cow<'static, str>>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    /// Adds the phase label of this thread, unless there is a label already.
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
