//! The promises of a scheduler to the tasks that it schedules. The default checks hold a scheduler to all promises that it
//! makes; a violation of a promise that it does not make is reported, but fails no test.

/// A promise that a scheduler makes unless its declaration excludes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// A waiting task runs before it has missed much of the CPU time that it is entitled to.
    Service,
    /// Tasks and their cgroups get their shares of CPU time.
    Fairness,
    /// Shares follow nice values. Without this promise all tasks have the same weight.
    Nice,
    /// Shares follow `cpu.weight` if a test sets it. Without this promise, tasks are compared regardless of their cgroups.
    CpuWeight,
    /// No CPU is idle while a task that may run on it waits.
    WorkConservation,
    /// A woken task runs soon.
    WakeUps,
    /// A running task is not preempted too soon.
    Slices,
    /// The scheduler runs all tasks with a normal policy. A scheduler with `SCX_OPS_SWITCH_PARTIAL` runs only those with
    /// `SCHED_EXT`.
    AllTasks,
}

impl Promise {
    /// Returns a short name of the promise for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Fairness => "fairness",
            Self::Nice => "nice values",
            Self::CpuWeight => "cpu.weight",
            Self::WorkConservation => "work conservation",
            Self::WakeUps => "wake-ups",
            Self::Slices => "slices",
            Self::AllTasks => "all tasks",
        }
    }

    /// Returns the bit of the promise in [`Promises`].
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The set of promises that a scheduler makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// The bits of the promises that the scheduler does not make.
    without: u16,
}

impl Promises {
    /// The set of all promises, which is the default.
    pub const ALL: Self = Self { without: 0 };

    /// Returns these promises without `promise`.
    #[must_use]
    pub const fn without(self, promise: Promise) -> Self {
        Self {
            without: self.without | promise.bit(),
        }
    }

    /// Returns whether the scheduler makes this promise.
    pub const fn holds(self, promise: Promise) -> bool {
        self.without & promise.bit() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_promises_do_not_hold_and_the_others_do() {
        const SOME: Promises = Promises::ALL
            .without(Promise::Nice)
            .without(Promise::AllTasks);
        assert!(!SOME.holds(Promise::Nice) && !SOME.holds(Promise::AllTasks));
        assert!(SOME.holds(Promise::Service) && SOME.holds(Promise::Slices));
        assert!(Promises::ALL.holds(Promise::Nice));
    }
}
