//! What a thread of an rt-app workload does: phases of actions over named objects. Plain data; `ktstr-guest` executes it.
//!
//! How a published file becomes this is in [`crate::rt_app`].

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sched::SchedPolicy;

/// Names longer than this are refused: no published file comes near it, and errors print them.
const MAX_NAME: usize = 128;

/// A phase of [`WorkType::RtApp`](super::WorkType::RtApp): its actions, one after the other, as often as it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtPhase {
    /// How often the actions are done before the next phase; 0 never ends.
    pub repeat: u64,
    /// What is done, in this order; at least one.
    pub actions: Vec<RtAction>,
}

impl RtPhase {
    /// A phase that is passed once.
    pub fn once(actions: impl IntoIterator<Item = RtAction>) -> Self {
        Self {
            repeat: 1,
            actions: actions.into_iter().collect(),
        }
    }

    /// What a phase is where a text leaves parts of it out.
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
/// How late a worker ran after a sleep, or after the call that it waited for, is a wake-up latency. A worker that has a timer
/// measures how late it ran after that alone, as timer latency, and the slack of each period.
///
/// Objects are named: all workers of a scenario that use one name of one kind (lock, condition, barrier, semaphore, shared timer)
/// use one object, whichever cgroup they are in. `Suspend` and `Resume` use conditions. An object outlives the workers: where those
/// of an earlier step were stopped in the middle of a barrier, a later step names another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RtAction {
    /// Computes until it has had so much CPU time.
    Run(Duration),
    /// Computes until so much time has passed, however much of it the worker had a CPU.
    Runtime(Duration),
    /// Sleeps for so long.
    Sleep(Duration),
    /// Sleeps until the timer's next period begins; without a sleep if that has begun already. How much time was left, the slack,
    /// and how late the worker woke up are measured.
    Timer {
        /// The timer.
        name: String,
        /// The time from one use of the timer to the next. The first one counts from the worker's start, after its delay.
        period: Duration,
        /// After a period that has begun already, the next one counts from when it was to begin; otherwise from now.
        absolute: bool,
        /// Whether all workers that name the timer use one; otherwise each has its own.
        shared: bool,
    },
    /// Takes a lock, and waits until it is free.
    Lock(String),
    /// Releases a lock. A lock that the worker does not hold is left alone.
    Unlock(String),
    /// Waits for a signal of a condition, with the lock released meanwhile.
    Wait {
        /// The condition.
        condition: String,
        /// The lock, which the worker holds.
        mutex: String,
    },
    /// Wakes the worker that has waited longest for a condition; nobody, if none waits.
    Signal(String),
    /// Wakes all workers that wait for a condition.
    Broadcast(String),
    /// Waits for a `Resume` of this name.
    Suspend(String),
    /// Wakes all workers that are suspended under this name; those who come later wait for the next one.
    Resume(String),
    /// Waits until so many workers have come to the barrier.
    Barrier {
        /// The barrier.
        name: String,
        /// How many workers meet there; at least 1.
        threads: u32,
    },
    /// Adds one to a semaphore, which begins with 0.
    SemPost(String),
    /// Waits until a semaphore is more than 0, and takes one.
    SemWait(String),
    /// Calls `sched_yield(2)`.
    Yield,
    /// Changes the worker's own affinity to these CPUs; none are those that it had at its start.
    Cpus(BTreeSet<usize>),
    /// Changes the worker's own policy.
    Policy(SchedPolicy),
    /// Changes the worker's own priority: the nice value, or the priority where its policy is `SCHED_FIFO` or `SCHED_RR`.
    Priority(i32),
    /// Asks for slices of this length, under `SCHED_OTHER` and `SCHED_BATCH` (Linux 6.12).
    Slice(Duration),
}

impl RtAction {
    /// The objects that it names.
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

    /// What is wrong with it, if something is.
    fn wrong(&self) -> Option<String> {
        let odd = |name: &str| name.is_empty() || name.len() > MAX_NAME;
        if let Some(name) = self.names().into_iter().flatten().find(|name| odd(name)) {
            return Some(format!(
                "the name {name:?} of an object must have 1 to {MAX_NAME} bytes"
            ));
        }
        match self {
            Self::Timer { name, period, .. } if period.is_zero() => Some(format!(
                "the period of timer {name:?} is 0, it must be more"
            )),
            Self::Barrier { name, threads: 0 } => {
                Some(format!("barrier {name:?} is of 0 threads, it must be more"))
            }
            Self::Policy(policy) => policy.validate().err().map(|error| error.to_string()),
            Self::Priority(priority) if !(-20..=99).contains(priority) => {
                Some(format!("priority {priority} is not in -20..=99"))
            }
            Self::Slice(time) if time.is_zero() => {
                Some("a slice is 0 long, it must be more".to_owned())
            }
            _ => None,
        }
    }
}

/// What is wrong with the phases of a worker, if something is.
pub(crate) fn wrong(phases: &[RtPhase]) -> Option<String> {
    if phases.is_empty() {
        return Some("there is no phase, so nothing would be done".to_owned());
    }
    phases.iter().enumerate().find_map(|(at, phase)| {
        if phase.actions.is_empty() {
            return Some(format!("phase {at} has no action"));
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
        insta::assert_snapshot!(of(timer).unwrap_or_default(), @r#"phase 0: the period of timer "tick" is 0, it must be more"#);
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
