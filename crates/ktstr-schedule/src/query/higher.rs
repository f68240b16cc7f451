//! The times in which tasks of a class above sched_ext's held a CPU: real-time, deadline and stop tasks. No scheduler of a lower
//! class can give such a time to another task.

use std::collections::BTreeMap;

use super::{Answers, Wait};
use crate::event::{Class, Pid};

/// The largest number of ancestors of a task that are looked at.
const MAX_ANCESTORS: usize = 256;

/// A stretch of time in which one task of a higher class ran on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldByHigher {
    /// The task that ran.
    pub task: Pid,
    /// Its class: real-time, deadline or stop.
    pub class: Class,
    /// When it began to run, in nanoseconds of the kernel's scheduler clock.
    pub from_ns: u64,
    /// When it lost the CPU, in nanoseconds of the kernel's scheduler clock.
    pub to_ns: u64,
}

/// The times of one CPU, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Higher(Vec<HeldByHigher>);

impl Higher {
    /// Adds a stretch. If it continues the last one, extends that one.
    pub(super) fn add(&mut self, next: HeldByHigher) {
        match self.0.last_mut() {
            Some(last)
                if (last.task, last.class, last.to_ns) == (next.task, next.class, next.from_ns) =>
            {
                last.to_ns = next.to_ns;
            }
            _ => self.0.push(next),
        }
    }

    /// Shortens the last stretch if it belongs to `task` and extends beyond `until_ns`.
    pub(super) fn take_back(&mut self, task: Pid, until_ns: u64) {
        if let Some(last) = self.0.last_mut().filter(|last| last.task == task) {
            last.to_ns = last.to_ns.min(until_ns).max(last.from_ns);
        }
    }

    pub(super) fn into_vec(self) -> Vec<HeldByHigher> {
        self.0
    }
}

impl Answers {
    /// Returns how long each task of a class above sched_ext's ran during the wait, in nanoseconds, on the CPU in whose runqueue
    /// the waiting task was for the longest part of the wait.
    pub fn held_during(&self, wait: &Wait) -> BTreeMap<(Pid, Class), u64> {
        let mut held = BTreeMap::new();
        let all = self.higher.get(&wait.cpu).map_or(&[][..], Vec::as_slice);
        let first = all.partition_point(|stretch| stretch.to_ns <= wait.from_ns);
        let until = |stretch: &&HeldByHigher| stretch.from_ns < wait.to_ns;
        for stretch in all[first..].iter().take_while(until) {
            let from_ns = stretch.from_ns.max(wait.from_ns);
            let ran_ns = stretch.to_ns.min(wait.to_ns).saturating_sub(from_ns);
            let sum: &mut u64 = held.entry((stretch.task, stretch.class)).or_default();
            *sum = sum.saturating_add(ran_ns);
        }
        held
    }

    /// Returns whether `task` was created by `ancestor`, by a task that `ancestor` had created, and so on for up to 256 tasks, as
    /// far as the schedule shows. A task is no descendant of itself.
    pub fn descends_from(&self, task: Pid, ancestor: Pid) -> bool {
        let parent = |task: Pid| self.tasks.get(&task)?.parent;
        // Pids are reused, so a chain of parents may be a circle.
        let chain = std::iter::successors(parent(task), |task| parent(*task));
        chain.take(MAX_ANCESTORS).any(|task| task == ancestor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::WaitCause;
    use super::super::state::TaskInfo;
    use super::*;
    use crate::event::Cpu;

    #[test]
    fn stretches_of_a_task_are_joined_and_cut_to_the_wait() {
        let ran = |task, from_ns, to_ns| HeldByHigher {
            task: Pid(task),
            class: Class::RealTime,
            from_ns,
            to_ns,
        };
        let mut held = Higher::default();
        held.add(ran(7, 100, 200));
        held.add(ran(7, 200, 300));
        held.take_back(Pid(8), 0);
        held.take_back(Pid(7), 290);
        held.add(ran(8, 400, 500));
        let held = held.into_vec();
        assert_eq!(held.len(), 2, "{held:?}");
        let answers = Answers {
            higher: [(Cpu(1), held)].into(),
            ..Answers::default()
        };
        let on = |cpu, from_ns, to_ns| {
            let held = answers.held_during(&Wait {
                phase: None,
                task: Pid(9),
                class: Class::Ext,
                cgroup: None,
                cpu: Cpu(cpu),
                cause: WaitCause::Woken,
                from_ns,
                to_ns,
                owed_ns: 0,
                judged_ns: 0,
                served: true,
            });
            let of = |pid| held.get(&(Pid(pid), Class::RealTime)).copied();
            (of(7), of(8))
        };
        assert_eq!(on(1, 0, 1000), (Some(190), Some(100)));
        assert_eq!(on(1, 150, 450), (Some(140), Some(50)));
        assert_eq!(on(1, 290, 400), (None, None));
        assert_eq!(on(0, 0, 1000), (None, None));
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let child = |parent: u32| TaskInfo {
            parent: Some(Pid(parent)),
            ..TaskInfo::default()
        };
        let answers = Answers {
            tasks: [
                (Pid(2), child(3)),
                (Pid(3), child(2)),
                (Pid(5), child(4)),
                (Pid(4), child(1)),
            ]
            .into(),
            ..Answers::default()
        };
        assert!(answers.descends_from(Pid(5), Pid(1)) && answers.descends_from(Pid(2), Pid(3)));
        assert!(!answers.descends_from(Pid(2), Pid(1)) && !answers.descends_from(Pid(1), Pid(1)));
    }
}
