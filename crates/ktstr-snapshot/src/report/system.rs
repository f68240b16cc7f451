//! The kernel state around the maps: runqueues, sched_ext, tasks, counters.
//!
//! A field is an `Option` if some supported kernels do not have it, or if its value can be absent or unreadable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Statistics of one BPF program (`struct bpf_prog_stats`). The kernel counts runs and their time only while
/// `kernel.bpf_stats_enabled` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgRuntimeStats {
    /// The program's name, which the kernel cuts to 15 bytes.
    pub name: String,
    /// The program's id, as `bpftool prog` shows it.
    pub id: u32,
    /// The number of runs on all CPUs.
    pub cnt: u64,
    /// The time of the runs on all CPUs, in nanoseconds.
    pub nsecs: u64,
    /// Runs that were refused because the program was already running on the CPU.
    pub misses: u64,
    /// Instructions that the verifier processed when the program was loaded.
    pub verified_insns: u64,
}

/// The CPU time by kind, in nanoseconds (`struct kernel_cpustat`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStat {
    /// Time in user mode at nice values of 0 or less.
    pub user_ns: u64,
    /// Time in user mode at nice values above 0.
    pub nice_ns: u64,
    /// Time in the kernel outside of interrupts.
    pub system_ns: u64,
    /// Time in soft interrupts.
    pub softirq_ns: u64,
    /// Time in hard interrupts.
    pub irq_ns: u64,
    /// Time in the idle loop without waiting for I/O.
    pub idle_ns: u64,
    /// Time in the idle loop while a task waited for I/O.
    pub iowait_ns: u64,
    /// Time in which the host did not run the virtual CPU although it was not idle.
    pub steal_ns: u64,
}

/// Time and interrupt counters of one CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PerCpuTimeStats {
    /// The number of the CPU whose counters these are.
    pub cpu: u32,
    /// The CPU's time by kind, in nanoseconds since the boot.
    pub cpustat: CpuStat,
    /// Soft interrupts since the boot by kind, in the order of the `enum` in `include/linux/interrupt.h`: HI, TIMER, `NET_TX`, …
    pub softirqs: [u64; 10],
    /// Hard interrupts of devices since the boot. On x86 those of the local APIC, such as its timer's, are not among them.
    pub irqs_sum: u64,
}

/// One line of pressure stall information.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PsiLine {
    /// The share of the last 10 s in which tasks were stalled, as a running average in percent.
    pub avg10: f64,
    /// The total time in which tasks were stalled, in microseconds.
    pub total_us: u64,
}

/// Pressure of one cgroup at the kernel's last update, which it makes every two seconds while tasks are active.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupPsi {
    /// The path from the cgroup root.
    pub path: String,
    /// Lines by resource and kind: `cpu.some`, `mem.full`, …
    pub lines: BTreeMap<String, PsiLine>,
}

/// CPU time of one cgroup and its descendants, as its file `cpu.stat` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupCpuStat {
    /// The path from the cgroup root.
    pub path: String,
    /// CPU time in microseconds (`usage_usec`), up to the last time that the kernel charged it, as at a switch or a tick.
    pub usage_us: u64,
    /// Its throttling; `None` if the `cpu` controller is not enabled for it, or if the kernel has no quotas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<Throttling>,
}

/// How the quota of a cgroup has limited it (`struct cfs_bandwidth`, kernel/sched/sched.h). The kernel enforces quotas in the
/// fair class only, so tasks of sched_ext do not change these numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttling {
    /// Periods that have ended while the cgroup had tasks to run (`nr_periods`).
    pub periods: u64,
    /// Periods in which the cgroup was out of quota on some CPU (`nr_throttled`).
    pub throttled: u64,
    /// The time for which runqueues of the cgroup were throttled, summed over the CPUs, in microseconds (`throttled_usec`).
    pub throttled_us: u64,
}

/// Allocation counters of one NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PerNodeNumaStats {
    /// The number of the NUMA node whose counters these are.
    pub node: u32,
    /// The values of the counters, in pages, by name (`numa_hit`, `numa_miss`, `numa_foreign`, `numa_interleave_hit`,
    /// `numa_local`, `numa_other`).
    pub counters: BTreeMap<String, u64>,
}

/// The kernel's state of one task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskEnrichment {
    /// The kernel address of its `task_struct`.
    pub task_kva: u64,
    /// The thread id, in the guest's initial PID namespace.
    pub pid: i32,
    /// The thread-group id, which user space calls the pid.
    pub tgid: i32,
    /// The name, at most 15 bytes.
    pub comm: String,
    /// The CPU that it is on, or was on last.
    pub cpu: u32,
    /// Whether it is running on that CPU now.
    pub on_cpu: bool,
    /// The kernel's `__state` bits; 0 is runnable.
    pub state: u32,
    /// The kernel's priority (120 is nice 0).
    pub prio: i32,
    /// CPU time of the task in user mode, in nanoseconds (`p->utime`).
    pub utime_ns: u64,
    /// CPU time of the task in the kernel, in nanoseconds (`p->stime`).
    pub stime_ns: u64,
    /// Context switches at which the task went to sleep (`p->nvcsw`, counted in `__schedule()`).
    pub nvcsw: u64,
    /// Context switches at which the task was still runnable, a yield included (`p->nivcsw`).
    pub nivcsw: u64,
    /// The task's `SCX_TASK_*` bits (`p->scx.flags`); `None` if the kernel has no sched_ext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scx_flags: Option<u32>,
    /// The rest of the task's slice, in nanoseconds (`p->scx.slice`); `None` if the kernel has no sched_ext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scx_slice_ns: Option<u64>,
    /// The task's position in a DSQ ordered by vtime, in the scheduler's own unit (`p->scx.dsq_vtime`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scx_dsq_vtime: Option<u64>,
    /// The task's weight in sched_ext, 1 to 10000; nice 0 has 100 (`p->scx.weight`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scx_weight: Option<u32>,
    /// The time from which the watchdog counts the task's wait, in jiffies (`p->scx.runnable_at`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scx_runnable_at: Option<u64>,
}

macro_rules! event_counters {
    ($($(#[$doc:meta])* $name:ident)+) => {
        /// Cumulative sched_ext event counters (`struct scx_event_stats`), of one CPU or summed over all CPUs.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ScxEventCounters {
            $($(#[$doc])* pub $name: i64,)+
        }

        impl ScxEventCounters {
            /// Returns each counter with its name, in the order of the fields.
            pub fn named(&self) -> Vec<(&'static str, i64)> {
                vec![$((stringify!($name), self.$name)),+]
            }

            /// Returns each counter together with the value of the same counter in `other`.
            fn pairs<'a>(&'a mut self, other: &'a Self) -> Vec<(&'a mut i64, i64)> {
                vec![$((&mut self.$name, other.$name)),+]
            }
        }
    };
}

event_counters! {
    /// The number of times that the kernel chose another CPU than `ops.select_cpu()` returned, because the task may not run on
    /// that one (`SCX_EV_SELECT_CPU_FALLBACK`).
    select_cpu_fallback
    /// Tasks that went to the global DSQ because the CPU of their local DSQ was offline
    /// (`SCX_EV_DISPATCH_LOCAL_DSQ_OFFLINE`).
    dispatch_local_dsq_offline
    /// The number of times that a task kept its CPU because there was no other task to run (`SCX_EV_DISPATCH_KEEP_LAST`).
    /// The kernel does not count this for schedulers with `SCX_OPS_ENQ_LAST`.
    dispatch_keep_last
    /// Exiting tasks that were put into a local DSQ without `ops.enqueue()` (`SCX_EV_ENQ_SKIP_EXITING`). The kernel
    /// does not count this for schedulers with `SCX_OPS_ENQ_EXITING`.
    enq_skip_exiting
    /// Tasks with migration disabled that were put into their local DSQ without `ops.enqueue()`
    /// (`SCX_EV_ENQ_SKIP_MIGRATION_DISABLED`).
    enq_skip_migration_disabled
    /// Tasks inserted with `SCX_ENQ_IMMED` that were enqueued again, because the CPU could not run them at once
    /// (`SCX_EV_REENQ_IMMED`).
    reenq_immed
    /// The number of times that re-enqueueing the tasks of a local DSQ triggered another re-enqueueing of that DSQ
    /// (`SCX_EV_REENQ_LOCAL_REPEAT`).
    reenq_local_repeat
    /// The number of times that a task got the default slice from the kernel (`SCX_EV_REFILL_SLICE_DFL`).
    refill_slice_dfl
    /// The time that sched_ext spent in bypass mode, in nanoseconds (`SCX_EV_BYPASS_DURATION`).
    bypass_duration
    /// Tasks that were dispatched in bypass mode (`SCX_EV_BYPASS_DISPATCH`).
    bypass_dispatch
    /// The number of times that bypass mode started (`SCX_EV_BYPASS_ACTIVATE`).
    bypass_activate
    /// Insertions into a DSQ that the kernel ignored, because the task belongs to another scheduler
    /// (`SCX_EV_INSERT_NOT_OWNED`).
    insert_not_owned
    /// The number of times that a bypassed sub-scheduler's task was dispatched by its ancestor
    /// (`SCX_EV_SUB_BYPASS_DISPATCH`).
    sub_bypass_dispatch
}

impl ScxEventCounters {
    /// Adds the growth of the counters from `before` to `now`. A counter that decreased was reset, and adds nothing.
    pub fn add_growth(&mut self, before: &Self, now: &Self) {
        let mut grown = now.clone();
        for (slot, before) in grown.pairs(before) {
            *slot = slot.saturating_sub(before).max(0);
        }
        for (slot, grown) in self.pairs(&grown) {
            *slot = slot.saturating_add(grown);
        }
    }
}

/// The event counters at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventCounterSample {
    /// Milliseconds since the start of the run; `None` if the caller of the capture did not give them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// The values of the counters, summed over all CPUs.
    pub counters: ScxEventCounters,
}

/// Runqueue state of one CPU (`struct rq`, kernel/sched/sched.h).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RqScxState {
    /// The number of the CPU whose runqueue it is.
    pub cpu: u32,
    /// Runnable tasks of all classes, the running one included.
    pub nr_running: u32,
    /// Runnable tasks of the sched_ext class.
    pub scx_nr_running: u32,
    /// Tasks in the CPU's local dispatch queue.
    pub local_dsq_depth: u32,
    /// The runqueue's clock, in nanoseconds (`rq->clock`, which `update_rq_clock()` in kernel/sched/core.c advances).
    pub rq_clock: u64,
    /// The state bits `SCX_RQ_*` of sched_ext for this runqueue (`rq->scx.flags`); 0 if the kernel has no sched_ext.
    pub scx_flags: u32,
    /// The thread id of the running task, which is 0 for the idle task; `None` if it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curr_pid: Option<i32>,
    /// The name of the running task; `None` if it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curr_comm: Option<String>,
    /// Context switches so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nr_switches: Option<u64>,
}

/// One dispatch queue (`struct scx_dispatch_q`, include/linux/sched/ext.h).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DsqState {
    /// The queue's id, built-in ones included.
    pub id: u64,
    /// How many tasks are queued.
    pub nr: u32,
    /// The number of insertions so far, which the kernel counts for iterators (`seq`, 32 bits); 0 if the kernel does
    /// not count them.
    pub seq: u64,
    /// Where it was found: `local cpu 3`, `bypass cpu 3`, `reject cpu 3`, `global node 0`, `user`.
    pub origin: String,
    /// The tasks in it, at most 256, the next one to be dispatched first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<QueuedTask>,
    /// Why some of the tasks are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks_unavailable: Option<String>,
}

/// A task that waits in a dispatch queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueuedTask {
    /// The thread id, in the guest's initial PID namespace.
    pub pid: i32,
    /// The name, at most 15 bytes.
    pub comm: String,
    /// `p->scx.dsq_vtime`, which is its position in a queue ordered by vtime.
    pub vtime: u64,
}

/// State of the sched_ext core (kernel/sched/ext.c).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScxSchedState {
    /// `scx_enable_state`: `enabled`, `disabled`, …
    pub enable_state: String,
    /// The name of the attached scheduler (`sched_ext_ops.name`); `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops_name: Option<String>,
    /// Whether the scheduler is being torn down by an abort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborting: Option<bool>,
    /// The nesting depth of bypass mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_depth: Option<i32>,
    /// A value of `enum scx_exit_kind`: 0 for none; values from 1024 on are errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_kind: Option<u32>,
    /// The name of `exit_kind` in the kernel's BTF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_kind_name: Option<String>,
    /// The time for which a task may be runnable without running before the kernel ejects the scheduler, in jiffies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_timeout: Option<u64>,
    /// The time at which the watchdog last ran, in jiffies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_timestamp: Option<u64>,
    /// Where the state was found: `scx_root` (from 6.16 on) or `globals`.
    pub source: String,
    /// The kernel address of the `struct scx_sched`; 0 if there is none.
    pub sched_kva: u64,
}
