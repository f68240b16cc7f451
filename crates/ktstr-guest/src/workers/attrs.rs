//! Scheduling attributes of workers: affinity, nice value, policy and slice.
//!
//! The harness sets the declared attributes from outside, while the worker waits at the gate, the point at which a forked worker
//! blocks until it is released. This happens after the worker was moved into its cgroup, so that the cgroup's cpuset cannot
//! override the affinity. Later an operation of a step may change the affinity and the policy, and the bodies of some work types
//! change the attributes of their own thread.

use std::collections::BTreeSet;

use ktstr_scenario::topology::cpuset_string;
use ktstr_scenario::workload::{SchedClass, SchedPolicy};

use super::sys::{self, MASK_WORDS, Mask};
use crate::realtime;

/// The number of the policy `SCHED_EXT`, from include/uapi/linux/sched.h.
pub(super) const SCHED_EXT: i32 = 7;

/// A nice value and a scheduling policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// `None` if the worker's declaration gives no nice value.
    pub nice: Option<i32>,
    pub policy: SchedPolicy,
}

impl Policy {
    /// Returns whether the policy takes precedence over all fair and sched_ext tasks.
    pub fn is_realtime(&self) -> bool {
        matches!(
            self.policy,
            SchedPolicy::Fifo(_) | SchedPolicy::RoundRobin(_) | SchedPolicy::Deadline { .. }
        )
    }

    /// Returns whether the policy is `SCHED_DEADLINE`.
    pub fn is_deadline(&self) -> bool {
        matches!(self.policy, SchedPolicy::Deadline { .. })
    }
}

/// Converts a name to the form that `PR_SET_NAME` takes: cut to 15 bytes, and padded with NULs.
pub(super) fn comm_bytes(comm: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(comm.bytes()) {
        *to = from;
    }
    bytes
}

fn os_error(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}

/// Sets the affinity of a worker by its thread id. The error is a sentence for the user.
pub(super) fn apply_affinity(tid: i32, cpus: &BTreeSet<usize>) -> Result<(), String> {
    let mut mask: Mask = [0; MASK_WORDS];
    for cpu in cpus {
        match mask.get_mut(cpu / 64) {
            Some(word) => *word |= 1 << (cpu % 64),
            None => {
                return Err(format!(
                    "CPU {cpu} is too large: the largest that a mask can hold is {}",
                    MASK_WORDS * 64 - 1
                ));
            }
        }
    }
    sys::set_affinity(tid, &mask).map_err(|errno| {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
        let online = online.map_or_else(|error| error.to_string(), |text| text.trim().to_owned());
        let why = match errno {
            libc::EINVAL => "; none of these CPUs is both online and in its cpuset",
            _ => "",
        };
        format!(
            "cannot set the affinity of worker {tid} to CPUs {}: {}{why} (online: {online})",
            cpuset_string(cpus),
            os_error(errno)
        )
    })
}

/// `struct sched_attr` from include/uapi/linux/sched/types.h, first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

impl SchedAttr {
    fn of(policy: i32) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            policy: policy as u32,
            ..Self::default()
        }
    }

    /// Returns `SCHED_FIFO` with this priority.
    pub fn fifo(priority: u32) -> Self {
        Self {
            priority,
            ..Self::of(libc::SCHED_FIFO)
        }
    }

    /// Returns `SCHED_DEADLINE` with these times in nanoseconds.
    fn deadline(runtime: u64, deadline: u64, period: u64) -> Self {
        Self {
            runtime,
            deadline,
            period,
            ..Self::of(libc::SCHED_DEADLINE)
        }
    }

    /// Returns the attributes of a policy, with nice value 0.
    pub fn of_policy(policy: &SchedPolicy) -> Self {
        let ns = |d: std::time::Duration| d.as_nanos() as u64;
        match *policy {
            SchedPolicy::Normal => Self::of(libc::SCHED_OTHER),
            SchedPolicy::Batch => Self::of(libc::SCHED_BATCH),
            SchedPolicy::Idle => Self::of(libc::SCHED_IDLE),
            SchedPolicy::Fifo(priority) => Self::fifo(priority),
            SchedPolicy::RoundRobin(priority) => Self {
                priority,
                ..Self::of(libc::SCHED_RR)
            },
            SchedPolicy::Deadline {
                runtime,
                deadline,
                period,
            } => Self::deadline(ns(runtime), ns(deadline), ns(period)),
            SchedPolicy::Ext => Self::of(SCHED_EXT),
        }
    }

    /// Returns the attributes of the calling thread, or `None` if the system call fails.
    pub fn own() -> Option<Self> {
        let mut attr = Self::default();
        // SAFETY: the kernel writes at most the number of bytes that is passed, which is the size of `attr`. The first 0 is
        // the calling thread, and the last one stands for no flags.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_sched_getattr,
                0,
                &raw mut attr,
                size_of::<Self>(),
                0,
            )
        };
        (rc == 0).then_some(attr)
    }

    /// Returns whether both have the same policy, the same real-time priority and, under `SCHED_DEADLINE`, the same times.
    /// Nice values, slices and flags are ignored.
    pub fn is_same_policy(&self, other: &Self) -> bool {
        let of = |attr: &Self| {
            let deadline = (attr.policy() == libc::SCHED_DEADLINE).then_some((
                attr.runtime,
                attr.deadline,
                attr.period,
            ));
            (attr.policy, attr.below_harness().priority, deadline)
        };
        of(self) == of(other)
    }

    /// Returns the same attributes with this priority. Under `SCHED_FIFO` and `SCHED_RR` it is the real-time priority; under
    /// all other policies it is the nice value.
    pub fn with_priority(self, priority: i32) -> Self {
        match self.policy() {
            libc::SCHED_FIFO | libc::SCHED_RR => Self {
                priority: priority.unsigned_abs(),
                ..self
            },
            _ => Self {
                nice: priority,
                ..self
            },
        }
    }

    /// Returns the same attributes with slices of this length in nanoseconds; 0 leaves the length to the kernel. The slice of
    /// `SCHED_OTHER` and `SCHED_BATCH` is in `sched_runtime`. Attributes of all other policies are returned unchanged.
    pub fn with_slice(self, slice: u64) -> Self {
        match self.policy() {
            libc::SCHED_OTHER | libc::SCHED_BATCH => Self {
                runtime: slice,
                ..self
            },
            _ => self,
        }
    }

    /// Returns the attributes of a worker of this class: `SCHED_FIFO` has priority 50, and
    /// `SCHED_DEADLINE` has 2 ms in every 10 ms.
    pub fn of_class(class: SchedClass) -> Self {
        match class {
            SchedClass::Cfs => Self::of(libc::SCHED_OTHER),
            SchedClass::Batch => Self::of(libc::SCHED_BATCH),
            SchedClass::Idle => Self::of(libc::SCHED_IDLE),
            SchedClass::Rt => Self::fifo(50),
            SchedClass::Deadline => Self::deadline(2_000_000, 10_000_000, 10_000_000),
            SchedClass::Ext => Self::of(SCHED_EXT),
        }
    }

    /// Returns the same attributes with the caller's nice value.
    pub fn with_own_nice(self) -> Self {
        // SAFETY: plain integers; 0 is the caller, whose nice value can always be read.
        let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        Self { nice, ..self }
    }

    /// Returns the same attributes with a real-time priority that leaves the harness's own threads above the worker.
    fn below_harness(self) -> Self {
        Self {
            priority: self.priority.min(realtime::MOST_OF_WORKERS as u32),
            ..self
        }
    }

    /// Returns the real-time priority if it is one of the harness's own, so that the worker gets a lower one; `None` otherwise.
    pub fn is_lowered(&self) -> Option<u32> {
        (self.below_harness() != *self).then_some(self.priority)
    }

    /// Returns the kernel's number of the policy.
    pub fn policy(&self) -> i32 {
        self.policy as i32
    }

    /// Returns whether this policy takes precedence over all fair and sched_ext tasks.
    pub fn is_realtime(&self) -> bool {
        matches!(
            self.policy(),
            libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE
        )
    }
}

/// Returns the name of a policy, as in sched(7).
pub(super) fn policy_name(policy: i32) -> &'static str {
    match policy {
        libc::SCHED_OTHER => "SCHED_OTHER",
        libc::SCHED_BATCH => "SCHED_BATCH",
        libc::SCHED_IDLE => "SCHED_IDLE",
        libc::SCHED_FIFO => "SCHED_FIFO",
        libc::SCHED_RR => "SCHED_RR",
        libc::SCHED_DEADLINE => "SCHED_DEADLINE",
        SCHED_EXT => "SCHED_EXT",
        _ => "an unknown policy",
    }
}

/// Sets the scheduling attributes of a thread; 0 stands for the caller. A real-time priority above
/// [`realtime::MOST_OF_WORKERS`] becomes that one. `Err` is the errno. This may be called in a forked child.
pub(super) fn set(tid: i32, attr: &SchedAttr) -> Result<(), i32> {
    let attr = attr.below_harness();
    // SAFETY: `attr` is a valid sched_attr of the size it names; flags are 0.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attr, 0) } < 0 {
        return Err(sys::errno());
    }
    Ok(())
}

/// Sets the nice value and the policy of a worker that waits at the gate, by its thread id. The error
/// is a sentence for the user.
pub(super) fn apply_policy(tid: i32, wanted: &Policy) -> Result<(), String> {
    if let Some(nice) = wanted.nice {
        // SAFETY: plain integers.
        if unsafe { libc::setpriority(libc::PRIO_PROCESS, tid as libc::id_t, nice) } < 0 {
            return Err(format!(
                "cannot set nice {nice} of worker {tid}: {}",
                os_error(sys::errno())
            ));
        }
    }
    match wanted.policy {
        // A worker that waits at the gate has this policy already.
        SchedPolicy::Normal => Ok(()),
        _ => change_policy(tid, wanted),
    }
}

/// Returns the real-time priority of this policy if a worker with it gets a lower one; `None` otherwise.
pub(super) fn lowered(policy: &SchedPolicy) -> Option<u32> {
    SchedAttr::of_policy(policy).is_lowered()
}

/// Returns the sentence for a worker that should have had this real-time priority.
pub(crate) fn lowered_from(priority: u32) -> String {
    let most = realtime::MOST_OF_WORKERS;
    format!(
        "a worker has the real-time priority {most} instead of {priority}: the priorities above {most} belong to the harness, which \
         could not stop the worker otherwise"
    )
}

/// Returns the CPU time of a thread in nanoseconds (Documentation/scheduler/sched-stats.rst); `None` if the thread has exited, or
/// if the kernel does not count it.
pub(super) fn cpu_ns(tid: i32) -> Option<u64> {
    schedstat(tid, 0)
}

/// Returns the sum of the times in nanoseconds for which a thread was runnable without a CPU. A wait that is still going on is
/// not part of it. `None` has the same reasons as in [`cpu_ns`].
pub(super) fn run_delay_ns(tid: i32) -> Option<u64> {
    schedstat(tid, 1)
}

fn schedstat(tid: i32, field: usize) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/schedstat")).ok()?;
    text.split_whitespace().nth(field)?.parse().ok()
}

/// Sets the policy of a worker by its thread id, whatever its policy was before, and the nice value,
/// which is 0 if none is declared. The error is a sentence for the user.
pub(super) fn change_policy(tid: i32, wanted: &Policy) -> Result<(), String> {
    let mut attr = SchedAttr::of_policy(&wanted.policy);
    attr.nice = wanted.nice.unwrap_or(0);
    set(tid, &attr).map_err(|errno| {
        format!(
            "cannot set policy {:?} of worker {tid}: {}{}",
            wanted.policy,
            os_error(errno),
            refused_deadline(tid, &attr, errno)
        )
    })
}

/// Returns why the kernel usually refuses `SCHED_DEADLINE` with this errno, and what helps; empty for other policies and errors.
/// Both causes are in `__sched_setscheduler()` in kernel/sched/syscalls.c.
fn refused_deadline(tid: i32, attr: &SchedAttr, errno: i32) -> String {
    match errno {
        _ if attr.policy() != libc::SCHED_DEADLINE => String::new(),
        libc::EPERM => {
            let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
            let mut lines = status.lines();
            let cpus = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            format!(
                "; under SCHED_DEADLINE a task must be allowed on all CPUs of its root domain (all CPUs that are in no cpuset \
                 partition), and this worker is allowed on CPUs {}. Declare no cpuset and no affinity for it, or make its \
                 cgroup a partition (Op::set_cpuset_partition with CpusetPartition::Root) before its workers start. For a \
                 worker that sleeps, the kernel looks at the CPU on which it last ran",
                cpus.map_or("that are unknown", str::trim)
            )
        }
        libc::EBUSY => "; the SCHED_DEADLINE tasks of its root domain would together exceed the share of CPU time that they may \
             reserve (kernel.sched_rt_runtime_us of each kernel.sched_rt_period_us and CPU): declare fewer such workers, or \
             shorter runtimes"
            .to_owned(),
        _ => String::new(),
    }
}
