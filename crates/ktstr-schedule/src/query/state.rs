//! The state of a task at one point in time.

use super::queues::Queues;
use super::totals::Key;
use super::{WaitCause, Waker};
use crate::event::{Class, Cpu, CpuMask, Pid};

/// The time in nanoseconds for which nothing is concluded about shares after an event that unbalances the queues of the CPUs:
/// a change of the affinity or the cgroup of a task that has started to work, of the weight of a cgroup, or of the CPUs that are
/// online; the end of a confined task; and the start of a task if some tasks may run on fewer CPUs than others. For the same
/// time nothing is concluded about the CPUs that a task was newly allowed to use.
///
/// The queues are balanced gradually: a busy CPU runs the kernel's own balancer 16 times less often than an idle one, and each
/// CPU runs it less often each time it finds nothing but pinned tasks, down to once in 512 ms (`busy_factor`:
/// kernel/sched/topology.c; `MAX_PINNED_INTERVAL`: kernel/sched/fair.c, 7.0). On 4 CPUs a cgroup got 0.79 of its share in the
/// first second after such a change, and 0.68 in the first half second. Next to a cgroup that was confined from the start, a
/// cgroup got 0.60 of its share in the first 0.4 s. Two CPUs of another LLC stayed idle for 0.2 s after a cgroup of spinners was
/// allowed to use them.
pub(super) const BALANCING_NS: u64 = 1_000_000_000;

/// The activity of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// The schedule has not shown what the task does, since the schedule's start or since a gap.
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
    /// Its class when its current activity began.
    pub waits_in: Class,
    pub mask: CpuMask,
    /// The last change of its affinity after it had started to work: the time in nanoseconds, and the CPUs on which it had a
    /// claim before.
    pub confined: Option<(u64, CpuMask)>,
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
    /// The origin of the task's last wakeup.
    pub waker: Option<Waker>,
    /// The last dispatch queue into which it was put after it last ran; `None` if it was put into none.
    pub dsq: Option<u64>,
    /// When it left that queue without running, in nanoseconds of the kernel's scheduler clock. It leaves the queue in this
    /// way if it is dequeued, and then enqueued on the same CPU without being put into a dispatch queue again.
    pub left_dsq_ns: Option<u64>,
    /// The runqueues of its current wait; empty if it was not moved.
    pub queues: Queues,
    /// The CPU from whose runqueue it has been dequeued for a move or a change, if it has not been enqueued since.
    pub dequeued: Option<Cpu>,
    /// Whether it has been created and has not run yet.
    pub fresh: bool,
    /// The nice value, -20 to 19.
    pub nice: i8,
    /// The policy, `SCHED_*` (include/uapi/linux/sched.h).
    pub policy: u8,
    /// CPU time since the task was created, in nanoseconds, as far as the schedule shows.
    pub ran_ns: u64,
    /// When it was dequeued while it ran, to sleep or because its cgroup is out of quota; `None` if it has left its CPU since, or
    /// is queued again.
    pub off_queue_ns: Option<u64>,
    /// The part of `ran_ns` in which it had been dequeued already, and the kernel looked for the next task, in nanoseconds.
    pub leaving_ns: u64,
    /// The number of times that it was given a CPU since it was created, as far as the schedule shows.
    pub runs: u64,
    /// The number of times that it was given another CPU than the last time, since it was created.
    pub migrations: u64,
    /// The number of earlier tasks with the same pid.
    pub life: u32,
    /// The index of its name in the table; `None` while the name is unknown.
    pub name: Option<u32>,
    /// CPU time since it last slept or yielded, in nanoseconds.
    pub burst_ns: u64,
    /// The CPU time that it has been entitled to while waiting, since it last ran, in nanoseconds.
    pub owed_ns: u64,
    /// The part of its current wait for which it is known what it was entitled to, in nanoseconds.
    pub judged_ns: u64,
}

impl Task {
    /// Returns the CPUs that the task could have been given at the time `at_ns` by a scheduler that balances its queues
    /// gradually: the CPUs of its affinity, without those that were newly allowed less than [`BALANCING_NS`] ago.
    pub fn claim(&self, at_ns: u64) -> CpuMask {
        match self.confined {
            Some((since, before)) if at_ns < since.saturating_add(BALANCING_NS) => {
                self.mask.and(before)
            }
            _ => self.mask,
        }
    }
}

impl Default for Task {
    fn default() -> Self {
        Self {
            doing: Doing::Unknown,
            cgroup: None,
            class: Class::Unknown,
            waits_in: Class::Unknown,
            mask: CpuMask::ALL,
            confined: None,
            ran_on: None,
            queue: Cpu::UNKNOWN,
            since_ns: 0,
            booked_ns: 0,
            booked: None,
            put_aside: false,
            waker: None,
            dsq: None,
            left_dsq_ns: None,
            queues: Vec::new(),
            dequeued: None,
            fresh: false,
            nice: 0,
            policy: 0,
            ran_ns: 0,
            off_queue_ns: None,
            leaving_ns: 0,
            runs: 0,
            migrations: 0,
            life: 0,
            name: None,
            burst_ns: 0,
            owed_ns: 0,
            judged_ns: 0,
        }
    }
}

/// What the schedule shows about a task. Pids are reused: the names and cgroups of earlier tasks with the same pid come first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskInfo {
    /// Its names, the latest last; empty if none is known.
    pub names: Vec<String>,
    /// The task that created it; `None` if it existed before the recording.
    pub parent: Option<Pid>,
    /// Its cgroups, the latest last.
    pub cgroups: Vec<u64>,
    /// The last nice value that the schedule shows; `None` if it shows none.
    pub nice: Option<i8>,
    /// When each task with the pid was created, in nanoseconds of the kernel's scheduler clock.
    pub forks_ns: Vec<u64>,
    /// When the first mark with the pid was left ([`Mark`](super::Mark)), in nanoseconds of the kernel's scheduler clock.
    pub first_mark_ns: Option<u64>,
}

impl TaskInfo {
    /// Returns its latest name; `None` if none is known.
    pub fn name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// Returns the time at which the task was created, and that of its first mark, in nanoseconds of the kernel's scheduler
    /// clock. `None` if the schedule does not show both, or if several tasks had the pid, so that it does not tell them apart.
    pub fn began_ns(&self) -> Option<(u64, u64)> {
        match self.forks_ns[..] {
            [forked_ns] => Some((forked_ns, self.first_mark_ns?)),
            _ => None,
        }
    }
}
