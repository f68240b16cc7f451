//! The monitor's samples and their summary, as plain data.

pub use ktstr_introspect::report::{SchedDomain, ScxEventCounters, WaitingTask, WaitsIn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything the monitor brought back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorReport {
    /// The samples, oldest first.
    pub samples: Vec<MonitorSample>,
    /// The samples in numbers.
    pub summary: MonitorSummary,
    /// Off-CPU time of a vCPU beyond which it counts as preempted by the host, in nanoseconds.
    pub preemption_threshold_ns: u64,
    /// Whether the kernel has the sched_ext event counters.
    pub scx_event_counters_supported: bool,
    /// Guest time between two samples that was aimed at, in milliseconds.
    pub interval_ms: u64,
    /// Samples that were dropped because the guest changed what was read. Under the virtual clock
    /// there are none: it stands still.
    pub torn_samples: u64,
    /// Why there are no samples, or no more of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// The runqueues at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorSample {
    /// Guest milliseconds since the scenario started.
    pub elapsed_ms: u64,
    /// The step that was live: 0 is the baseline.
    pub step_index: Option<u16>,
    /// Whether a sched_ext scheduler was attached; `None` where that is unknown.
    pub scx_attached: Option<bool>,
    /// One entry per CPU.
    pub cpus: Vec<CpuSnapshot>,
}

/// One runqueue at one moment (kernel/sched/sched.h, `struct rq`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuSnapshot {
    /// `rq->nr_running`.
    pub nr_running: u32,
    /// `rq->scx.nr_running`.
    pub scx_nr_running: u32,
    /// `rq->scx.local_dsq.nr`.
    pub local_dsq_depth: u32,
    /// `rq->clock`, in nanoseconds.
    pub rq_clock: u64,
    /// `rq->scx.flags`.
    pub scx_flags: u32,
    /// Interrupt utilisation, 0 to 1024.
    pub avg_irq_util: Option<u64>,
    /// The CPU's sched_ext event counters.
    pub event_counters: Option<ScxEventCounters>,
    /// The runqueue's schedstats.
    pub schedstat: Option<CpuSchedstat>,
    /// CPU time the vCPU got from the host, in nanoseconds. `None` under the virtual clock, whose
    /// time is a count: there the vCPU got all of it.
    pub vcpu_cpu_time_ns: Option<u64>,
    /// Time the vCPU waited for the host, in nanoseconds. `None` under the virtual clock.
    pub vcpu_run_delay_ns: Option<u64>,
    /// The idle task runs. Tasks may be counted in `nr_running` all the same: with a queue that all
    /// CPUs share, a waiting task counts where it ran last.
    pub idle: Option<bool>,
    /// `rq->nr_switches`.
    pub nr_switches: Option<u64>,
    /// Runnable tasks of this runqueue that do not run, 64 at most.
    pub waiting: Option<Vec<WaitingTask>>,
    /// The CPU's scheduling domains, innermost first. With `kernel.sched_schedstats=1` in each
    /// sample, else in the first.
    pub sched_domains: Option<Vec<SchedDomain>>,
}

/// Cumulative schedstats of a runqueue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuSchedstat {
    /// `rq_sched_info.run_delay`, in nanoseconds.
    pub run_delay: u64,
    /// `rq_sched_info.pcount`.
    pub pcount: u64,
    /// `yld_count`; this and the following are `None` without `kernel.sched_schedstats=1`.
    pub yld_count: Option<u64>,
    /// `sched_count`.
    pub sched_count: Option<u64>,
    /// `sched_goidle`.
    pub sched_goidle: Option<u64>,
    /// `ttwu_count`.
    pub ttwu_count: Option<u64>,
    /// `ttwu_local`.
    pub ttwu_local: Option<u64>,
}

/// The samples in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorSummary {
    /// How many samples there were.
    pub total_samples: usize,
    /// Largest imbalance ratio of a sample.
    #[serde(with = "crate::float::one")]
    pub max_imbalance_ratio: f64,
    /// Deepest local DSQ.
    pub max_local_dsq_depth: u32,
    /// Runqueue clocks that stood still between two samples with something to run.
    pub stuck_count: u64,
    /// Mean imbalance ratio.
    #[serde(with = "crate::float::one")]
    pub avg_imbalance_ratio: f64,
    /// Mean length of a runqueue.
    #[serde(with = "crate::float::one")]
    pub avg_nr_running: f64,
    /// Mean depth of a local DSQ.
    #[serde(with = "crate::float::one")]
    pub avg_local_dsq_depth: f64,
    /// Mean interrupt utilisation of a CPU, 0 to 1024.
    pub avg_irq_util: Option<f64>,
    /// Mean interrupt utilisation of the CPU that has most of it.
    pub max_avg_irq_util: Option<f64>,
    /// What the sched_ext event counters grew by from the first sample to the last, over all CPUs.
    pub event_deltas: Option<ScxEventCounters>,
    /// What the schedstats grew by, over all CPUs.
    pub schedstat_deltas: Option<CpuSchedstat>,
    /// What the attempts to balance grew by, over all CPUs, by domain; with
    /// `kernel.sched_schedstats=1`.
    pub sched_domain_lb: Option<BTreeMap<String, u64>>,
    /// CPUs found idle while a task waited that may run there, over all samples: moments of it are
    /// normal, see [`MonitorThresholds::work_conservation`](super::MonitorThresholds).
    pub wasted_cpu_samples: u64,
}

impl MonitorSample {
    /// Longest over shortest runqueue, the shortest counted as at least 1. 1 without CPUs.
    pub fn imbalance_ratio(&self) -> f64 {
        let lengths = || self.cpus.iter().map(|c| c.nr_running);
        match (lengths().max(), lengths().min()) {
            (Some(max), Some(min)) => f64::from(max) / f64::from(min.max(1)),
            _ => 1.0,
        }
    }
}
