//! Properties of findings and of details with findings: the kind, the rank among others, whether the finding is about
//! time, which cgroup stands out in it, and the name of its check.

use super::{Ejection, Finding, SchedulerEnd};
use crate::outcome::{AssertDetail, DetailKind};
use crate::stats::CgroupStats;
use std::borrow::Cow;
use std::cmp::Reverse;

/// The name of the check for a scheduler that the kernel ejected.
pub const CHECK_EJECTED: &str = "scheduler ejected";
/// The name of the check for a scheduler that never attached.
pub const CHECK_NOT_ATTACHED: &str = "scheduler not attached";

impl Finding {
    /// Returns the kind that a detail with this finding has.
    pub fn kind(&self) -> DetailKind {
        match self {
            Finding::NoProgress { .. } => DetailKind::NoProgress,
            Finding::Gap { .. } | Finding::Hung { .. } | Finding::TestHung { .. } => {
                DetailKind::Stuck
            }
            Finding::Starved { .. } => DetailKind::Stuck,
            Finding::Spread { .. } | Finding::Underserved { .. } | Finding::WastedCpu { .. } => {
                DetailKind::Unfair
            }
            Finding::OutsideCpuset { .. } => DetailKind::Isolation,
            Finding::Throughput { .. }
            | Finding::SlowWorker { .. }
            | Finding::WakeLatency { .. }
            | Finding::LateWakeups { .. }
            | Finding::Preemptions { .. }
            | Finding::PayloadMetric { .. } => DetailKind::Benchmark,
            Finding::NotDriven { .. } => DetailKind::SchedulerEvent,
            Finding::Migrations { .. } => DetailKind::Migration,
            Finding::PageLocality { .. } => DetailKind::PageLocality,
            Finding::PagesMoved { .. } => DetailKind::CrossNodeMigration,
            Finding::SlowTier { .. } => DetailKind::SlowTier,
            Finding::NotMeasured { kind, .. }
            | Finding::NothingToMeasure { kind, .. }
            | Finding::Bound { kind, .. } => *kind,
            Finding::Sustained { .. }
            | Finding::IdleCpu { .. }
            | Finding::WaitingTask { .. }
            | Finding::MonitorUnavailable { .. } => DetailKind::Monitor,
            Finding::SchedulerDied { end, .. } => match end {
                SchedulerEnd::Crashed => DetailKind::SchedulerCrashed,
                SchedulerEnd::Left => DetailKind::SchedulerExitedCleanly,
                SchedulerEnd::Disabled | SchedulerEnd::Unknown => {
                    DetailKind::SchedulerDiedUnknownReason
                }
            },
            Finding::NotAttached { .. } | Finding::StartupDeath { .. } => {
                DetailKind::SchedulerDiedUnknownReason
            }
            Finding::Ejected { .. } | Finding::OtherError { .. } => DetailKind::SchedulerEvent,
            Finding::Text
            | Finding::Claim { .. }
            | Finding::SetUp { .. }
            | Finding::WorkerKilled { .. }
            | Finding::PayloadFailed { .. }
            | Finding::KernelPanic { .. }
            | Finding::WentDown { .. }
            | Finding::TestPanicked { .. }
            | Finding::TestError { .. }
            | Finding::NoResult { .. }
            | Finding::OutOfMemory { .. }
            | Finding::KernelReport { .. }
            | Finding::NoAnswer { .. } => DetailKind::Other,
        }
    }
}

impl Finding {
    /// Returns the thread id of the worker that the finding is about. `None` if the finding is not about a single worker, or
    /// if it names its task as `comm[pid]`, as the findings of the exact schedule do.
    pub fn tid(&self) -> Option<i32> {
        match self {
            Finding::NoProgress { tid, .. }
            | Finding::Gap { tid, .. }
            | Finding::OutsideCpuset { tid, .. }
            | Finding::WorkerKilled { tid, .. }
            | Finding::SlowWorker { tid, .. } => Some(*tid),
            Finding::Bound { tid, .. } => *tid,
            _ => None,
        }
    }
}

impl Finding {
    /// Returns whether the finding is about tasks that waited for a CPU, so that a task which waited is evidence for it, even if
    /// the finding names only a cgroup or no task at all. A message of the test, an error of a step or the bound on the guest's
    /// shutdown is not, whatever the workers waited for.
    pub fn is_about_waits(&self) -> bool {
        matches!(
            self,
            Finding::NoProgress { .. }
                | Finding::Gap { .. }
                | Finding::Spread { .. }
                | Finding::WakeLatency { .. }
                | Finding::Sustained { .. }
                | Finding::IdleCpu { .. }
                | Finding::WaitingTask { .. }
                | Finding::Starved { .. }
                | Finding::Underserved { .. }
                | Finding::WastedCpu { .. }
                | Finding::LateWakeups { .. }
        ) || matches!(self, Finding::Ejected { cause, .. } if !matches!(cause, Ejection::Error))
    }

    /// Whether the message ends with lines of the scheduler's log.
    pub fn quotes_log(&self) -> bool {
        matches!(
            self,
            Finding::SchedulerDied { log, .. } | Finding::NotAttached { log, .. } if !log.is_empty()
        )
    }
}

impl AssertDetail {
    /// Returns a key by which details are sorted, the most significant first. The end of a scheduler explains
    /// everything else, and a starved worker explains uneven shares and late wakeups. The longest of several gaps or
    /// waits comes first.
    pub fn rank(&self) -> (u8, Reverse<u64>) {
        let length_ms = match self.finding {
            Finding::Gap { gap_ms, .. } => gap_ms,
            Finding::Starved { waited_ms, .. } => waited_ms,
            _ => 0,
        };
        (self.kind_rank(), Reverse(length_ms))
    }

    fn kind_rank(&self) -> u8 {
        match self.kind {
            DetailKind::SchedulerEvent => 0,
            DetailKind::SchedulerCrashed
            | DetailKind::SchedulerExitedCleanly
            | DetailKind::SchedulerDiedUnknownReason => 1,
            DetailKind::Isolation => 2,
            DetailKind::NoProgress | DetailKind::WorkerStuck => 3,
            DetailKind::Stuck => 4,
            DetailKind::Unfair => 5,
            DetailKind::Benchmark => 6,
            DetailKind::Migration
            | DetailKind::PageLocality
            | DetailKind::CrossNodeMigration
            | DetailKind::SlowTier => 7,
            DetailKind::Temporal | DetailKind::Other => 8,
            DetailKind::Monitor => 9,
            DetailKind::PerfIsolation | DetailKind::Skip => 10,
        }
    }

    /// Whether all other findings may be consequences of this one.
    pub fn explains_the_rest(&self) -> bool {
        self.kind_rank() < 2
    }

    /// Whether the finding rests on times, rates or shares of time. A busy host distorts these under the real clock.
    pub fn is_about_time(&self) -> bool {
        match &self.finding {
            Finding::Ejected { cause, .. } => !matches!(cause, Ejection::Error),
            Finding::PayloadFailed { timed_out, .. } => *timed_out,
            // Migrations are counted per iteration, and a worker that gets less CPU time makes fewer iterations.
            Finding::Migrations { .. } => true,
            _ => matches!(
                self.kind,
                DetailKind::NoProgress
                    | DetailKind::Stuck
                    | DetailKind::Unfair
                    | DetailKind::Benchmark
                    | DetailKind::Monitor
                    | DetailKind::Temporal
                    | DetailKind::WorkerStuck
            ),
        }
    }

    /// Whether the finding is about the NUMA nodes of pages. The kernel chooses a page's node when the page is first touched, by
    /// the memory policy and, unless that names other nodes, by the CPU on which the task runs.
    pub fn is_about_pages(&self) -> bool {
        matches!(
            self.finding,
            Finding::PageLocality { .. } | Finding::SlowTier { .. } | Finding::PagesMoved { .. }
        )
    }

    /// Returns how badly a cgroup does in the property that this detail is about. The cgroup with the largest value stands out.
    /// For a benchmark the value is the wakeup latency, or `None` if the cgroup's wakeup latency was not measured. Also returns
    /// `None` if the statistics of cgroups show nothing about the property.
    pub fn badness(&self, c: &CgroupStats) -> Option<f64> {
        match (self.kind, &self.finding) {
            // These findings are about the whole machine, or already name the cgroup that stands out.
            (
                _,
                Finding::WastedCpu { .. }
                | Finding::LateWakeups { .. }
                | Finding::Preemptions { .. }
                | Finding::NotDriven { .. },
            ) => None,
            (DetailKind::Stuck, _) => Some(c.max_gap_ms as f64),
            (DetailKind::NoProgress, _) => Some(-c.iterations_per_worker().unwrap_or(0.0)),
            (DetailKind::Unfair, Finding::Claim { .. }) => {
                Some(-(c.total_cpu_time_ns as f64) / c.num_workers.max(1) as f64)
            }
            (DetailKind::Unfair, _) => Some(c.spread.unwrap_or(0.0)),
            (DetailKind::Benchmark, _) if c.wake_measured => Some(c.p99_wake_latency_us),
            (DetailKind::Migration, _) => Some(c.migration_ratio),
            _ => None,
        }
    }

    /// Returns the name of the check that this detail belongs to.
    pub fn check_name(&self) -> Cow<'_, str> {
        Cow::Borrowed(match (&self.finding, self.kind) {
            (Finding::Claim { label, .. }, _) => return Cow::Borrowed(label),
            (Finding::Bound { what, .. }, _) => return Cow::Borrowed(what),
            (Finding::NotAttached { .. } | Finding::StartupDeath { .. }, _) => CHECK_NOT_ATTACHED,
            (Finding::Hung { .. }, _) => "guest hung",
            (Finding::TestHung { .. }, _) => "test hung",
            (Finding::SetUp { .. }, _) => "set-up",
            (Finding::WorkerKilled { .. }, _) => "worker killed",
            (Finding::PayloadFailed { .. }, _) => "payload",
            (Finding::PayloadMetric { .. }, _) => "payload metric",
            (Finding::KernelPanic { .. }, _) => "kernel panic",
            (Finding::Starved { .. }, _) => "starvation",
            (Finding::Underserved { .. }, _) => "entitlement",
            (Finding::WastedCpu { .. }, _) => "wasted CPU time",
            (Finding::LateWakeups { .. }, _) => "late wake-ups",
            (Finding::Preemptions { .. }, _) => "preemptions",
            (Finding::NotDriven { .. }, _) => "not driven",
            (_, DetailKind::SchedulerEvent) => CHECK_EJECTED,
            (_, DetailKind::SchedulerCrashed | DetailKind::SchedulerDiedUnknownReason) => {
                "scheduler died"
            }
            (_, DetailKind::SchedulerExitedCleanly) => "scheduler left",
            (_, DetailKind::Stuck) => "gap",
            (_, DetailKind::NoProgress) => "no progress",
            (_, DetailKind::Unfair) => "spread",
            (_, DetailKind::Isolation) => "isolation",
            (_, DetailKind::Monitor) => "monitor",
            (_, kind) => return Cow::Owned(format!("{kind:?}").to_lowercase()),
        })
    }
}
