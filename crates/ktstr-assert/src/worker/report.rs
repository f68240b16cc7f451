//! The telemetry of one worker over its whole life and, sliced, over each phase.

use super::BenchSlice;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One observed change of CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Migration {
    /// Guest nanoseconds since the worker started.
    pub at_ns: u64,
    /// The CPU it was seen on before.
    pub from_cpu: usize,
    /// The CPU it was seen on now.
    pub to_cpu: usize,
}

/// Why there is no honest report from a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerExitInfo {
    /// It left with this status without reporting.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
    /// It did not answer within the collect deadline.
    TimedOut,
    /// Waiting for it failed.
    WaitFailed(String),
    /// The worker panicked, with this message.
    Panicked(String),
}

/// What one worker measured. Times are guest time.
///
/// A worker that died or never answered has `completed` false and `exit_info` set, and the numbers of
/// its last checkpoint, zeros if it came to none; a live worker has no `exit_info`. CPUs and migrations are seen at
/// checkpoints of the worker's loop, not at every event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
#[claim(crate = crate)]
#[serde(default)]
pub struct WorkerReport {
    /// The thread id in the guest.
    pub tid: i32,
    /// Units of work done.
    pub work_units: u64,
    /// CPU time consumed, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Time between start and stop, in nanoseconds.
    pub wall_time_ns: u64,
    /// The part of `wall_time_ns` spent off the CPU.
    pub off_cpu_ns: u64,
    /// Changes of CPU that were seen.
    pub migration_count: u64,
    /// CPUs it was seen on.
    pub cpus_used: BTreeSet<usize>,
    /// The changes of CPU, oldest first; the worker bounds how many it keeps.
    pub migrations: Vec<Migration>,
    /// Longest gap between two completed iterations, in milliseconds of guest time.
    pub max_gap_ms: u64,
    /// The same gap by the wall clock, where that differs; evidence only.
    pub max_gap_wall_ms: u64,
    /// The CPU the longest gap ended on.
    pub max_gap_cpu: usize,
    /// When the longest gap ended, in milliseconds since the worker started.
    pub max_gap_at_ms: u64,
    /// Wake-up latencies in nanoseconds, a uniform sample of at most 100 000.
    pub wake_latencies_ns: Vec<u64>,
    /// How many wake-ups the sample was drawn from.
    pub wake_sample_total: u64,
    /// What iterations cost, in nanoseconds; a sample like the above.
    pub iteration_costs_ns: Vec<u64>,
    /// How many iterations the sample was drawn from.
    pub iteration_cost_sample_total: u64,
    /// How late timers fired, in nanoseconds; a sample like the above.
    pub timer_latencies_ns: Vec<u64>,
    /// How many timers the sample was drawn from.
    pub timer_sample_total: u64,
    /// Outer iterations of the worker's loop.
    pub iterations: u64,
    /// `/proc/self/schedstat`: nanoseconds spent runnable but waiting (kernel/sched/stats.h).
    pub schedstat_run_delay_ns: u64,
    /// `/proc/self/schedstat`: times it was put on a CPU. 0 when the kernel has no schedstats.
    pub schedstat_run_count: u64,
    /// `/proc/self/schedstat`: nanoseconds on a CPU.
    pub schedstat_cpu_time_ns: u64,
    /// Whether it ended its loop and reported in order.
    pub completed: bool,
    /// Pages by NUMA node when it was stopped, from `/proc/PID/numa_maps`. Empty where that was not
    /// asked for: see `WorkloadHandle::measure_pages`.
    pub numa_pages: BTreeMap<usize, u64>,
    /// Growth of `numa_pages_migrated` in `/proc/vmstat` over the worker's life.
    pub vmstat_numa_pages_migrated: u64,
    /// Why the report is missing, if it is.
    pub exit_info: Option<WorkerExitInfo>,
    /// Whether it only woke others.
    pub is_messenger: bool,
    /// Whether it ran in a class above the scheduler under test: real-time or deadline.
    pub realtime: bool,
    /// Which of several composed work specs it belongs to.
    pub group_idx: usize,
    /// Workers of a cgroup with the same mark were entitled to the same share: they had the same nice
    /// value, policy and affinity at each time, and started and moved together.
    pub entitlement: u64,
    /// Why its affinity could not be set.
    pub affinity_error: Option<String>,
    /// Why its scheduling policy could not be set.
    pub sched_policy_error: Option<String>,
    /// What the worker of a benchmark measured in its role; `None` for all other work types.
    #[claim(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bench: Option<BenchSlice>,
    /// For a worker that outlives a step: one slice for each phase it lived through.
    pub phase_slices: Vec<PhaseSlice>,
}

/// The part of a [`WorkerReport`] that falls into one phase.
///
/// The fields mean what they mean there, counted from the phase's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseSlice {
    /// The phase: 0 is the baseline.
    pub step_index: u16,
    /// Units of work done.
    pub work_units: u64,
    /// Iterations of the work type's outer loop.
    pub iterations: u64,
    /// CPU time consumed, in nanoseconds.
    pub cpu_time_ns: u64,
    /// The phase's length for this worker, in nanoseconds.
    pub wall_time_ns: u64,
    /// The part of it off the CPU.
    pub off_cpu_ns: u64,
    /// Changes of CPU that were seen.
    pub migration_count: u64,
    /// CPUs it was seen on.
    pub cpus_used: BTreeSet<usize>,
    /// Longest gap between iterations, in milliseconds.
    pub max_gap_ms: u64,
    /// The CPU that gap ended on.
    pub max_gap_cpu: usize,
    /// Sampled wake-up latencies, in nanoseconds.
    pub wake_latencies_ns: Vec<u64>,
    /// How many wake-ups the sample was drawn from.
    pub wake_sample_total: u64,
    /// Sampled timer latencies, in nanoseconds.
    pub timer_latencies_ns: Vec<u64>,
    /// How many timers the sample was drawn from.
    pub timer_sample_total: u64,
    /// Nanoseconds spent runnable but waiting.
    pub schedstat_run_delay_ns: u64,
    /// Times it was put on a CPU.
    pub schedstat_run_count: u64,
    /// Pages by NUMA node at the end of the phase.
    pub numa_pages: BTreeMap<usize, u64>,
    /// Pages moved between nodes during the phase.
    pub vmstat_numa_pages_migrated: u64,
    /// What the worker of a benchmark measured in its role during the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bench: Option<BenchSlice>,
}

impl WorkerReport {
    /// The stand-in for a worker that gave no report.
    pub fn missing(tid: i32, why: WorkerExitInfo) -> Self {
        WorkerReport {
            tid,
            exit_info: Some(why),
            ..Self::default()
        }
    }

    /// Off-CPU time as a percentage of wall time; `None` when no time was measured.
    pub fn off_cpu_pct(&self) -> Option<f64> {
        crate::math::ratio(self.off_cpu_ns, self.wall_time_ns).map(|r| r * 100.0)
    }

    /// Time it neither ran nor wanted to, as a percentage of wall time: off-CPU time less the wait
    /// for a CPU. `None` when no time was measured or the kernel has no schedstats.
    pub fn asleep_pct(&self) -> Option<f64> {
        if self.schedstat_run_count == 0 {
            return None;
        }
        let asleep = self.off_cpu_ns.saturating_sub(self.schedstat_run_delay_ns);
        crate::math::ratio(asleep, self.wall_time_ns).map(|r| r * 100.0)
    }

    /// The whole life as one slice, for the phase `step_index`.
    pub fn as_slice(&self, step_index: u16) -> PhaseSlice {
        PhaseSlice {
            step_index,
            work_units: self.work_units,
            iterations: self.iterations,
            cpu_time_ns: self.cpu_time_ns,
            wall_time_ns: self.wall_time_ns,
            off_cpu_ns: self.off_cpu_ns,
            migration_count: self.migration_count,
            cpus_used: self.cpus_used.clone(),
            max_gap_ms: self.max_gap_ms,
            max_gap_cpu: self.max_gap_cpu,
            wake_latencies_ns: self.wake_latencies_ns.clone(),
            wake_sample_total: self.wake_sample_total,
            timer_latencies_ns: self.timer_latencies_ns.clone(),
            timer_sample_total: self.timer_sample_total,
            schedstat_run_delay_ns: self.schedstat_run_delay_ns,
            schedstat_run_count: self.schedstat_run_count,
            numa_pages: self.numa_pages.clone(),
            vmstat_numa_pages_migrated: self.vmstat_numa_pages_migrated,
            bench: self.bench.clone(),
        }
    }
}
