//! What a judgement asks of a schedule: the worst of each kind, of the tasks below one cgroup, in the phases of a scenario.

use std::collections::{BTreeMap, BTreeSet};

use super::shares::Share;
use super::totals::Totals;
use super::{Answers, Phase, TaskInfo, Wait, WaitCause, percentile};
use crate::Tables;
use crate::event::Pid;

/// CPU time that somebody must be entitled to before a share of it says anything, nanoseconds: several windows.
const LEAST_ENTITLED_NS: u64 = 200_000_000;
/// Length of a phase before a share of its CPU time says anything, nanoseconds: while a step is set up, tasks start anywhere.
const LEAST_PHASE_NS: u64 = 300_000_000;
/// Wake-ups of a cgroup in a phase before a percentile of their waits says anything.
const LEAST_WAKEUPS: usize = 20;
/// The same for each of its tasks.
const LEAST_WAKEUPS_EACH: usize = 4;
/// CPU time of a cgroup in a phase before a rate says anything, nanoseconds.
const LEAST_RAN_NS: u64 = 100_000_000;

/// Who something is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A single task.
    Task {
        /// Its id in the guest's root PID namespace.
        pid: Pid,
        /// Its name; empty if none is known.
        name: String,
        /// The cgroup that it was in, below the root that was asked for; empty if none is known.
        cgroup: String,
    },
    /// All tasks of a cgroup, by its path below the root that was asked for.
    Cgroup(String),
}

/// A task that waited too long.
#[derive(Debug, Clone, PartialEq)]
pub struct Starved {
    /// The task that waited.
    pub who: Who,
    /// How long it waited, nanoseconds.
    pub waited_ns: u64,
    /// CPU time that it was entitled to meanwhile, nanoseconds.
    pub owed_ns: u64,
    /// When it began to wait, nanoseconds since the first phase began.
    pub from_ns: u64,
    /// Whether it was served at last.
    pub served: bool,
}

/// Somebody who got less than he was entitled to.
#[derive(Debug, Clone, PartialEq)]
pub struct Underserved {
    /// The task, or the cgroup with all its tasks.
    pub who: Who,
    /// CPU time got, nanoseconds.
    pub got_ns: u64,
    /// CPU time that he was entitled to, nanoseconds.
    pub entitled_ns: u64,
    /// The step in which it was so.
    pub phase: Phase,
    /// Who got most beyond his entitlement meanwhile, and how much, nanoseconds.
    pub favoured: Option<(Who, u64)>,
}

impl Underserved {
    /// What was got of what he was entitled to.
    pub fn ratio(&self) -> f64 {
        self.got_ns as f64 / self.entitled_ns.max(1) as f64
    }
}

/// A number of a cgroup in a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct OfCgroup {
    /// The cgroup's path below the root that was asked for.
    pub cgroup: String,
    /// The step in which it was so.
    pub phase: Phase,
    /// The number itself, in the unit of the measure that holds it.
    pub value: f64,
    /// How many events it is made of.
    pub events: u64,
}

/// Idle CPU time beside tasks that could have used it, and had waited for longer than a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Wasted {
    /// The step in which it was so.
    pub phase: Phase,
    /// CPU time, nanoseconds.
    pub ns: u64,
    /// Its share of all CPU time of the phase.
    pub share: f64,
}

/// The worst of each kind. What nothing was measured of is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measures {
    /// The wait in which most CPU time was owed.
    pub starved: Option<Starved>,
    /// The task that got the smallest share of what it was entitled to.
    pub task: Option<Underserved>,
    /// The cgroup that did.
    pub cgroup: Option<Underserved>,
    /// The phase in which the largest share of CPU time was wasted.
    pub wasted: Option<Wasted>,
    /// The longest 90th percentile of the waits after a wake-up, nanoseconds, for each of the tasks that a CPU had to serve on
    /// average.
    pub wake: Option<OfCgroup>,
    /// Tasks that each CPU had to serve on average in that phase, at least 1.
    pub queue: f64,
    /// The most preemptions a CPU-second.
    pub preemptions: Option<OfCgroup>,
    /// CPU time of all tasks in all phases, nanoseconds, less that in which sched_ext was off for a CPU that went on or off line.
    pub ran_ns: u64,
    /// Of it, CPU time that sched_ext's BPF scheduler gave: neither another class nor a bypass did.
    pub driven_ns: u64,
}

/// The worst of each kind among the tasks below the cgroup `root`. Where a test sets weights of cgroups, and they are to be
/// kept, entitlement follows these alone; else whoever got too little has to have got too little with and without them.
pub fn measures(answers: &Answers, tables: &Tables, root: &str) -> Measures {
    Asked {
        answers,
        tables,
        root,
        by_tree: answers.rules.cpu_weight && !answers.weighted.is_empty(),
    }
    .measures()
}

/// What is asked of which tasks.
struct Asked<'a> {
    answers: &'a Answers,
    tables: &'a Tables,
    root: &'a str,
    by_tree: bool,
}

/// Who was woken, and how long each wait was.
type Wakeups = (BTreeSet<Pid>, Vec<u64>);
/// What is added up by phase and by task or cgroup.
type Sums<K, V> = BTreeMap<Phase, BTreeMap<K, V>>;

impl Asked<'_> {
    fn measures(&self) -> Measures {
        let totals = self.totals();
        let all = totals.values().flat_map(BTreeMap::values);
        let all = all.fold(Totals::default(), |sum, totals| sum + *totals);
        let wake = self.wake();
        Measures {
            starved: self.starved(),
            task: self.underserved(|pid, cgroup| self.task(pid, Some(cgroup))),
            cgroup: self.underserved(|_, cgroup| Who::Cgroup(cgroup.to_owned())),
            wasted: self.wasted(),
            queue: wake.as_ref().map_or(1.0, |wake| self.queue(wake.phase)),
            wake,
            preemptions: rates(&totals),
            ran_ns: all.run_ns.saturating_sub(all.away_ns),
            driven_ns: all
                .run_ns
                .saturating_sub(all.away_ns)
                .saturating_sub(all.other_class_ns)
                .saturating_sub(all.bypass_ns),
        }
    }

    /// The path below the root of the cgroup `id`; `None` if it is not below it.
    fn below(&self, id: Option<u64>) -> Option<&str> {
        let path = self.tables.cgroups.get(&id?)?.path.as_str();
        path.strip_prefix(self.root)?.strip_prefix('/')
    }

    fn task(&self, pid: Pid, cgroup: Option<&str>) -> Who {
        let name = self.answers.tasks.get(&pid).and_then(TaskInfo::name);
        Who::Task {
            pid,
            name: name.unwrap_or_default().to_owned(),
            cgroup: cgroup.unwrap_or_default().to_owned(),
        }
    }

    fn totals(&self) -> Sums<&str, Totals> {
        let mut sums: Sums<&str, Totals> = BTreeMap::new();
        for (key, totals) in &self.answers.totals {
            if let (Some(_), Some(cgroup)) = (key.phase, self.below(key.cgroup)) {
                let sum = sums
                    .entry(key.phase)
                    .or_default()
                    .entry(cgroup)
                    .or_default();
                *sum = *sum + *totals;
            }
        }
        sums
    }

    /// Any task that the class in question serves can starve: kernel threads, too.
    fn starved(&self) -> Option<Starved> {
        let (from, to) = (
            self.answers.from_ns?,
            self.answers.to_ns.unwrap_or(u64::MAX),
        );
        let in_time = |wait: &&Wait| wait.from_ns < to && wait.to_ns > from;
        let waits = self.answers.waits.iter().filter(in_time);
        let worst = waits.max_by_key(|wait| (wait.owed_ns, wait.len_ns()))?;
        let (began, ended) = (worst.from_ns.max(from), worst.to_ns.min(to));
        Some(Starved {
            who: self.task(worst.task, self.below(worst.cgroup)),
            waited_ns: ended - began,
            owed_ns: worst.owed_ns,
            from_ns: began - from,
            served: worst.served && worst.to_ns <= to,
        })
    }

    fn underserved(&self, who: impl Fn(Pid, &str) -> Who) -> Option<Underserved> {
        let mut sums: BTreeMap<Phase, Vec<(Who, Share)>> = BTreeMap::new();
        for ((phase, pid, cgroup), share) in &self.answers.shares {
            let Some(cgroup) = self.below(*cgroup) else {
                continue;
            };
            let who = who(*pid, cgroup);
            let sums = sums.entry(*phase).or_default();
            match sums.iter_mut().find(|(known, _)| *known == who) {
                Some((_, sum)) => *sum = *sum + *share,
                None => sums.push((who, *share)),
            }
        }
        let entitled = |share: &Share| match self.by_tree {
            true => share.tree_ns,
            false => share.flat_ns.min(share.tree_ns),
        };
        let mut all = Vec::new();
        let long = |phase: &Phase| {
            self.answers
                .phases
                .get(phase)
                .is_some_and(|ns| *ns >= LEAST_PHASE_NS)
        };
        for (phase, sums) in sums.iter().filter(|(phase, _)| long(phase)) {
            let gain = |(_, share): &&(Who, Share)| share.got_ns.saturating_sub(entitled(share));
            let favoured = sums.iter().max_by_key(gain);
            let favoured = favoured.map(|most| (most.0.clone(), gain(&most)));
            for (who, share) in sums {
                if entitled(share) >= LEAST_ENTITLED_NS {
                    all.push(Underserved {
                        who: who.clone(),
                        got_ns: share.got_ns,
                        entitled_ns: entitled(share),
                        phase: *phase,
                        favoured: favoured.clone().filter(|(_, ns)| *ns > 0),
                    });
                }
            }
        }
        all.into_iter()
            .min_by(|a, b| a.ratio().total_cmp(&b.ratio()))
    }

    fn wasted(&self) -> Option<Wasted> {
        let cpus = self.tables.topology.llc.len().max(1) as u64;
        let phases = self
            .answers
            .phases
            .iter()
            .filter(|(phase, length)| phase.is_some() && **length >= LEAST_PHASE_NS);
        let all = phases.map(|(phase, length)| {
            let ns = self
                .answers
                .wasted_late_ns
                .get(phase)
                .copied()
                .unwrap_or_default();
            let share = ns as f64 / length.saturating_mul(cpus).max(1) as f64;
            Wasted {
                phase: *phase,
                ns,
                share,
            }
        });
        all.max_by(|a, b| a.share.total_cmp(&b.share))
    }

    /// Wake-ups by which tasks were only released once each say nothing of sleepers.
    fn wake(&self) -> Option<OfCgroup> {
        let mut waits: BTreeMap<(Phase, &str), Wakeups> = BTreeMap::new();
        for wait in &self.answers.waits {
            if let (WaitCause::Woken, Some(_), Some(cgroup)) =
                (wait.cause, wait.phase, self.below(wait.cgroup))
            {
                let (tasks, waits) = waits.entry((wait.phase, cgroup)).or_default();
                tasks.insert(wait.task);
                waits.push(wait.len_ns());
            }
        }
        let late = waits
            .into_iter()
            .filter_map(|((phase, cgroup), (tasks, mut waits))| {
                waits.sort_unstable();
                let enough = waits.len() >= LEAST_WAKEUPS.max(LEAST_WAKEUPS_EACH * tasks.len());
                let late = percentile(&waits, 90.0).filter(|_| enough)?;
                Some(OfCgroup {
                    cgroup: cgroup.to_owned(),
                    phase,
                    value: late as f64 / self.queue(phase),
                    events: waits.len() as u64,
                })
            });
        late.max_by(|a, b| a.value.total_cmp(&b.value))
    }

    /// Tasks that each CPU had to serve on average in `phase`; at least 1.
    fn queue(&self, phase: Phase) -> f64 {
        let cpus = self.tables.topology.llc.len().max(1) as f64;
        let length = self.answers.phases.get(&phase).copied().unwrap_or_default();
        let all = self.answers.sum(|key| key.phase == phase);
        let served = all.run_ns.saturating_add(all.wait_ns) as f64;
        (served / (length as f64 * cpus).max(1.0)).max(1.0)
    }
}

fn rates(totals: &Sums<&str, Totals>) -> Option<OfCgroup> {
    let all = totals.iter().flat_map(|(phase, sums)| {
        sums.iter()
            .filter(|(_, sum)| sum.run_ns >= LEAST_RAN_NS)
            .map(|(cgroup, sum)| OfCgroup {
                cgroup: (*cgroup).to_owned(),
                phase: *phase,
                value: sum.preempted as f64 / (sum.run_ns as f64 / 1e9),
                events: sum.preempted,
            })
    });
    all.max_by(|a, b| a.value.total_cmp(&b.value))
}

#[cfg(test)]
#[path = "measures_tests.rs"]
mod tests;
