//! The monitor's samples and their summary, as plain data.

pub use ktstr_introspect::report::ScxEventCounters;
use serde::{Deserialize, Serialize};

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
}

/// The runqueues at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorSample {
    /// Guest milliseconds since the scenario started.
    pub elapsed_ms: u64,
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
    /// CPU time the vCPU got, in nanoseconds.
    pub vcpu_cpu_time_ns: Option<u64>,
}

/// Cumulative schedstats of a runqueue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuSchedstat {
    /// `rq_sched_info.run_delay`, in nanoseconds.
    pub run_delay: u64,
    /// `rq_sched_info.pcount`.
    pub pcount: u64,
    /// `yld_count`.
    pub yld_count: u64,
    /// `sched_count`.
    pub sched_count: u64,
    /// `sched_goidle`.
    pub sched_goidle: u64,
    /// `ttwu_count`.
    pub ttwu_count: u64,
    /// `ttwu_local`.
    pub ttwu_local: u64,
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
