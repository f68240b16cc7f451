//! The numbers of a schedule by cgroup and phase: the CPU time of the tasks below a cgroup, and how long they waited
//! for a CPU.

use std::collections::BTreeMap;

use super::totals::Totals;
use super::{Answers, Phase, Wait, WaitCause};
use crate::Tables;

/// The scope of the numbers: a phase, and the shown name of a cgroup. `None` stands for all phases, or for all cgroups of the
/// query.
pub type Of = (Phase, Option<String>);

/// The CPU time and the waits of a set of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The sums over the tasks.
    pub totals: Totals,
    /// The lengths of the tasks' waits for a CPU, shortest first, in nanoseconds. A wait that is still open at the end
    /// of a phase counts in that phase with its length at that time, and once more in the phase in which it ends, if it
    /// ends in one.
    pub waits_ns: Vec<u64>,
    /// The lengths of those waits that followed a wakeup, which are the tasks' wakeup latencies.
    pub wakes_ns: Vec<u64>,
    /// The idle CPU time that waiting tasks of any cgroup could have used, in nanoseconds; `None` if the scope is a
    /// single cgroup.
    pub wasted_ns: Option<u64>,
}

/// Returns the numbers of all tasks below the cgroup `root`, in each phase of a scenario and over all phases. `shown`
/// converts a cgroup's path below the root to its name; cgroups with the same name are added up. A phase with dropped
/// events has no numbers, and the total over all phases is missing as well in that case.
pub fn numbers(
    answers: &Answers,
    tables: &Tables,
    root: &str,
    shown: impl Fn(&str) -> String,
) -> BTreeMap<Of, Numbers> {
    let mut all: BTreeMap<Of, Numbers> = BTreeMap::new();
    let name = |id: Option<u64>| -> Option<String> {
        let path = tables.cgroups.get(&id?)?.path.as_str();
        let below = path.strip_prefix(root)?.strip_prefix('/')?;
        Some(shown(below))
    };
    let names: BTreeMap<u64, String> = tables
        .cgroups
        .keys()
        .filter_map(|id| Some((*id, name(Some(*id))?)))
        .collect();
    let of = |phase: Phase, cgroup: Option<u64>| -> Option<[Of; 4]> {
        let phase = phase.filter(|_| !answers.holed.contains(&phase))?;
        let name = names.get(&cgroup?)?;
        Some([
            (Some(phase), Some(name.clone())),
            (Some(phase), None),
            (None, Some(name.clone())),
            (None, None),
        ])
    };
    for (key, totals) in &answers.totals {
        for of in of(key.phase, key.cgroup).into_iter().flatten() {
            let numbers = all.entry(of).or_default();
            numbers.totals = numbers.totals + *totals;
        }
    }
    for wait in answers.waits.iter().chain(&answers.open_waits) {
        for of in of(wait.phase, wait.cgroup).into_iter().flatten() {
            all.entry(of).or_default().take(wait);
        }
    }
    for numbers in all.values_mut() {
        numbers.waits_ns.sort_unstable();
        numbers.wakes_ns.sort_unstable();
    }
    for ((phase, cgroup), numbers) in &mut all {
        if cgroup.is_none() {
            let here = answers.wasted_ns.iter();
            let here = here.filter(|(of, _)| of.is_some() && (phase.is_none() || *of == phase));
            numbers.wasted_ns = Some(here.map(|(_, ns)| ns).sum());
        }
    }
    if answers.holed.iter().any(Option::is_some) {
        all.retain(|(phase, _), _| phase.is_some());
    }
    all
}

impl Numbers {
    fn take(&mut self, wait: &Wait) {
        self.waits_ns.push(wait.len_ns());
        if wait.cause == WaitCause::Woken {
            self.wakes_ns.push(wait.len_ns());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason::{Idle, Preempted, Slept};
    use crate::event::{Pid, What};
    use crate::tables::Cgroup;
    use crate::testing::Script;

    const A: u32 = 10;
    const B: u32 = 11;

    /// Two tasks in two cgroups on one CPU, in two phases.
    fn script() -> Script {
        let mut script = Script::default();
        for (id, path) in [(1, "/root/a"), (2, "/root/b/deep"), (3, "/rooted")] {
            let path = path.to_owned();
            script.tables.cgroups.insert(id, Cgroup { path });
        }
        for (task, cgroup) in [(A, 1), (B, 2), (12, 3)] {
            let task = Pid(task);
            script.push(0, What::Cgroup { task, cgroup });
        }
        script.affinity(A, 1).affinity(B, 1);
        script.at(0).switch(1, 12, 0, Slept);
        script.at(0).phase(1);
        script.at(10).wake(0, A, 0);
        script.at(15).switch(0, 0, A, Idle);
        script.at(20).wake(0, B, 0);
        script.at(50).switch(0, A, B, Preempted);
        script.at(90).push(0, What::End {});
        script.at(100).phase(2);
        script.at(130).switch(0, B, A, Slept);
        script.at(140).push(0, What::End {});
        script
    }

    #[test]
    fn each_cgroup_and_phase_has_its_own_numbers() {
        let script = script();
        let answers = script.answers();
        let of = |phase, cgroup: Option<&str>| {
            let all = numbers(&answers, &script.tables, "/root", |below| {
                below.split('/').next().unwrap_or_default().to_owned()
            });
            all.get(&(phase, cgroup.map(str::to_owned))).cloned()
        };
        let a = of(Some(1), Some("a")).expect("a ran in phase 1");
        assert_eq!((a.totals.run_ns, a.totals.wait_ns), (35, 5 + 40));
        assert_eq!((a.totals.preempted, a.totals.runs), (1, 1));
        // The second wait is still open at the end of the phase.
        assert_eq!((a.waits_ns, a.wakes_ns), (vec![5, 40], vec![5]));
        let b = of(Some(1), Some("b")).expect("b ran in phase 1");
        assert_eq!((b.totals.run_ns, b.wakes_ns), (40, vec![30]));
        let a = of(Some(2), Some("a")).expect("a ran in phase 2");
        assert_eq!((a.totals.run_ns, a.waits_ns), (10, vec![80]));
        assert_eq!(a.wasted_ns, None);
        let all = of(None, None).expect("there were phases");
        assert_eq!(all.totals.run_ns, 35 + 40 + 30 + 10);
        assert_eq!(all.waits_ns, [5, 30, 40, 80]);
        assert!(all.wasted_ns.is_some());
        assert_eq!(of(None, Some("rooted")), None);
    }

    #[test]
    fn a_phase_with_dropped_events_has_no_numbers() {
        let script = script();
        let mut answers = script.answers();
        answers.holed.insert(Some(1));
        let all = numbers(&answers, &script.tables, "/root", str::to_owned);
        assert!(all.keys().all(|(phase, _)| *phase == Some(2)), "{all:?}");
        assert!(!all.is_empty());
    }
}
