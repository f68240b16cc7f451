//! What a scheduler promises to the tasks it schedules. The harness asks for all of it by itself; what a scheduler does not
//! promise is told, and fails nothing.

/// Something that a scheduler promises unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Whoever is entitled to CPU time is served before much of it is owed.
    Service,
    /// Tasks, and the cgroups that they are in, get their shares.
    Fairness,
    /// Shares follow nice values. Without it all tasks weigh the same.
    Nice,
    /// Shares follow `cpu.weight` where a test sets it. Without it all tasks stand side by side.
    CpuWeight,
    /// No CPU idles while a task waits that may run there.
    WorkConservation,
    /// A woken task runs soon.
    WakeUps,
    /// A task that runs is let run for a while.
    Slices,
    /// All tasks of a normal policy are its own. A scheduler with `SCX_OPS_SWITCH_PARTIAL` has those alone that
    /// ask for `SCHED_EXT`.
    AllTasks,
}

impl Promise {
    /// The promise in a few words, for messages.
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

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The promises of a scheduler: all but those that were taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    without: u16,
}

impl Promises {
    /// Everything is promised.
    pub const ALL: Self = Self { without: 0 };

    /// These promises without `promise`.
    #[must_use]
    pub const fn without(self, promise: Promise) -> Self {
        Self {
            without: self.without | promise.bit(),
        }
    }

    /// Whether `promise` is among them.
    pub const fn holds(self, promise: Promise) -> bool {
        self.without & promise.bit() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_does_not_hold_and_the_rest_does() {
        const SOME: Promises = Promises::ALL
            .without(Promise::Nice)
            .without(Promise::AllTasks);
        assert!(!SOME.holds(Promise::Nice) && !SOME.holds(Promise::AllTasks));
        assert!(SOME.holds(Promise::Service) && SOME.holds(Promise::Slices));
        assert!(Promises::ALL.holds(Promise::Nice));
    }
}
