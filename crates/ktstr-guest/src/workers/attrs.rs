//! Scheduling attributes of a worker, set from outside while it waits at the gate: after it was
//! moved into its cgroup, so that a cpuset cannot undo them.

use std::collections::BTreeSet;

use ktstr_scenario::topology::cpuset_string;
use ktstr_scenario::workload::SchedPolicy;

use super::sys::{self, MASK_WORDS, Mask};

/// `SCHED_EXT` of include/uapi/linux/sched.h.
const SCHED_EXT: i32 = 7;

/// Nice value and policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub nice: Option<i32>,
    pub policy: SchedPolicy,
}

impl Policy {
    /// Whether it puts a worker above all schedulers of fair and sched_ext tasks.
    pub fn is_realtime(&self) -> bool {
        matches!(
            self.policy,
            SchedPolicy::Fifo(_) | SchedPolicy::RoundRobin(_) | SchedPolicy::Deadline { .. }
        )
    }
}

/// A name as `PR_SET_NAME` takes it: cut to 15 bytes, NUL-terminated.
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

/// Sets the CPUs of a process; the error is a sentence.
pub(super) fn apply_affinity(pid: i32, cpus: &BTreeSet<usize>) -> Result<(), String> {
    let mut mask: Mask = [0; MASK_WORDS];
    for cpu in cpus {
        match mask.get_mut(cpu / 64) {
            Some(word) => *word |= 1 << (cpu % 64),
            None => return Err(format!("CPU {cpu} is past the last of {}", MASK_WORDS * 64)),
        }
    }
    sys::set_affinity(pid, &mask).map_err(|errno| {
        format!(
            "cannot set the affinity of worker {pid} to {}: {}; are they in its cpuset?",
            cpuset_string(cpus),
            os_error(errno)
        )
    })
}

/// `struct sched_attr` of include/uapi/linux/sched/types.h, first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets nice value and policy of a process; the error is a sentence.
pub(super) fn apply_policy(pid: i32, wanted: &Policy) -> Result<(), String> {
    if let Some(nice) = wanted.nice {
        // SAFETY: plain integers.
        if unsafe { libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, nice) } < 0 {
            return Err(format!(
                "cannot set nice {nice} of worker {pid}: {}",
                os_error(sys::errno())
            ));
        }
    }
    let mut attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        nice: wanted.nice.unwrap_or(0),
        ..SchedAttr::default()
    };
    let ns = |d: std::time::Duration| d.as_nanos() as u64;
    let policy = match wanted.policy {
        SchedPolicy::Normal => return Ok(()),
        SchedPolicy::Batch => libc::SCHED_BATCH,
        SchedPolicy::Idle => libc::SCHED_IDLE,
        SchedPolicy::Fifo(priority) => {
            attr.priority = priority;
            libc::SCHED_FIFO
        }
        SchedPolicy::RoundRobin(priority) => {
            attr.priority = priority;
            libc::SCHED_RR
        }
        SchedPolicy::Deadline {
            runtime,
            deadline,
            period,
        } => {
            attr.runtime = ns(runtime);
            attr.deadline = ns(deadline);
            attr.period = ns(period);
            libc::SCHED_DEADLINE
        }
        SchedPolicy::Ext => SCHED_EXT,
    };
    attr.policy = policy as u32;
    // SAFETY: `attr` is a valid sched_attr of the size it names; flags are 0.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) } < 0 {
        return Err(format!(
            "cannot set policy {:?} of worker {pid}: {}",
            wanted.policy,
            os_error(sys::errno())
        ));
    }
    Ok(())
}
