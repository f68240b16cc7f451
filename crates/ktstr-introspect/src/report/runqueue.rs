//! What the monitor samples of a runqueue, and what the kernel left of a scheduler it ejected.

use serde::{Deserialize, Serialize};

use super::ScxEventCounters;

/// Where a runnable task waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsIn {
    /// In a CPU's local dispatch queue: it is bound to that CPU.
    Local,
    /// In another dispatch queue, from which any CPU may take it.
    Shared,
    /// In the hands of the BPF scheduler.
    #[default]
    Bpf,
    /// On the fair class's queue of a CPU.
    Fair,
}

/// A runnable task that does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitingTask {
    /// Thread id, in the guest's first namespace.
    pub pid: i32,
    /// Name, at most 15 bytes.
    pub comm: String,
    /// CPUs it may run on now, 64 a word from CPU 0 on; one bit while it may not migrate.
    pub allowed: Vec<u64>,
    /// The queue that the task waits in.
    pub queue: WaitsIn,
    /// CPU time it has got so far, nanoseconds: unchanged in two samples, it did not run between.
    pub ran_ns: u64,
}

impl WaitingTask {
    /// Whether it may run on `cpu`.
    pub fn may_run_on(&self, cpu: usize) -> bool {
        let word = self.allowed.get(cpu / 64).copied().unwrap_or(0);
        word >> (cpu % 64) & 1 == 1
    }
}

/// Cumulative scheduling statistics of a runqueue (kernel/sched/stats.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RqSchedstat {
    /// Time that tasks waited to run, nanoseconds (`rq_sched_info.run_delay`).
    pub run_delay: u64,
    /// Times that a task was given the CPU (`rq_sched_info.pcount`).
    pub pcount: u64,
    /// The counters that need `kernel.sched_schedstats=1`; `None` without.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RqCounts>,
}

/// Counters of a runqueue that are kept while `kernel.sched_schedstats` is 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RqCounts {
    /// Calls of `sched_yield`.
    pub yld_count: u32,
    /// Calls of `schedule`.
    pub sched_count: u32,
    /// Those that found nothing to run.
    pub sched_goidle: u32,
    /// Wake-ups made by this CPU.
    pub ttwu_count: u32,
    /// Those of tasks on this CPU's own queue.
    pub ttwu_local: u32,
}

/// One level of a CPU's scheduling domains (`struct sched_domain`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedDomain {
    /// `SMT`, `MC`, `PKG`, `NUMA`; empty where the kernel keeps no names (before 6.15, without CONFIG_SCHED_DEBUG).
    pub name: String,
    /// 0 is the innermost.
    pub level: u32,
    /// CPUs in it.
    pub span_weight: u32,
    /// Attempts to balance so far, of all kinds; `None` without `kernel.sched_schedstats=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lb_count: Option<u64>,
}

/// One runqueue at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RqSample {
    /// Runnable tasks of all classes, the running one included.
    pub nr_running: u32,
    /// Those of the sched_ext class.
    pub scx_nr_running: u32,
    /// Tasks in the local dispatch queue.
    pub local_dsq_depth: u32,
    /// `rq->clock`, nanoseconds.
    pub rq_clock: u64,
    /// `SCX_RQ_*`.
    pub scx_flags: u32,
    /// The idle task runs.
    pub idle: bool,
    /// Context switches so far.
    pub nr_switches: Option<u64>,
    /// `avg_irq.util_avg`, on kernels that account interrupt time.
    pub avg_irq_util: Option<u64>,
    /// Event counters of the attached scheduler.
    pub event_counters: Option<ScxEventCounters>,
    /// What the kernel counts of waits and wake-ups, where it keeps that.
    pub schedstat: Option<RqSchedstat>,
    /// Its scheduling domains, innermost first.
    pub sched_domains: Option<Vec<SchedDomain>>,
    /// Runnable tasks that do not run, 64 at most; `None` where they could not be listed.
    pub waiting: Option<Vec<WaitingTask>>,
}

/// How a scheduler's time came to its end (`struct scx_exit_info`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScxExit {
    /// `enum scx_exit_kind`; from 1024 on an error.
    pub kind: u32,
    /// Its name: `SCX_EXIT_ERROR_STALL`.
    pub kind_name: String,
    /// The exit code.
    pub exit_code: i64,
    /// The kernel's words for the kind.
    pub reason: String,
    /// What was said about this case.
    pub msg: String,
    /// Where it was noticed: function and offset, innermost first.
    pub backtrace: Vec<String>,
    /// The state of the queues and tasks at that time, as the kernel dumped it.
    pub dump: String,
}

impl ScxExit {
    /// `SCX_EXIT_ERROR`, the first kind that is an error.
    const FIRST_ERROR: u32 = 1024;

    /// Whether the kernel ejected it; else it left by itself, or was asked to.
    pub fn is_error(&self) -> bool {
        self.kind >= Self::FIRST_ERROR
    }

    /// Whether the kernel ejected it because a runnable task, or the watchdog that looks for such tasks, was not run in time
    /// (`SCX_EXIT_ERROR_STALL`).
    pub fn is_stall(&self) -> bool {
        self.kind_name == "SCX_EXIT_ERROR_STALL"
    }

    /// Whether it asks its scheduler to start again: `SCX_ECODE_ACT_RESTART` of the exit code, as
    /// after a CPU went on or off line (kernel/sched/ext_internal.h).
    pub fn wants_restart(&self) -> bool {
        const ACT_RESTART: i64 = 1 << 48;
        !self.is_error() && self.exit_code & ACT_RESTART != 0
    }

    /// Who was runnable for too long, and for how many seconds, if that is what happened.
    pub fn stalled(&self) -> Option<(&str, f64)> {
        let (task, rest) = self.msg.split_once(" failed to run for ")?;
        let (seconds, _) = rest.split_once('s')?;
        Some((task, seconds.parse().ok()?))
    }

    /// For how many seconds the watchdog itself, a thread of the kernel, was given no CPU to look for stalled tasks, if
    /// that is what happened (`scx_tick` in kernel/sched/ext.c).
    pub fn unwatched(&self) -> Option<f64> {
        let (_, rest) = self.msg.split_once("watchdog failed to check in for ")?;
        rest.split_once('s')?.0.parse().ok()
    }
}
