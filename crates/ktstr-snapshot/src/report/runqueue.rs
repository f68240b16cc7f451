//! The monitor's samples of a runqueue, and the kernel's exit information of a scheduler.

use serde::{Deserialize, Serialize};

use super::ScxEventCounters;

/// Where a runnable task waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsIn {
    /// In the local dispatch queue of the sampled CPU, from which no other CPU takes tasks.
    Local,
    /// In any other dispatch queue, such as a global one or one of the scheduler's own. Other CPUs may take the
    /// task from it.
    Shared,
    /// Under the control of the BPF scheduler.
    #[default]
    Bpf,
    /// On the fair class's queue of a CPU.
    Fair,
}

/// A runnable task that is not running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitingTask {
    /// The thread id, in the guest's initial PID namespace.
    pub pid: i32,
    /// The name, at most 15 bytes.
    pub comm: String,
    /// The mask of the CPUs that the task may run on now, 64 per word from CPU 0. It has a single CPU while the task's
    /// migration is disabled, and none if the mask could not be read.
    pub allowed: Vec<u64>,
    /// The queue that the task waits in.
    pub queue: WaitsIn,
    /// The CPU time that it has got so far, in nanoseconds. If it is the same in two samples, the task did not run in between.
    pub ran_ns: u64,
    /// Whether the task waits in the local queue of a CPU on which a real-time or deadline task runs. The kernel itself puts
    /// tasks that were preempted by such a task into this queue, without asking the BPF scheduler.
    pub behind_higher_class: bool,
}

impl WaitingTask {
    /// Returns whether the task may run on `cpu`.
    pub fn may_run_on(&self, cpu: usize) -> bool {
        let word = self.allowed.get(cpu / 64).copied().unwrap_or(0);
        word >> (cpu % 64) & 1 == 1
    }
}

/// Cumulative scheduling statistics of a runqueue (kernel/sched/stats.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RqSchedstat {
    /// The time that tasks waited to run, in nanoseconds (`rq_sched_info.run_delay`).
    pub run_delay: u64,
    /// How often a task was put on the CPU (`rq_sched_info.pcount`).
    pub pcount: u64,
    /// The counters that need `kernel.sched_schedstats=1`; `None` if that is 0, or if the kernel lacks one of the counters.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RqCounts>,
}

/// Counters of a runqueue that are kept while `kernel.sched_schedstats` is 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RqCounts {
    /// Calls of `sched_yield()` on this CPU (`rq->yld_count`, counted in `do_sched_yield()`).
    pub yld_count: u32,
    /// Calls of `__schedule()` on this CPU (`rq->sched_count`, kernel/sched/core.c).
    pub sched_count: u32,
    /// Calls of `__schedule()` on this CPU that found no task to run.
    pub sched_goidle: u32,
    /// Wake-ups that were made on this CPU (`try_to_wake_up()`).
    pub ttwu_count: u32,
    /// Wake-ups that were made on this CPU and put the task on this CPU's queue.
    pub ttwu_local: u32,
}

/// One level of a CPU's scheduling domains (`struct sched_domain`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedDomain {
    /// `SMT`, `MC`, `PKG`, `NUMA`; empty where the kernel keeps no names (before 6.15, without `CONFIG_SCHED_DEBUG`).
    pub name: String,
    /// The level, where 0 is the innermost.
    pub level: u32,
    /// The number of CPUs in it.
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
    /// Runnable tasks of the sched_ext class.
    pub scx_nr_running: u32,
    /// Tasks in the local dispatch queue.
    pub local_dsq_depth: u32,
    /// The runqueue's clock, in nanoseconds (`rq->clock`, which `update_rq_clock()` in kernel/sched/core.c advances).
    pub rq_clock: u64,
    /// The state bits `SCX_RQ_*` of sched_ext for this runqueue (`rq->scx.flags`); 0 if the kernel has no sched_ext.
    pub scx_flags: u32,
    /// Whether the idle task is running.
    pub idle: bool,
    /// Whether the CPU is online (`rq->online`); `None` if the kernel's BTF lacks it. An offline CPU runs its idle task, so
    /// `idle` is true for it, too.
    pub online: Option<bool>,
    /// Context switches so far.
    pub nr_switches: Option<u64>,
    /// The share of the CPU that interrupts take, in units of 1/1024 (`rq->avg_irq.util_avg`); `None` on kernels that do not
    /// account interrupt time.
    pub avg_irq_util: Option<u64>,
    /// This CPU's part of the sched_ext event counters; `None` if the kernel has none or no scheduler is attached.
    pub event_counters: Option<ScxEventCounters>,
    /// The kernel's statistics of waits and wake-ups, if it keeps them.
    pub schedstat: Option<RqSchedstat>,
    /// The CPU's scheduling domains, innermost first, at most eight; `None` if they could not be read. Without
    /// `kernel.sched_schedstats=1`, only the first sample that a sampler completes has them.
    pub sched_domains: Option<Vec<SchedDomain>>,
    /// The runnable tasks of sched_ext and the fair class that are not running, from the first 64 entries of the list of
    /// either class; `None` if they could not be listed.
    pub waiting: Option<Vec<WaitingTask>>,
}

/// How a scheduler exited (`struct scx_exit_info`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScxExit {
    /// A value of `enum scx_exit_kind`; values from 1024 on are errors.
    pub kind: u32,
    /// The name of `kind` in the kernel's BTF, such as `SCX_EXIT_ERROR_STALL`.
    pub kind_name: String,
    /// The code of a graceful exit (`scx_exit_info.exit_code`), such as the one given to `scx_bpf_exit()`.
    pub exit_code: i64,
    /// The kernel's description of the kind.
    pub reason: String,
    /// The message for this exit.
    pub msg: String,
    /// The stack trace of the code that caused the exit, innermost first: each frame as function and offset, or as an
    /// address if it lies in a module or a BPF program.
    pub backtrace: Vec<String>,
    /// The state of the queues and tasks at that time, as the kernel dumped it.
    pub dump: String,
}

impl ScxExit {
    /// `SCX_EXIT_ERROR`, the first kind that is an error.
    const FIRST_ERROR: u32 = 1024;

    /// Returns whether the kernel ejected the scheduler. Otherwise the exit was requested: by the scheduler itself, by a
    /// user, or by the kernel, as when a CPU goes online or offline.
    pub fn is_error(&self) -> bool {
        self.kind >= Self::FIRST_ERROR
    }

    /// Returns whether the kernel ejected the scheduler because a runnable task, or the watchdog that looks for such tasks, did
    /// not run in time (`SCX_EXIT_ERROR_STALL`).
    pub fn is_stall(&self) -> bool {
        self.kind_name == "SCX_EXIT_ERROR_STALL"
    }

    /// Returns whether the exit code requests a restart of the scheduler (`SCX_ECODE_ACT_RESTART`,
    /// `kernel/sched/ext_internal.h`), as after a CPU went online or offline.
    pub fn wants_restart(&self) -> bool {
        const ACT_RESTART: i64 = 1 << 48;
        !self.is_error() && self.exit_code & ACT_RESTART != 0
    }

    /// Returns whether the exit code requests a restart because a CPU went online or offline (`SCX_ECODE_RSN_HOTPLUG` and
    /// `SCX_ECODE_ACT_RESTART`). A scheduler may request a restart for reasons of its own, without the first flag.
    pub fn follows_hotplug(&self) -> bool {
        const RSN_HOTPLUG: i64 = 1 << 32;
        self.wants_restart() && self.exit_code & RSN_HOTPLUG != 0
    }

    /// Returns the task that was runnable for too long, as `name[pid]`, and for how many seconds; `None` for any other exit.
    pub fn stalled(&self) -> Option<(&str, f64)> {
        let (task, rest) = self.msg.split_once(" failed to run for ")?;
        let (seconds, _) = rest.split_once('s')?;
        Some((task, seconds.parse().ok()?))
    }

    /// Returns for how many seconds the watchdog itself, which runs in a kernel thread, did not look for stalled tasks
    /// (`scx_tick()` in kernel/sched/ext.c); `None` for any other exit.
    pub fn unwatched(&self) -> Option<f64> {
        let (_, rest) = self.msg.split_once("watchdog failed to check in for ")?;
        rest.split_once('s')?.0.parse().ok()
    }
}
