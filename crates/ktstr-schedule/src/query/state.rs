//! The state of a task at one point in time.

use super::totals::Key;
use super::{WaitCause, Waker};
use crate::event::{Class, Cpu, CpuMask, Pid};

/// The activity of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// The schedule has not shown it yet.
    Unknown,
    /// The task runs on a CPU.
    Running {
        cpu: Cpu,
    },
    /// The task is runnable, but not running.
    Waiting {
        from_ns: u64,
        cause: WaitCause,
    },
    /// The cgroup's quota keeps the task from running.
    Throttled,
    Asleep,
    Gone,
}

/// The state of a task during the evaluation of a schedule.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub doing: Doing,
    pub cgroup: Option<u64>,
    pub class: Class,
    pub mask: CpuMask,
    /// The CPU on which it last ran.
    pub ran_on: Option<Cpu>,
    /// The CPU whose runqueue it is on, or was on last.
    pub queue: Cpu,
    /// The time at which its current activity began.
    pub since_ns: u64,
    /// The time up to which its activity has been accounted.
    pub booked_ns: u64,
    /// The key of the sum to which its time was last added.
    pub booked: Option<Key>,
    /// Whether its cgroup is out of quota: the task is throttled as soon as it leaves its CPU.
    pub put_aside: bool,
    /// The last wakeup of the task.
    pub waker: Option<Waker>,
    /// The dispatch queue into which it was put since it last ran.
    pub dsq: Option<u64>,
    /// Whether it has been created and has not run yet.
    pub fresh: bool,
    /// The nice value, -20 to 19.
    pub nice: i8,
    /// The policy, `SCHED_*` (include/uapi/linux/sched.h).
    pub policy: u8,
    /// CPU time since the task was created, in nanoseconds, as far as the schedule shows.
    pub ran_ns: u64,
    /// The number of times that it was given a CPU since it was created, as far as the schedule shows.
    pub runs: u64,
    /// The number of times that it was given another CPU than the last time, since it was created.
    pub migrations: u64,
    /// The number of earlier tasks with the same pid.
    pub life: u32,
    /// The index of its name in the table; `None` if the name is not known yet.
    pub name: Option<u32>,
    /// CPU time since it last slept or yielded, in nanoseconds.
    pub burst_ns: u64,
    /// The CPU time that it has been entitled to while waiting, since it last ran, in nanoseconds.
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

/// The information about a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskInfo {
    /// Its names, the latest last; empty if none is known.
    pub names: Vec<String>,
    /// The task that created it.
    pub parent: Option<Pid>,
    /// Its cgroups, the latest last.
    pub cgroups: Vec<u64>,
    /// The last nice value that was set during the recording.
    pub nice: Option<i8>,
}

impl TaskInfo {
    /// Returns its latest name.
    pub fn name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }
}
