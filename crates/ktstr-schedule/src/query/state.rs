//! What is known of a task at a moment.

use super::totals::Key;
use super::{WaitCause, Waker};
use crate::event::{Class, Cpu, CpuMask, Pid};

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// The schedule has not said yet.
    Unknown,
    /// The task runs on a CPU.
    Running {
        cpu: Cpu,
    },
    /// It could run.
    Waiting {
        from_ns: u64,
        cause: WaitCause,
    },
    /// Its cgroup's quota keeps it from running.
    Throttled,
    Asleep,
    Gone,
}

/// A task while the schedule is walked through.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub doing: Doing,
    pub cgroup: Option<u64>,
    pub class: Class,
    pub mask: CpuMask,
    /// The CPU on which it ran last.
    pub ran_on: Option<Cpu>,
    /// The CPU whose runqueue it is or was on.
    pub queue: Cpu,
    /// Since when it does what it does.
    pub since_ns: u64,
    /// Up to when its time is in the sums.
    pub booked_ns: u64,
    /// The sum that its time went to last.
    pub booked: Option<Key>,
    /// Its cgroup is out of quota: it is put aside as soon as it leaves its CPU.
    pub put_aside: bool,
    /// Who woke it last.
    pub waker: Option<Waker>,
    /// The dispatch queue that it was put into since it ran last.
    pub dsq: Option<u64>,
    /// It has been made and has not run yet.
    pub fresh: bool,
    /// -20 to 19.
    pub nice: i8,
    /// `SCHED_*` (include/uapi/linux/sched.h).
    pub policy: u8,
    /// CPU time since it was made, as far as the schedule knows.
    pub ran_ns: u64,
    /// Times that it was given a CPU since it was made, as far as the schedule knows.
    pub runs: u64,
    /// Times that it was given another CPU than the time before, since it was made.
    pub migrations: u64,
    /// How many tasks of this id there were before.
    pub life: u32,
    /// Its name, an index into the table; `None` before it is known.
    pub name: Option<u32>,
    /// CPU time since it slept or yielded last.
    pub burst_ns: u64,
    /// CPU time that it was entitled to while it waited, since it ran last.
    pub owed_ns: u64,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            doing: Doing::Unknown,
            cgroup: None,
            class: Class::Unknown,
            mask: CpuMask::ALL,
            ran_on: None,
            queue: Cpu::UNKNOWN,
            since_ns: 0,
            booked_ns: 0,
            booked: None,
            put_aside: false,
            waker: None,
            dsq: None,
            fresh: false,
            nice: 0,
            policy: 0,
            ran_ns: 0,
            runs: 0,
            migrations: 0,
            life: 0,
            name: None,
            burst_ns: 0,
            owed_ns: 0,
        }
    }
}

/// What became known of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskInfo {
    /// Names it had, the last one last; empty if none is known.
    pub names: Vec<String>,
    /// The task that made it.
    pub parent: Option<Pid>,
    /// Cgroups it was in, the last one last.
    pub cgroups: Vec<u64>,
    /// The last nice value that was set while the schedule was recorded.
    pub nice: Option<i8>,
}

impl TaskInfo {
    /// Its last name.
    pub fn name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }
}
