//! Waits: the stretches of time in which a task was runnable but not running.

use serde::Serialize;

use super::{Answers, Phase};
use crate::event::{Class, Cpu, Pid};

/// How a wait began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// The task was woken: the wait is its wakeup latency.
    Woken,
    /// The task had just been created.
    Forked,
    /// The task was preempted.
    Preempted,
    /// The task gave up the CPU with `sched_yield()`, and remained runnable.
    Yielded,
    /// The cgroup of the task has quota again.
    Unthrottled,
    /// The schedule does not show how the wait began, in most cases because the schedule starts or has a gap there.
    Unknown,
}

/// The time from the moment at which a task becomes runnable, or loses its CPU while it is runnable, until it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The phase in which the wait ended; in [`Answers::open_waits`] the phase at whose end it was still open.
    pub phase: Phase,
    /// The task that waited.
    pub task: Pid,
    /// The scheduling class of the task when the wait began.
    pub class: Class,
    /// The id of the task's cgroup; `None` if it is unknown.
    pub cgroup: Option<u64>,
    /// The CPU on whose runqueue the task was for the longest part of the wait. Another CPU may then have run the task.
    pub cpu: Cpu,
    /// How the wait began.
    pub cause: WaitCause,
    /// When the wait began, in nanoseconds of the kernel's scheduler clock.
    pub from_ns: u64,
    /// When the task got a CPU or the schedule ended, or, in [`Answers::open_waits`], when the phase ended; in nanoseconds of
    /// the kernel's scheduler clock.
    pub to_ns: u64,
    /// The CPU time that the task was entitled to in the windows that the wait fills, in nanoseconds; 0 for a wait that fills
    /// none. A window is a part of a step, about 50 ms long.
    pub owed_ns: u64,
    /// The part of the wait in which `owed_ns` was counted, in nanoseconds: the windows that the wait fills. Windows in
    /// which an affinity changed, a quota limited the task, or the scheduler was being reloaded at the kernel's request do not
    /// count. Windows in the second after a change of weight or a gap, and in or soon after a bypass, do not count either.
    pub judged_ns: u64,
    /// Whether the task got a CPU.
    pub served: bool,
}

impl Wait {
    /// Returns the length in nanoseconds.
    pub fn len_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// The waits of one task, in order, without those as a deadline task: the kernel keeps a deadline task that has used up its
/// budget from running until its next period, and the schedule shows that time as a wait.
struct WaitsOfTask {
    /// The start and the end of each wait.
    waits: Vec<(u64, u64)>,
    /// The total wait before each wait begins. A task waits for one CPU at a time, so waits do not overlap.
    before: Vec<u64>,
}

impl WaitsOfTask {
    fn new(answers: &Answers, task: Pid) -> Self {
        let waits = answers.waits.iter();
        let own = waits.filter(|wait| wait.task == task && wait.class != Class::Deadline);
        let mut waits: Vec<(u64, u64)> = own.map(|wait| (wait.from_ns, wait.to_ns)).collect();
        waits.sort_unstable();
        let before = waits.iter().scan(0u64, |sum, (from, to)| {
            let before = *sum;
            *sum = sum.saturating_add(to.saturating_sub(*from));
            Some(before)
        });
        let before = before.collect();
        Self { waits, before }
    }

    /// Returns how long the task has waited until `time`, in nanoseconds.
    fn until(&self, time: u64) -> u64 {
        match self.waits.partition_point(|(from, _)| *from <= time) {
            0 => 0,
            after => {
                let (from, to) = self.waits[after - 1];
                self.before[after - 1].saturating_add(time.min(to).saturating_sub(from))
            }
        }
    }

    /// Returns how long the task waited from one time to another, in nanoseconds.
    fn between(&self, from_ns: u64, to_ns: u64) -> u64 {
        self.until(to_ns).saturating_sub(self.until(from_ns))
    }
}

impl Answers {
    /// Returns the longest total time that `task` waited in any period of `within_ns` nanoseconds, in nanoseconds; `None` if the
    /// schedule does not contain the task, or has a gap, in which the task may have waited. Waits as a deadline task do not
    /// count.
    pub fn most_waited_ns(&self, task: Pid, within_ns: u64) -> Option<u64> {
        let own = self.all_waits_of(task)?;
        // The period with the longest total wait starts at the start of a wait, or ends at the end of one.
        let begin = own.waits.iter().map(|(from, _)| *from);
        let end = own.waits.iter().map(|(_, to)| to.saturating_sub(within_ns));
        let most = begin
            .chain(end)
            .map(|began| own.between(began, began.saturating_add(within_ns)));
        Some(most.max().unwrap_or(0))
    }

    /// Returns the total time that `task` waited between two times, in nanoseconds; `None` if the schedule does not contain the
    /// task, or has a gap, in which the task may have waited. Waits as a deadline task do not count.
    pub fn waited_between_ns(&self, task: Pid, from_ns: u64, to_ns: u64) -> Option<u64> {
        Some(self.all_waits_of(task)?.between(from_ns, to_ns))
    }

    fn all_waits_of(&self, task: Pid) -> Option<WaitsOfTask> {
        let known = self.missing_ns == 0 && self.tasks.contains_key(&task);
        known.then(|| WaitsOfTask::new(self, task))
    }
}
