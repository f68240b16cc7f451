//! Waits: the stretches of time in which a task was runnable but not running.

use serde::Serialize;

use super::{Answers, Phase};
use crate::event::{Cpu, Pid};

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

impl Answers {
    /// Returns the longest total time that `task` waited in any period of `within_ns` nanoseconds, in nanoseconds; `None` if the
    /// schedule does not contain the task, or has a gap, in which the task may have waited.
    pub fn most_waited_ns(&self, task: Pid, within_ns: u64) -> Option<u64> {
        if self.missing_ns > 0 || !self.tasks.contains_key(&task) {
            return None;
        }
        let mut waits: Vec<(u64, u64)> = self
            .waits
            .iter()
            .filter(|wait| wait.task == task)
            .map(|wait| (wait.from_ns, wait.to_ns))
            .collect();
        waits.sort_unstable();
        // The total wait before each wait begins. A task waits for one CPU at a time, so waits do not overlap.
        let sums: Vec<u64> = waits
            .iter()
            .scan(0u64, |sum, (from, to)| {
                let before = *sum;
                *sum = sum.saturating_add(to.saturating_sub(*from));
                Some(before)
            })
            .collect();
        let until = |time: u64| -> u64 {
            match waits.partition_point(|(from, _)| *from <= time) {
                0 => 0,
                after => {
                    let (from, to) = waits[after - 1];
                    sums[after - 1].saturating_add(time.min(to).saturating_sub(from))
                }
            }
        };
        // The period with the longest total wait starts at the start of a wait, or ends at the end of one.
        let begin = waits.iter().map(|(from, _)| *from);
        let end = waits.iter().map(|(_, to)| to.saturating_sub(within_ns));
        let most = begin
            .chain(end)
            .map(|began| until(began.saturating_add(within_ns)).saturating_sub(until(began)));
        Some(most.max().unwrap_or(0))
    }
}
