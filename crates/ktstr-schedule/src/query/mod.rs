//! Queries on a schedule: how much CPU time each task got, how long it waited, and how much CPU time was wasted in the
//! meantime.
//!
//! [`Answers::of`] evaluates a schedule in a single pass. Sums are kept by phase, task, cgroup and CPU ([`Key`]), so that
//! the sum for any of these is computed by adding up the matching ones; waits are kept individually.

mod account;
mod higher;
mod idle;
mod marks;
mod measures;
mod numbers;
mod percentile;
mod queues;
mod shares;
mod state;
mod steps;
mod stretches;
#[cfg(test)]
mod tests;
mod timeline;
mod totals;
mod trail;
mod waits;
mod walk;

pub use higher::HeldByHigher;
pub use idle::Idle;
pub use marks::{Mark, Span, spans};
pub use measures::{Measures, OfCgroup, Starved, Underserved, Wasted, Who, measures};
pub use numbers::{Numbers, Of, numbers};
pub use percentile::percentile;
pub use queues::Queues;
pub use shares::Share;
pub use state::TaskInfo;
pub use stretches::{Did, Stretch, Waker, stretches};
pub use timeline::{Held, Timeline};
pub use totals::{Key, Totals};
pub use trail::{Meanwhile, Trail};
pub use waits::{Wait, WaitCause};

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Cpu, CpuMask, Pid};
use crate::{ReadError, Schedule};

/// A step of the scenario, counted from 1, while it is held; `None` is all time before, between and after the steps.
pub type Phase = Option<u16>;

/// The settings that decide how much CPU time a task is entitled to, compared with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether nice values count.
    pub nice: bool,
    /// Whether the weights of cgroups count.
    pub cpu_weight: bool,
    /// Whether `cpu.idle` counts, which the kernel implements as a weight of the cgroup:
    /// [`IDLE_CGROUP_WEIGHT`](crate::IDLE_CGROUP_WEIGHT).
    pub cpu_idle: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            nice: true,
            cpu_weight: true,
            cpu_idle: true,
        }
    }
}

/// The results of evaluating a schedule.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Sums by phase, task, cgroup and CPU.
    pub totals: BTreeMap<Key, Totals>,
    /// The waits that ended, and those that were still open at the end of the schedule. Waits that a gap interrupts are left out.
    pub waits: Vec<Wait>,
    /// The waits that were still open at the end of their phase, with their length at that time. Each of them is also in
    /// `waits` with its full length, unless a gap interrupts it later.
    pub open_waits: Vec<Wait>,
    /// The runqueues of each wait in which the task was moved, by the task and the start of the wait; filled by [`stretches`].
    /// In every other wait the task was on one runqueue only ([`Did::Waited`]).
    pub queues: BTreeMap<(Pid, u64), Queues>,
    /// The times in which tasks of a class above sched_ext's held each CPU, in order. Time while sched_ext was off because a CPU
    /// had gone online or offline is left out.
    pub higher: BTreeMap<Cpu, Vec<HeldByHigher>>,
    /// Idle time by phase and CPU.
    pub idle: BTreeMap<(Phase, Cpu), Idle>,
    /// The tasks of the schedule.
    pub tasks: BTreeMap<Pid, TaskInfo>,
    /// The marks that tasks left, in order.
    pub marks: Vec<Mark>,
    /// The length of each phase, in nanoseconds.
    pub phases: BTreeMap<Phase, u64>,
    /// The CPUs on which the tasks that ran or waited were allowed to run, by phase and cgroup: the union over the tasks.
    pub allowed: BTreeMap<(Phase, Option<u64>), CpuMask>,
    /// How long each task ran on CPUs on which it was not allowed to run, in nanoseconds. A task whose CPUs change while it runs
    /// stays where it is for some microseconds, until the kernel has moved it. Tasks that never did so are not in the map.
    pub outside_ns: BTreeMap<Pid, u64>,
    /// The CPU time of all CPUs that were online, by phase, in CPU-nanoseconds.
    pub cpu_ns: BTreeMap<Phase, u64>,
    /// The idle CPU time that a waiting task could have used, by phase, in CPU-nanoseconds. It is the integral over time
    /// of the largest number of idle CPUs that the waiting tasks could have used at the same time, if each of them had run on
    /// one of the idle CPUs on which it may run.
    pub wasted_ns: BTreeMap<Phase, u64>,
    /// The part of [`Self::wasted_ns`] that could have been used by tasks that had already waited for longer than a tick,
    /// which is 4 ms. Time in a bypass, or while the scheduler is reloaded at the kernel's request, does not count. A CPU that
    /// a task was newly allowed to use does not count for this task for one second.
    pub wasted_late_ns: BTreeMap<Phase, u64>,
    /// The CPU time that each task got and was entitled to, by phase, task and cgroup.
    pub shares: BTreeMap<(Phase, Pid, Option<u64>), Share>,
    /// The part of the steps' time in which the scheduler had had time to balance the CPUs' queues, in nanoseconds. Shares
    /// cover this time only.
    pub even_ns: u64,
    /// The part of the steps' time from which nothing is concluded about shares, in nanoseconds: in most cases because
    /// some task had just been placed, confined or given another weight. Time in which no task ran or waited is in neither part.
    pub uneven_ns: u64,
    /// The rules for entitlement.
    pub rules: Rules,
    /// The paths of cgroups whose weight was set to a value other than the default.
    pub weighted: BTreeSet<String>,
    /// The paths of cgroups that were idle by `cpu.idle`, if the rules say that this does not count.
    pub idle_cgroups: BTreeSet<String>,
    /// The start of the first step, in nanoseconds of the kernel's scheduler clock; `None` if the schedule has no step.
    pub from_ns: Option<u64>,
    /// The end of the last step, in nanoseconds of the kernel's scheduler clock; `None` if the schedule has no end of a step.
    pub to_ns: Option<u64>,
    /// The number of gaps: intervals in which events were dropped to keep the file small.
    pub gaps: u32,
    /// The phases in which events may have been dropped.
    pub holed: BTreeSet<Phase>,
    /// The length of all gaps together, in nanoseconds. The other results do not cover this time.
    pub missing_ns: u64,
    /// The end of the last gap, in nanoseconds of the kernel's scheduler clock: from this time on no event is missing. `None`
    /// if the schedule has no gap.
    pub complete_from_ns: Option<u64>,
}

impl Answers {
    /// Evaluates `schedule` with the default rules, under which nice values and the weights of cgroups count.
    ///
    /// # Errors
    /// If the schedule is damaged.
    pub fn of(schedule: &Schedule<'_>) -> Result<Self, ReadError> {
        Self::under(schedule, Rules::default())
    }

    /// Evaluates `schedule`; entitlement follows `rules`.
    ///
    /// # Errors
    /// If the schedule is damaged.
    pub fn under(schedule: &Schedule<'_>, rules: Rules) -> Result<Self, ReadError> {
        let mut walk = walk::Walk::new(schedule.tables());
        walk.answers.rules = rules;
        walk.over(schedule)?;
        Ok(walk.done())
    }

    /// Returns the sum of the [`Self::totals`] whose keys match.
    pub fn sum(&self, matches: impl Fn(&Key) -> bool) -> Totals {
        let found = self.totals.iter().filter(|(key, _)| matches(key));
        found.fold(Totals::default(), |sum, (_, totals)| sum + *totals)
    }

    /// Returns the waits of the step `step`: those that ended in it, and those that were still open at its end, with their
    /// length at that time. Without a step it returns every wait once, with its full length.
    pub fn waits_of(&self, step: Phase) -> impl Iterator<Item = &Wait> {
        let open = self.open_waits.iter().filter(move |_| step.is_some());
        let all = self.waits.iter().chain(open);
        all.filter(move |wait| step.is_none() || wait.phase == step)
    }

    /// Returns the lengths of the waits that match, shortest first, in nanoseconds.
    pub fn waits_ns(&self, matches: impl Fn(&Wait) -> bool) -> Vec<u64> {
        let found = self.waits.iter().filter(|wait| matches(wait));
        let mut lengths: Vec<u64> = found.map(Wait::len_ns).collect();
        lengths.sort_unstable();
        lengths
    }
}
