//! The measurements of a worker over its whole life and, in slices, over each phase.

use super::BenchSlice;
use crate::worker_samples;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A change of CPU that a worker observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Migration {
    /// Guest nanoseconds since the worker started.
    pub at_ns: u64,
    /// The CPU on which the worker was seen before.
    pub from_cpu: usize,
    /// The CPU on which the worker is seen now.
    pub to_cpu: usize,
}

/// The reason why a worker left no complete report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerExitInfo {
    /// The worker exited with this status without reporting.
    Exited(i32),
    /// The signal with this number killed the worker.
    Signaled(i32),
    /// The worker did not answer within the deadline for collecting reports.
    TimedOut,
    /// The worker could not be set up or collected, or lacks a resource that its work needs. The text is the reason.
    WaitFailed(String),
    /// The worker panicked, with this message.
    Panicked(String),
}

impl std::fmt::Display for WorkerExitInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "it exited with status {status} before that"),
            Self::Signaled(signal) => write!(f, "signal {signal} killed it"),
            Self::TimedOut => f.write_str("it did not answer when the reports were collected"),
            Self::WaitFailed(why) => f.write_str(why),
            Self::Panicked(message) => write!(f, "it panicked: {message}"),
        }
    }
}

// Generates the enum, which has a variant for each kind of sample.
macro_rules! kinds {
    (samples { $($(#[$doc:meta])* $kind:ident $values:ident { $(#[$_total_doc:meta])* $_total:ident };)* }) => {
        /// A kind of sample that a worker takes. A worker takes samples of one kind only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum SampleKind {
            $($(#[$doc])* $kind,)*
        }

        impl SampleKind {
            /// Every kind. A worker that chooses none takes samples of the first kind.
            pub const ALL: &'static [SampleKind] = &[$(SampleKind::$kind,)*];
        }
    };
}
crate::worker_samples!(kinds);

/// The samples of one kind in a report or a slice.
#[derive(Debug)]
pub struct SamplesMut<'a> {
    /// The samples that were kept.
    pub values: &'a mut Vec<u64>,
    /// The number of samples that were taken.
    pub total: &'a mut u64,
}

// Fills in a counter, if it is of the kind `measured`.
macro_rules! fill {
    (measured $own:expr, $around:expr) => {
        if $own == 0 {
            $own = $around;
        }
    };
    (counted $own:expr, $around:expr) => {};
}

// Generates the two structs, which have a field for each of the workers' counters and samples, and the code that copies all of
// these fields. The fields in `both` have the same meaning in the two structs.
macro_rules! report {
    (samples { $($(#[$values_doc:meta])* $kind:ident $values:ident { $(#[$taken_doc:meta])* $taken:ident };)* }
     both { $($(#[$both_doc:meta])* $both:ident: $type:ty;)* }
     $($(#[$doc:meta])* $kind_of_counter:ident $name:ident $({ $($_total:tt)* })?;)*) => {
        /// The measurements of a worker. Times are guest time.
        ///
        /// If a worker died, did not answer or could not do its work, `completed` is false and `exit_info` is set; a
        /// complete report has no `exit_info`. The numbers of a worker that died or did not answer are those of its last
        /// checkpoint, or zeros if it reached none, and `cpu_unknown` is set; the numbers for [`WorkerExitInfo::WaitFailed`] are
        /// usually zeros. If the worker did not answer because it got no CPU, its longest gap may be this last wait. CPUs and
        /// migrations are observed at checkpoints of the worker's loop, not at every event.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
        #[claim(crate = crate)]
        #[serde(default)]
        pub struct WorkerReport {
            /// The thread id in the guest.
            pub tid: i32,
            $($(#[$doc])* pub $name: u64,)*
            $($(#[$both_doc])* pub $both: $type,)*
            $($(#[$values_doc])* pub $values: Vec<u64>, $(#[$taken_doc])* pub $taken: u64,)*
            /// The changes of CPU, oldest first. The worker limits how many it keeps.
            pub migrations: Vec<Migration>,
            /// The length of the longest gap in milliseconds, as in `max_gap_ms`. It is only evidence, and is not judged.
            pub max_gap_wall_ms: u64,
            /// When the longest gap ended, in milliseconds since the worker started.
            pub max_gap_at_ms: u64,
            /// The CPU time that iterations took, in nanoseconds, in user mode and in the kernel: a uniform sample of at most
            /// 100 000. Waits for a CPU or for an event are not part of it. To keep the work itself fast, the worker
            /// measures an iteration about every 10 ms, and never its first one.
            pub iteration_costs_ns: Vec<u64>,
            /// The number of iterations whose cost was measured, including those that are not in the sample.
            pub iteration_cost_sample_total: u64,
            /// The time for which the worker was runnable without a CPU, from its release until its end, in nanoseconds. Unlike
            /// `schedstat_run_delay_ns` it includes the wait until the worker first got a CPU. `None` if the report is
            /// incomplete, the kernel has no schedstats, or the worker's waits before its release could not be read.
            #[claim(skip)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub waited_ns: Option<u64>,
            /// Whether the worker ended its loop and reported its final numbers.
            pub completed: bool,
            /// Why the report is incomplete; `None` if it is complete.
            pub exit_info: Option<WorkerExitInfo>,
            /// Whether the worker only woke others.
            pub is_messenger: bool,
            /// Whether the worker ran in a class above the scheduler under test: real-time or deadline.
            pub realtime: bool,
            /// The CPU time that the worker got in such a class (real-time or deadline), in nanoseconds.
            pub realtime_cpu_ns: u64,
            /// The index of the work spec of the worker, if several are composed; otherwise 0.
            pub group_idx: usize,
            /// Workers of a cgroup with the same value were entitled to the same share: they had the same work type with the same
            /// parameters, and the same nice value, policy and affinity at all times, and were started and moved together.
            pub entitlement: u64,
            /// Why the affinity could not be set; `None` if it was set or not requested.
            pub affinity_error: Option<String>,
            /// Why the scheduling policy could not be set; `None` if it was set or not requested.
            pub sched_policy_error: Option<String>,
            /// The requested real-time priority, if the worker got a lower one because this priority belongs to the harness.
            #[claim(skip)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub lowered_from: Option<u32>,
            /// The measurements of a benchmark worker in its role; `None` for all other work types.
            #[claim(skip)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub bench: Option<BenchSlice>,
            /// For a worker that outlives a step: one slice for each phase in which it existed.
            pub phase_slices: Vec<PhaseSlice>,
        }

        /// The part of a [`WorkerReport`] that falls into one phase.
        ///
        /// The fields have the same meaning as in the report, counted from the start of the phase.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct PhaseSlice {
            /// The step index of the phase; 0 is the baseline.
            pub step_index: u16,
            $($(#[$doc])* pub $name: u64,)*
            $($(#[$both_doc])* pub $both: $type,)*
            $($(#[$values_doc])* pub $values: Vec<u64>, $(#[$taken_doc])* pub $taken: u64,)*
            /// What the worker of a benchmark measured in its role during the phase.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub bench: Option<BenchSlice>,
        }

        impl WorkerReport {
            /// Adds the counters of a slice to those of the report.
            pub fn add_counters(&mut self, slice: &PhaseSlice) {
                $(self.$name = crate::math::sum(self.$name, slice.$name);)*
            }

            /// Copies from `around` each counter of the kind `measured`, such as the CPU time, that is 0 in this report. The
            /// harness measures these counters around any work, so the function of a custom worker may leave them out.
            pub fn fill_measured(&mut self, around: &Self) {
                $(fill!($kind_of_counter self.$name, around.$name);)*
            }

            /// Returns the samples of one kind, to change them.
            pub fn samples_mut(&mut self, kind: SampleKind) -> SamplesMut<'_> {
                match kind {
                    $(SampleKind::$kind => SamplesMut { values: &mut self.$values, total: &mut self.$taken },)*
                }
            }

            /// Returns the whole life as one slice, for the phase `step_index`.
            pub fn as_slice(&self, step_index: u16) -> PhaseSlice {
                PhaseSlice {
                    step_index,
                    $($name: self.$name,)*
                    $($both: self.$both.clone(),)*
                    $($values: self.$values.clone(), $taken: self.$taken,)*
                    bench: self.bench.clone(),
                }
            }

            /// Whether the kernel has schedstats. If so, zeros in the `schedstat_*` fields were measured.
            pub(crate) fn has_schedstats(&self) -> bool {
                self.schedstat_run_count > 0 || self.schedstat_cpu_time_ns > 0
            }
        }

        impl PhaseSlice {
            /// Whether the kernel has schedstats. If so, zeros in the `schedstat_*` fields were measured. For a worker that
            /// kept its CPU for the whole phase, `schedstat_run_count` is 0, but `schedstat_cpu_time_ns` is not.
            pub(crate) fn has_schedstats(&self) -> bool {
                self.schedstat_run_count > 0 || self.schedstat_cpu_time_ns > 0
            }

            /// Returns the samples of one kind, to change them.
            pub fn samples_mut(&mut self, kind: SampleKind) -> SamplesMut<'_> {
                match kind {
                    $(SampleKind::$kind => SamplesMut { values: &mut self.$values, total: &mut self.$taken },)*
                }
            }
        }
    };
}
crate::worker_counters!(worker_samples report both {
    /// The part of `wall_time_ns` that was spent off the CPU; 0 if `cpu_unknown` is set.
    off_cpu_ns: u64;
    /// Whether the worker ended before it measured its CPU time. `cpu_time_ns` and the `schedstat_*` fields are then too small,
    /// or 0, and must not be compared with other numbers.
    cpu_unknown: bool;
    /// The CPUs on which the worker was seen.
    cpus_used: BTreeSet<usize>;
    /// The longest gap between two completed iterations, in milliseconds of guest time.
    max_gap_ms: u64;
    /// The CPU on which the longest gap ended.
    max_gap_cpu: usize;
    /// The number of pages on each NUMA node at the end, of those private pages that the worker allocated after its release. For
    /// threads of one process, the first of them has the pages of all. Empty unless `WorkloadHandle::measure_pages` requested it.
    numa_pages: BTreeMap<usize, u64>;
    /// The number of all private pages that the worker had at the end, including those with which it was forked, under the
    /// same conditions as `numa_pages`.
    pages_held: u64;
    /// The growth of `numa_pages_migrated` in `/proc/vmstat` over the worker's life or the phase. It counts the
    /// pages of the whole machine.
    vmstat_numa_pages_migrated: u64;
});

impl WorkerReport {
    /// Creates the report of a worker that left none, with the reason.
    pub fn missing(tid: i32, why: WorkerExitInfo) -> Self {
        WorkerReport {
            tid,
            exit_info: Some(why),
            cpu_unknown: true,
            ..Self::default()
        }
    }

    /// Returns the off-CPU time as a percentage of `wall_time_ns`; `None` if no time was measured, or the CPU time is unknown.
    pub fn off_cpu_pct(&self) -> Option<f64> {
        if self.cpu_unknown {
            return None;
        }
        crate::math::ratio(self.off_cpu_ns, self.wall_time_ns).map(|r| r * 100.0)
    }

    /// Returns the time that the worker slept as a percentage of `wall_time_ns`: the off-CPU time minus the time that
    /// it waited for a CPU. `None` if no time was measured, the CPU time is unknown, or the kernel has no schedstats.
    pub fn asleep_pct(&self) -> Option<f64> {
        if self.cpu_unknown || !self.has_schedstats() {
            return None;
        }
        let asleep = self.off_cpu_ns.saturating_sub(self.schedstat_run_delay_ns);
        crate::math::ratio(asleep, self.wall_time_ns).map(|r| r * 100.0)
    }
}
