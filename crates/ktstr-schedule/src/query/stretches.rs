//! What each task did from when to when: the stretches of time that the sums are made of, one by one.
//!
//! They are what the sums book, so that a task's stretches on CPUs have the length of its CPU time to the nanosecond.

use std::fmt;

use super::state::Doing;
use super::walk::Walk;
use super::{Answers, WaitCause};
use crate::event::{Class, Cpu, Pid, Reason};
use crate::{ReadError, Schedule};

/// Who asked for a task to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waker {
    /// The task that ran on the CPU that asked.
    pub task: Pid,
    /// The CPU on which that was asked.
    pub cpu: Cpu,
    /// Whether an interrupt asked, and not the task itself.
    pub interrupt: bool,
    /// When it asked, nanoseconds of the scheduler's clock.
    pub at_ns: u64,
}

/// What a task did for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// It had a CPU.
    Ran {
        /// The CPU that it had.
        cpu: Cpu,
        /// The class in which it ran, as far as its last enqueue told.
        class: Class,
        /// Why it stopped; `None` if the schedule ends there or has a gap.
        then: Option<Reason>,
    },
    /// It could have run and did not.
    Waited {
        /// The CPU whose runqueue it was on at the end.
        cpu: Cpu,
        /// How the wait began.
        cause: WaitCause,
        /// Who woke it, for a wait that began so.
        waker: Option<Waker>,
        /// The dispatch queue into which the BPF scheduler put it last, if it did while the task waited.
        dsq: Option<u64>,
        /// Whether it got a CPU at the end.
        served: bool,
    },
    /// Its cgroup's quota kept it from running.
    Throttled,
    /// It had blocked.
    Slept,
}

/// A stretch of time in which a task did one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The task that did it.
    pub task: Pid,
    /// Its cgroup at the end; `None` if it is not known.
    pub cgroup: Option<u64>,
    /// What it did.
    pub did: Did,
    /// When that began, nanoseconds of the scheduler's clock.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
}

impl Stretch {
    /// How long it was, nanoseconds.
    pub fn len_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// Walks through `schedule` once: what [`Answers::of`] finds, and `each` is called with every stretch, in the order of their
/// ends.
///
/// # Errors
/// If the schedule is damaged.
pub fn stretches<'a>(
    schedule: &'a Schedule<'_>,
    each: impl FnMut(&Stretch) + 'a,
) -> Result<Answers, ReadError> {
    let mut walk = Walk::new(schedule.tables());
    walk.sink = Sink(Some(Box::new(each)));
    schedule.for_each(|event| match event {
        Ok(event) => walk.event(event),
        Err(gap) => walk.gap(gap),
    })?;
    Ok(walk.done())
}

/// Is called with every stretch.
type Each<'a> = Box<dyn FnMut(&Stretch) + 'a>;

/// Takes stretches, if anybody wants them.
#[derive(Default)]
pub(super) struct Sink<'a>(Option<Each<'a>>);

impl fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sink").field(&self.0.is_some()).finish()
    }
}

impl Walk<'_> {
    /// Ends what the task does, up to the time of this event; `then` is why, if it leaves a CPU.
    pub(super) fn end_stretch(&mut self, pid: Pid, then: Option<Reason>, served: bool) {
        let Some(each) = &mut self.sink.0 else {
            return;
        };
        let Some(task) = self.tasks.get(&pid) else {
            return;
        };
        let did = match task.doing {
            Doing::Unknown | Doing::Gone => return,
            Doing::Running { cpu } => Did::Ran {
                cpu,
                class: task.class,
                then,
            },
            Doing::Waiting { cause, .. } => Did::Waited {
                cpu: task.queue,
                cause,
                waker: task.waker.filter(|_| cause == WaitCause::Woken),
                dsq: task.dsq,
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
            to_ns: self.time.max(task.since_ns),
        });
    }
}

#[cfg(test)]
#[path = "stretches_tests.rs"]
mod tests;
