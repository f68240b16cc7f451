//! What a thread of an rt-app workload does, as plain data: phases of actions on named objects. [`crate::rt_app`] creates it
//! from a workload file, and `ktstr-guest` executes it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sched::SchedPolicy;

/// The largest length of a name in bytes. Names in published files are much shorter. Error messages contain names in full,
/// so the limit keeps them short.
const MAX_NAME: usize = 128;

/// A phase of [`WorkType::RtApp`](super::WorkType::RtApp): actions that are executed one after the other, and how often
/// they are repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtPhase {
    /// How often the actions are executed before the next phase begins; 0 means without end.
    pub repeat: u64,
    /// The actions in their order; at least one.
    pub actions: Vec<RtAction>,
}

impl RtPhase {
    /// Creates a phase whose actions are executed once.
    pub fn once(actions: impl IntoIterator<Item = RtAction>) -> Self {
        Self {
            repeat: 1,
            actions: actions.into_iter().collect(),
        }
    }

    /// Returns a phase that runs for 1 ms and sleeps for 9 ms. A field that a text leaves out has its value from this phase.
    pub(crate) fn usual() -> Self {
        Self::once([
            RtAction::Run(Duration::from_millis(1)),
            RtAction::Sleep(Duration::from_millis(9)),
        ])
    }
}

text_struct! { RtPhase, "a phase such as { repeat = 1, actions = [{ run = \"1ms\" }, { sleep = \"9ms\" }] }",
RtPhase::usual(), { repeat, actions } }

/// One action of a phase.
///
/// After a sleep, or after another worker has woken it, a worker records how late it ran as a wake-up latency. A worker that uses
/// a timer records other values instead: how late it ran after the timer, as a timer latency, and the slack of each period.
///
/// An object is known by its name: all workers of a scenario that use the same name for the same kind of object (lock,
/// condition, barrier, semaphore, shared timer) share one object, whichever cgroup they are in. `Suspend` and `Resume` use
/// conditions, so a `Signal` or a `Broadcast` of the same name also ends a `Suspend`. When a worker starts, each
/// object of its phases is reset if no other living worker has this object in its phases. So the workers of a step do not meet
/// the state that an earlier step left behind, except in objects that workers of the backdrop use as well. At a barrier that the
/// backdrop uses, workers that were stopped while they waited still count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RtAction {
    /// Computes until the worker has used this much CPU time.
    Run(Duration),
    /// Computes until this much time has passed, whether or not the worker had a CPU for all of it.
    Runtime(Duration),
    /// Sleeps for this long.
    Sleep(Duration),
    /// Sleeps until the timer's period ends, or not at all if the period has ended already. The worker records the slack,
    /// which is the time that was left of the period (0 if it had ended), and, if it slept, how late it woke up.
    Timer {
        /// The name of the timer; 1 to 128 bytes.
        name: String,
        /// The length of the period, more than 0. The first period starts when the `delay` of the worker's
        /// [`WorkType::RtApp`](super::WorkType::RtApp) is over.
        period: Duration,
        /// When the next period starts if the worker reaches the timer only after this period has ended. With `true` it starts
        /// at the end of this period. With `false` it starts at the time at which the worker reached the timer.
        absolute: bool,
        /// Whether all workers that name the timer share it; otherwise each worker has its own.
        shared: bool,
    },
    /// Waits until a lock is free, and takes it.
    Lock(String),
    /// Releases a lock. A lock that the worker does not hold is left alone.
    Unlock(String),
    /// Releases a lock, waits for a signal of a condition, and takes the lock again.
    Wait {
        /// The name of the condition, as in `Signal` and `Broadcast`.
        condition: String,
        /// The lock's name. The worker should hold the lock.
        mutex: String,
    },
    /// Wakes the worker that has waited longest for a condition. If no worker waits, the signal is lost.
    Signal(String),
    /// Wakes all workers that wait for a condition.
    Broadcast(String),
    /// Waits until another worker executes a `Resume` of this name.
    Suspend(String),
    /// Wakes all workers that are suspended under this name. Workers that suspend themselves later wait for the next `Resume`.
    Resume(String),
    /// Waits until `threads` workers, this one included, have come to the barrier.
    Barrier {
        /// The name of the barrier; workers that use the same name meet at the same barrier.
        name: String,
        /// How many workers meet there; at least 1.
        threads: u32,
    },
    /// Adds one to a semaphore, whose count is 0 at first.
    SemPost(String),
    /// Waits until a semaphore's count is more than 0, and subtracts one.
    SemWait(String),
    /// Calls `sched_yield(2)` once and goes on with the next action.
    Yield,
    /// Changes the worker's own affinity to these CPUs. The empty set restores the affinity that it had at its start.
    Cpus(BTreeSet<usize>),
    /// Changes the worker's own policy.
    Policy(SchedPolicy),
    /// Changes the worker's own priority: the nice value, or the priority where its policy is `SCHED_FIFO` or `SCHED_RR`.
    Priority(i32),
    /// Asks the kernel for slices of this length, under `SCHED_OTHER` and `SCHED_BATCH` (since Linux 6.12).
    Slice(Duration),
}

impl RtAction {
    /// Returns the names of the objects that the action uses.
    fn names(&self) -> [Option<&str>; 2] {
        match self {
            Self::Timer { name, .. } | Self::Barrier { name, .. } => [Some(name), None],
            Self::Wait { condition, mutex } => [Some(condition), Some(mutex)],
            Self::Lock(name)
            | Self::Unlock(name)
            | Self::Signal(name)
            | Self::Broadcast(name)
            | Self::Suspend(name)
            | Self::Resume(name)
            | Self::SemPost(name)
            | Self::SemWait(name) => [Some(name), None],
            Self::Run(_)
            | Self::Runtime(_)
            | Self::Sleep(_)
            | Self::Yield
            | Self::Cpus(_)
            | Self::Policy(_)
            | Self::Priority(_)
            | Self::Slice(_) => [None, None],
        }
    }

    /// Returns a message with what is wrong with the action, or `None` if it is valid.
    fn wrong(&self) -> Option<String> {
        let odd = |name: &str| name.is_empty() || name.len() > MAX_NAME;
        if let Some(name) = self.names().into_iter().flatten().find(|name| odd(name)) {
            return Some(format!(
                "the name {name:?} of an object must have 1 to {MAX_NAME} bytes"
            ));
        }
        match self {
            Self::Timer { name, period, .. } if period.is_zero() => Some(format!(
                "the period of timer {name:?} is 0, but must be more than 0"
            )),
            Self::Barrier { name, threads: 0 } => Some(format!(
                "barrier {name:?} is for 0 threads, and must be for at least 1"
            )),
            Self::Policy(policy) => policy.validate().err().map(|error| error.to_string()),
            Self::Priority(priority) if !(-20..=99).contains(priority) => Some(format!(
                "priority {priority} is not in the range from -20 to 99"
            )),
            Self::Slice(time) if time.is_zero() => {
                Some("the length of a slice is 0, but must be more than 0".to_owned())
            }
            _ => None,
        }
    }
}

/// Returns a message with what is wrong with the phases of a worker, or `None` if they are valid.
pub(crate) fn wrong(phases: &[RtPhase]) -> Option<String> {
    if phases.is_empty() {
        return Some(
            "there is no phase, so the worker would do nothing: give it at least one".to_owned(),
        );
    }
    phases.iter().enumerate().find_map(|(at, phase)| {
        if phase.actions.is_empty() {
            return Some(format!("phase {at} has no action: give it at least one"));
        }
        let wrong = phase.actions.iter().find_map(RtAction::wrong)?;
        Some(format!("phase {at}: {wrong}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_named() {
        let of = |action: RtAction| wrong(&[RtPhase::once([action])]);
        assert_eq!(of(RtAction::Yield), None);
        assert_eq!(wrong(&[RtPhase::usual()]), None);
        let timer = RtAction::Timer {
            name: "tick".to_owned(),
            period: Duration::ZERO,
            absolute: false,
            shared: true,
        };
        insta::assert_snapshot!(of(timer).unwrap_or_default(), @r#"phase 0: the period of timer "tick" is 0, but must be more than 0"#);
        let barrier = RtAction::Barrier {
            name: "b".to_owned(),
            threads: 0,
        };
        for bad in [
            RtAction::Lock(String::new()),
            RtAction::SemPost("x".repeat(129)),
            RtAction::Priority(100),
            RtAction::Slice(Duration::ZERO),
            RtAction::Policy(SchedPolicy::Fifo(0)),
            barrier,
        ] {
            assert!(of(bad.clone()).is_some(), "{bad:?}");
        }
        assert!(wrong(&[]).is_some());
        assert!(wrong(&[RtPhase::once([])]).is_some());
    }
}
