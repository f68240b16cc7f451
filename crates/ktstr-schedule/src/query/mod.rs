//! Questions to a schedule: who got how much, who waited how long, and what was wasted meanwhile.
//!
//! [`Answers::of`] walks through a schedule once. Sums are kept by phase, task, cgroup and CPU
//! ([`Key`]), so that any of them can be asked for by adding up what matches; waits are kept one
//! by one.

mod account;
mod idle;
mod marks;
mod measures;
mod numbers;
mod percentile;
mod shares;
mod state;
mod steps;
mod stretches;
#[cfg(test)]
mod tests;
mod totals;
mod waits;
mod walk;

pub use idle::Idle;
pub use marks::{Mark, Span, spans};
pub use measures::{Measures, OfCgroup, Starved, Underserved, Wasted, Who, measures};
pub use numbers::{Numbers, Of, numbers};
pub use percentile::percentile;
pub use shares::Share;
pub use state::TaskInfo;
pub use stretches::{Did, Stretch, Waker, stretches};
pub use totals::{Key, Totals};
pub use waits::{Wait, WaitCause};

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Cpu, Pid};
use crate::{ReadError, Schedule};

/// A step of the scenario while it is held, the first of which is 1; `None` is everything before, between and after.
pub type Phase = Option<u16>;

/// What makes one task weigh more than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Nice values do.
    pub nice: bool,
    /// Weights of cgroups do.
    pub cpu_weight: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            nice: true,
            cpu_weight: true,
        }
    }
}

/// All that was found in a schedule.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Sums by phase, task, cgroup and CPU.
    pub totals: BTreeMap<Key, Totals>,
    /// Every wait that ended, and those that had not ended when the schedule did.
    pub waits: Vec<Wait>,
    /// Waits that were open when their phase was over, as long as they were by then: each of them is among the others, too,
    /// with its whole length.
    pub open_waits: Vec<Wait>,
    /// Idle time by phase and CPU.
    pub idle: BTreeMap<(Phase, Cpu), Idle>,
    /// Tasks that came up.
    pub tasks: BTreeMap<Pid, TaskInfo>,
    /// Marks that tasks left, in order.
    pub marks: Vec<Mark>,
    /// Length of each phase, nanoseconds.
    pub phases: BTreeMap<Phase, u64>,
    /// Idle CPU time that a waiting task could have used, by phase: the integral of the smaller
    /// of two numbers, of idle CPUs on which some waiting task may run and of waiting tasks that
    /// may run on some idle CPU. CPU-nanoseconds.
    pub wasted_ns: BTreeMap<Phase, u64>,
    /// Of it, what tasks could have used that had waited for longer than a tick.
    pub wasted_late_ns: BTreeMap<Phase, u64>,
    /// What each task got and was entitled to, by phase, task and cgroup.
    pub shares: BTreeMap<(Phase, Pid, Option<u64>), Share>,
    /// Time of the steps in which the queues of CPUs had had time to be evened out, nanoseconds: shares are of this time.
    pub even_ns: u64,
    /// The other time of the steps: somebody had just been placed, confined or weighed anew.
    pub uneven_ns: u64,
    /// The rules that entitlement follows.
    pub rules: Rules,
    /// Paths of cgroups whose weight was set to another one than the usual.
    pub weighted: BTreeSet<String>,
    /// When the first phase began, nanoseconds of the scheduler's clock.
    pub from_ns: Option<u64>,
    /// When the last phase ended.
    pub to_ns: Option<u64>,
    /// Stretches of which events were left out.
    pub gaps: u32,
    /// Phases of which events may have been left out.
    pub holed: BTreeSet<Phase>,
    /// Time of which events were left out, nanoseconds: nothing above covers it.
    pub missing_ns: u64,
}

impl Answers {
    /// Walks through `schedule`; all weights count.
    pub fn of(schedule: &Schedule<'_>) -> Result<Self, ReadError> {
        Self::under(schedule, Rules::default())
    }

    /// Walks through `schedule`; entitlement follows `rules`.
    pub fn under(schedule: &Schedule<'_>, rules: Rules) -> Result<Self, ReadError> {
        let mut walk = walk::Walk::new(schedule.tables());
        walk.answers.rules = rules;
        schedule.for_each(|event| match event {
            Ok(event) => walk.event(event),
            Err(gap) => walk.gap(gap),
        })?;
        Ok(walk.done())
    }

    /// The sum of everything that `matches`.
    pub fn sum(&self, matches: impl Fn(&Key) -> bool) -> Totals {
        let found = self.totals.iter().filter(|(key, _)| matches(key));
        found.fold(Totals::default(), |sum, (_, totals)| sum + *totals)
    }

    /// Lengths of the waits that `matches`, shortest first, nanoseconds.
    pub fn waits_ns(&self, matches: impl Fn(&Wait) -> bool) -> Vec<u64> {
        let found = self.waits.iter().filter(|wait| matches(wait));
        let mut lengths: Vec<u64> = found.map(Wait::len_ns).collect();
        lengths.sort_unstable();
        lengths
    }
}
