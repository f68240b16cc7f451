//! The monitor's samples and their summary, as plain data.

pub use ktstr_snapshot::report::{SchedDomain, ScxEventCounters, WaitingTask, WaitsIn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that the monitor recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorReport {
    /// The samples, oldest first.
    pub samples: Vec<MonitorSample>,
    /// The summary of the samples.
    pub summary: MonitorSummary,
    /// A vCPU counts as preempted if the host kept it waiting for more than this many nanoseconds between two samples.
    pub preemption_threshold_ns: u64,
    /// Whether the kernel has the sched_ext event counters.
    pub scx_event_counters_supported: bool,
    /// The stall timeout of sched_ext that was in effect; `None` without an attached scheduler, or if the timeout could
    /// not be read or the kernel's `CONFIG_HZ` is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_observation: Option<WatchdogObservation>,
    /// The intended guest time between two samples, in milliseconds.
    pub interval_ms: u64,
    /// The number of samples that were dropped because the guest changed the data while it was read. It is 0 under the
    /// virtual clock, because the guest is held meanwhile.
    pub torn_samples: u64,
    /// Why there are no samples, or why there are fewer than expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// The time for which sched_ext lets a runnable task wait: as the test requests it, and as it is in the guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchdogObservation {
    /// The test's `watchdog_timeout_s`, in jiffies; at least 2.
    pub expected_jiffies: u64,
    /// The timeout that sched_ext uses, in jiffies.
    pub observed_jiffies: u64,
}

/// All runqueues at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorSample {
    /// Guest milliseconds since the scenario started.
    pub elapsed_ms: u64,
    /// The step during which the sample was taken, counted from 1; 0 is the time before the first step, and `None` means unknown.
    pub step_index: Option<u16>,
    /// Whether a sched_ext scheduler was attached; `None` if unknown.
    pub scx_attached: Option<bool>,
    /// The time that a hypervisor below the host took from each CPU of the host since the host booted, in nanoseconds; the
    /// index is the number of the CPU. Empty if unknown, and under the virtual clock. It is not in `monitor.json`.
    #[serde(skip)]
    pub host_steal_ns: Vec<u64>,
    /// The runqueues, one per CPU; the index is the number of the CPU.
    pub cpus: Vec<CpuSnapshot>,
}

/// One runqueue at one moment (kernel/sched/sched.h, `struct rq`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuSnapshot {
    /// The number of runnable tasks of all classes, the running one included (`rq->nr_running`).
    pub nr_running: u32,
    /// The number of runnable tasks of the sched_ext class (`rq->scx.nr_running`); 0 if the kernel has no sched_ext.
    pub scx_nr_running: u32,
    /// The number of tasks in the CPU's local DSQ (`rq->scx.local_dsq.nr`); 0 if the kernel has no sched_ext.
    pub local_dsq_depth: u32,
    /// The runqueue's clock, in nanoseconds (`rq->clock`, which `update_rq_clock()` in kernel/sched/core.c advances).
    pub rq_clock: u64,
    /// The state bits `SCX_RQ_*` of sched_ext for this runqueue (`rq->scx.flags`); 0 if the kernel has no sched_ext.
    pub scx_flags: u32,
    /// The interrupt utilization, 0 to 1024 (`rq->avg_irq.util_avg`); `None` if the kernel does not account interrupt time.
    pub avg_irq_util: Option<u64>,
    /// The CPU's sched_ext event counters; `None` if they were not read.
    pub event_counters: Option<ScxEventCounters>,
    /// The runqueue's schedstats since boot; `None` if the kernel does not keep them (`CONFIG_SCHED_INFO`).
    pub schedstat: Option<CpuSchedstat>,
    /// The CPU time that the vCPU got from the host, in nanoseconds. `None` if it could not be read, and under the
    /// virtual clock, where the vCPU misses no guest time.
    pub vcpu_cpu_time_ns: Option<u64>,
    /// The time that the vCPU waited for a CPU of the host, in nanoseconds. `None` if it could not be read, and under
    /// the virtual clock.
    pub vcpu_run_delay_ns: Option<u64>,
    /// Whether the idle task is running. `nr_running` may be above 0 even then: a task that waits in a queue shared by
    /// all CPUs is counted on the CPU where it ran last.
    pub idle: Option<bool>,
    /// Whether the CPU is online; `None` if unknown. An offline CPU runs its idle task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// The number of context switches on this CPU since boot (`rq->nr_switches`); `None` if it could not be read.
    pub nr_switches: Option<u64>,
    /// The runnable tasks of this runqueue that are not running, from the first 64 entries of the list of sched_ext and of
    /// the list of the fair class; `None` if they could not be listed.
    pub waiting: Option<Vec<WaitingTask>>,
    /// The CPU's scheduling domains, innermost first. With `kernel.sched_schedstats=1` every sample has them, otherwise only
    /// the first sample has them.
    pub sched_domains: Option<Vec<SchedDomain>>,
}

/// The cumulative schedstats of a runqueue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuSchedstat {
    /// The time that tasks waited on this runqueue, in nanoseconds (`rq_sched_info.run_delay`).
    pub run_delay: u64,
    /// The number of times that a task was put on the CPU after it had waited (`rq_sched_info.pcount`).
    pub pcount: u64,
    /// The number of calls of `sched_yield()` on this CPU (`yld_count`). This and the following fields are
    /// `None` without `kernel.sched_schedstats=1`.
    pub yld_count: Option<u64>,
    /// The number of calls of `__schedule()` on this CPU (`sched_count`, kernel/sched/core.c).
    pub sched_count: Option<u64>,
    /// The number of times that the CPU switched to its idle task (`sched_goidle`, kernel/sched/idle.c).
    pub sched_goidle: Option<u64>,
    /// The number of wakeups that this CPU made (`ttwu_count`; `ttwu_stat()` in kernel/sched/core.c).
    pub ttwu_count: Option<u64>,
    /// The number of those wakeups that put the task on this CPU's own runqueue (`ttwu_local`).
    pub ttwu_local: Option<u64>,
}

/// The summary of the samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorSummary {
    /// The number of samples.
    pub total_samples: usize,
    /// The largest imbalance ratio of a sample ([`MonitorSample::imbalance_ratio`]); 0 without samples.
    #[serde(with = "crate::float::one")]
    pub max_imbalance_ratio: f64,
    /// The depth of the deepest local DSQ.
    pub max_local_dsq_depth: u32,
    /// The number of times that a runqueue clock did not advance between two samples although the CPU had something to
    /// run and the host did not keep its vCPU from running.
    pub stuck_count: u64,
    /// The mean of the samples' imbalance ratios ([`MonitorSample::imbalance_ratio`]); 0 without samples.
    #[serde(with = "crate::float::one")]
    pub avg_imbalance_ratio: f64,
    /// The mean length of a runqueue (`nr_running`), over all CPUs and samples.
    #[serde(with = "crate::float::one")]
    pub avg_nr_running: f64,
    /// The mean depth of a local DSQ, over all CPUs and samples.
    #[serde(with = "crate::float::one")]
    pub avg_local_dsq_depth: f64,
    /// The mean interrupt utilization of a CPU, 0 to 1024, over all CPUs and samples.
    pub avg_irq_util: Option<f64>,
    /// The mean interrupt utilization of the CPU for which this mean is highest.
    pub max_avg_irq_util: Option<f64>,
    /// The growth of the sched_ext event counters between consecutive samples, summed over all samples and CPUs; `None`
    /// if no two consecutive samples have the counters.
    pub event_deltas: Option<ScxEventCounters>,
    /// The growth of the schedstats between consecutive samples, summed over all samples and CPUs; `None` if no two
    /// consecutive samples have them.
    pub schedstat_deltas: Option<CpuSchedstat>,
    /// The growth of the number of load-balancing attempts, summed over all CPUs, by domain; only with
    /// `kernel.sched_schedstats=1`.
    pub sched_domain_lb: Option<BTreeMap<String, u64>>,
    /// The number of times that a CPU was found idle while a task that may run on it waited, over all samples. Short moments
    /// are normal; see [`MonitorThresholds::work_conservation`](super::MonitorThresholds).
    pub wasted_cpu_samples: u64,
}

impl MonitorSample {
    /// Returns the length of the longest runqueue divided by the length of the shortest, which counts as at least 1. Returns 1
    /// without CPUs. The ratio does not show whether the scheduler could have moved the waiting tasks to another CPU.
    /// [`Self::movable_imbalance`] takes that into account.
    pub fn imbalance_ratio(&self) -> f64 {
        let lengths = || self.cpus.iter().map(|c| c.nr_running);
        match (lengths().max(), lengths().min()) {
            (Some(max), Some(min)) => f64::from(max) / f64::from(min.max(1)),
            _ => 1.0,
        }
    }
}
