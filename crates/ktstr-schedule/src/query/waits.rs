//! Waits: each stretch of time in which a task could have run and did not.

use serde::Serialize;

use super::Phase;
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
