//! The stretches of time in which each task did one thing.
//!
//! The sums are computed from the same stretches, so the lengths of a task's stretches on CPUs add up to its CPU time
//! exactly.

use std::fmt;

use super::state::Doing;
use super::walk::Walk;
use super::{Answers, WaitCause};
use crate::event::{Class, Cpu, Pid, Reason};
use crate::{ReadError, Schedule};

/// The origin of a wakeup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waker {
    /// The task that was running on the CPU that requested the wakeup.
    pub task: Pid,
    /// The CPU on which the wakeup was requested.
    pub cpu: Cpu,
    /// Whether an interrupt requested it, and not the task itself.
    pub interrupt: bool,
    /// When it was requested, in nanoseconds of the kernel's scheduler clock.
    pub at_ns: u64,
}

/// What a task did during a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// The task ran on a CPU.
    Ran {
        /// The CPU on which it ran.
        cpu: Cpu,
        /// The scheduling class in which it ran, according to its last enqueue.
        class: Class,
        /// Why it stopped; `None` if the schedule ends there or has a gap.
        then: Option<Reason>,
    },
    /// The task was runnable, but did not run.
    Waited {
        /// The CPU on whose runqueue it was for the longest part of the wait; [`Answers::queues`] has the others. Another
        /// CPU may then have run the task.
        cpu: Cpu,
        /// How the wait began.
        cause: WaitCause,
        /// The origin of the wakeup; `None` if the wait did not begin with a wakeup, or if its origin is unknown.
        waker: Option<Waker>,
        /// The dispatch queue into which the BPF scheduler put the task last; `None` if there was none since the
        /// task last ran.
        dsq: Option<u64>,
        /// When it left that queue without running, in nanoseconds of the kernel's scheduler clock: sched_ext re-enqueued it
        /// without the BPF scheduler, as it does when a bypass begins. `None` if it stayed in the queue.
        left_dsq_ns: Option<u64>,
        /// Whether it got a CPU at the end.
        served: bool,
    },
    /// The cgroup's quota kept the task from running.
    Throttled,
    /// The task was blocked.
    Slept,
}

/// A stretch of time in which a task did one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The task to which the stretch belongs.
    pub task: Pid,
    /// The id of its cgroup at the end; `None` if it is unknown.
    pub cgroup: Option<u64>,
    /// What the task did.
    pub did: Did,
    /// When the stretch began, in nanoseconds of the kernel's scheduler clock.
    pub from_ns: u64,
    /// When the stretch ended, in nanoseconds of the kernel's scheduler clock.
    pub to_ns: u64,
}

impl Stretch {
    /// Returns the length in nanoseconds.
    pub fn len_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// Evaluates `schedule` in a single pass like [`Answers::of`], and calls `each` for every stretch, in the order in which the
/// stretches end. A sleep that a gap interrupts, or that lasts until the end of the schedule, is left out.
///
/// # Errors
/// If the schedule is damaged.
pub fn stretches<'a>(
    schedule: &'a Schedule<'_>,
    each: impl FnMut(&Stretch) + 'a,
) -> Result<Answers, ReadError> {
    let mut walk = Walk::new(schedule.tables());
    walk.sink = Sink(Some(Box::new(each)));
    walk.over(schedule)?;
    Ok(walk.done())
}

/// A callback for every stretch.
type Each<'a> = Box<dyn FnMut(&Stretch) + 'a>;

/// Receives the stretches, if a callback is set.
#[derive(Default)]
pub(super) struct Sink<'a>(Option<Each<'a>>);

impl fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sink").field(&self.0.is_some()).finish()
    }
}

impl Walk<'_> {
    /// Reports the task's current stretch, which ends at the time of this event, if a callback is set. `then` is why
    /// the task leaves its CPU, or `None` if it leaves none, and `served` is whether it gets a CPU.
    pub(super) fn end_stretch(&mut self, pid: Pid, then: Option<Reason>, served: bool) {
        let Some(each) = &mut self.sink.0 else {
            return;
        };
        let Some(task) = self.tasks.get(&pid) else {
            return;
        };
        let to_ns = self.time.max(task.since_ns);
        let queues = task.queues_until(to_ns, served);
        if queues.len() > 1 {
            let wait = (pid, task.since_ns);
            self.answers.queues.insert(wait, queues.to_vec());
        }
        let did = match task.doing {
            Doing::Unknown | Doing::Gone => return,
            Doing::Running { cpu } => Did::Ran {
                cpu,
                class: task.class,
                then,
            },
            Doing::Waiting { cause, .. } => Did::Waited {
                cpu: task.waited_on(to_ns, served),
                cause,
                waker: task.waker.filter(|_| cause == WaitCause::Woken),
                dsq: task.dsq,
                left_dsq_ns: task.left_dsq_ns,
                served,
            },
            Doing::Throttled => Did::Throttled,
            Doing::Asleep => Did::Slept,
        };
        each(&Stretch {
            task: pid,
            cgroup: task.cgroup,
            did,
            from_ns: task.since_ns,
            to_ns,
        });
    }
}

#[cfg(test)]
#[path = "stretches_tests.rs"]
mod tests;
