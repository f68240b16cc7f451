//! Waits: each stretch of time in which a task could have run and did not.

use serde::Serialize;

use super::{Answers, Phase};
use crate::event::{Cpu, Pid};

/// How a wait began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// The task was woken: the wait is its wake-up latency.
    Woken,
    /// The task had just been made.
    Forked,
    /// The task was preempted.
    Preempted,
    /// The task yielded.
    Yielded,
    /// Its cgroup got a new quota.
    Unthrottled,
    /// The schedule does not say, because it begins or has a gap there.
    Unknown,
}

/// The time between a task's becoming runnable and its running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The phase in which it ended.
    pub phase: Phase,
    /// The task that waited.
    pub task: Pid,
    /// Its cgroup; `None` if it is not known.
    pub cgroup: Option<u64>,
    /// The CPU whose runqueue the task was on at the end of it.
    pub cpu: Cpu,
    /// How it began.
    pub cause: WaitCause,
    /// When it began, nanoseconds of the scheduler's clock.
    pub from_ns: u64,
    /// When the task got a CPU, or when the schedule ended.
    pub to_ns: u64,
    /// CPU time that the task was entitled to meanwhile, nanoseconds: 0 for a wait that is shorter than a window.
    pub owed_ns: u64,
    /// Whether the task got a CPU.
    pub served: bool,
}

impl Wait {
    /// How long it was, nanoseconds.
    pub fn len_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

impl Answers {
    /// The longest time that `task` waited in any stretch of `within_ns`, nanoseconds. `None` if the schedule does not know
    /// the task, or has a hole in which it may have waited.
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
        // What was waited for up to each wait's beginning: a task waits for one CPU at a time.
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
        // The stretch that has most of them begins where one does, or ends where one does.
        let begin = waits.iter().map(|(from, _)| *from);
        let end = waits.iter().map(|(_, to)| to.saturating_sub(within_ns));
        let most = begin
            .chain(end)
            .map(|began| until(began.saturating_add(within_ns)).saturating_sub(until(began)));
        Some(most.max().unwrap_or(0))
    }
}
