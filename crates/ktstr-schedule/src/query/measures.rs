//! The measures for verdicts: the worst value of each kind, for the tasks below one cgroup in the phases of a scenario.

use std::collections::{BTreeMap, BTreeSet};

use super::shares::Share;
use super::totals::Totals;
use super::{Answers, Phase, TaskInfo, Wait, WaitCause, percentile};
use crate::Tables;
use crate::event::{Cpu, CpuMask, Pid};

/// The CPU time that a task must be entitled to before its share is meaningful, in nanoseconds: the length of four
/// windows of `shares`.
const LEAST_ENTITLED_NS: u64 = 200_000_000;
/// The shortest length of a phase whose wasted time is meaningful, in nanoseconds. The CPUs on which tasks start while a step is
/// set up are arbitrary, and affect a shorter phase too much.
const LEAST_PHASE_NS: u64 = 300_000_000;
/// The shortest length of a phase whose shares are meaningful, in nanoseconds. The CPUs on which tasks start are arbitrary, and
/// a scheduler with a queue for each CPU balances the queues only from time to time: the fair class gave a cgroup 0.65 of its
/// share in the first 0.4 s of a phase, and 0.68 in the first 0.5 s (Linux 7.3, 8 spinning tasks on 4 CPUs).
const LEAST_SHARED_NS: u64 = 800_000_000;
/// The number of wakeups of a cgroup in a phase from which a percentile of their waits is meaningful.
const LEAST_WAKEUPS: usize = 20;
/// The average number of wakeups per woken task that such a cgroup must have in addition to [`LEAST_WAKEUPS`].
const LEAST_WAKEUPS_EACH: usize = 4;
/// The CPU time of a cgroup in a phase from which a rate is meaningful, in nanoseconds.
const LEAST_RAN_NS: u64 = 100_000_000;

/// The subject of a measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A single task.
    Task {
        /// Its pid in the guest's root PID namespace.
        pid: Pid,
        /// Its latest name; empty if none is known.
        name: String,
        /// The path of its cgroup relative to the root of the query; empty if it is unknown or not below the root.
        cgroup: String,
    },
    /// All tasks of a cgroup, by its path relative to the root of the query.
    Cgroup(String),
}

/// A task that waited too long.
#[derive(Debug, Clone, PartialEq)]
pub struct Starved {
    /// The task that waited.
    pub who: Who,
    /// How long it waited between the start of the first phase and the end of the last one, in nanoseconds.
    pub waited_ns: u64,
    /// The CPU time that it was entitled to while it waited, in nanoseconds.
    pub owed_ns: u64,
    /// When the wait began, in nanoseconds since the start of the first phase.
    pub from_ns: u64,
    /// Whether the task got a CPU before the last phase ended.
    pub served: bool,
}

/// A task or cgroup that got less CPU time than it was entitled to.
#[derive(Debug, Clone, PartialEq)]
pub struct Underserved {
    /// The task, or the cgroup with all its tasks.
    pub who: Who,
    /// The CPU time that it got, in nanoseconds.
    pub got_ns: u64,
    /// The CPU time that it was entitled to, in nanoseconds.
    pub entitled_ns: u64,
    /// The phase in which this happened; `None` if it is about all those phases together that are too short to be judged alone,
    /// or about the time outside of phases.
    pub phase: Phase,
    /// The task or cgroup that exceeded its entitlement most in that phase, and by how many nanoseconds; `None` if none did.
    pub favoured: Option<(Who, u64)>,
}

impl Underserved {
    /// Returns the CPU time that it got divided by the CPU time that it was entitled to.
    pub fn ratio(&self) -> f64 {
        self.got_ns as f64 / self.entitled_ns.max(1) as f64
    }
}

/// A value for a cgroup in a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct OfCgroup {
    /// The cgroup's path relative to the root of the query.
    pub cgroup: String,
    /// The phase to which the value belongs.
    pub phase: Phase,
    /// The value, in the unit of the measure.
    pub value: f64,
    /// The number of events from which it was computed.
    pub events: u64,
}

/// CPU time that was idle although tasks had been waiting for longer than a tick and could have used it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wasted {
    /// The phase in which this happened.
    pub phase: Phase,
    /// The idle CPU time, in nanoseconds.
    pub ns: u64,
    /// Its share of all CPU time in the phase, from 0 to 1.
    pub share: f64,
}

/// The worst value of each kind; `None` for kinds without data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measures {
    /// The wait with the most CPU time owed.
    pub starved: Option<Starved>,
    /// The task that got the smallest share of its entitlement.
    pub task: Option<Underserved>,
    /// The cgroup that got the smallest share of its entitlement.
    pub cgroup: Option<Underserved>,
    /// The phase with the largest share of wasted CPU time.
    pub wasted: Option<Wasted>,
    /// The largest 90th percentile of the waits after a wakeup, in nanoseconds, divided by the average number of tasks
    /// that a CPU had to serve.
    pub wake: Option<OfCgroup>,
    /// The average number of tasks that each CPU had to serve in the phase of `wake`, at least 1.
    pub queue: f64,
    /// The largest number of preemptions per CPU-second.
    pub preemptions: Option<OfCgroup>,
    /// The CPU time of all tasks below the root in all phases, in nanoseconds. It does not include the time in which sched_ext
    /// was off because a CPU went online or offline, or the time of real-time, deadline and stop tasks, which no BPF
    /// scheduler is given.
    pub ran_ns: u64,
    /// The part of `ran_ns` that sched_ext's BPF scheduler gave, rather than another class or a bypass.
    pub driven_ns: u64,
}

/// Returns the worst value of each kind among the tasks below the cgroup `root`. If a test sets the weights of cgroups, and
/// these must be honored, only the entitlement with these weights counts. Otherwise the smaller of the entitlements with and
/// without them counts, so that a task is underserved only if it got too little under both rules.
pub fn measures(answers: &Answers, tables: &Tables, root: &str) -> Measures {
    Asked {
        answers,
        tables,
        root,
        by_tree: answers.rules.cpu_weight && !answers.weighted.is_empty(),
    }
    .measures()
}

/// The query: a schedule, the root of the cgroups that it covers, and whether only the entitlement with
/// cgroup weights counts (`by_tree`).
struct Asked<'a> {
    answers: &'a Answers,
    tables: &'a Tables,
    root: &'a str,
    by_tree: bool,
}

/// The tasks that were woken, and the length of each wait.
type Wakeups = (BTreeSet<Pid>, Vec<u64>);
/// Sums by phase, and by task or cgroup.
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
            queue: wake
                .as_ref()
                .map_or(1.0, |wake| self.queue(wake.phase, &wake.cgroup)),
            wake,
            preemptions: rates(&totals),
            ran_ns: all
                .run_ns
                .saturating_sub(all.away_ns)
                .saturating_sub(all.higher_class_ns),
            driven_ns: all
                .run_ns
                .saturating_sub(all.away_ns)
                .saturating_sub(all.other_class_ns)
                .saturating_sub(all.bypass_ns),
        }
    }

    /// Returns the path of the cgroup `id` relative to the root; `None` if it is not below the root.
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

    /// Returns the wait with the most CPU time owed, and of several such waits the longest; `None` if there is no wait in
    /// the phases. Kernel threads and tasks that are not below the root count, too.
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
            // The clock of the CPU where the wait ended can be behind that of the CPU where it began.
            waited_ns: ended.saturating_sub(began),
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
        let length = |phase: &Phase| self.answers.phases.get(phase).copied().unwrap_or_default();
        // Phases that are too short to be judged alone are judged together.
        let is_short = |phase: &Phase| (LEAST_PHASE_NS..LEAST_SHARED_NS).contains(&length(phase));
        let short = || {
            sums.iter()
                .filter(|(phase, _)| phase.is_some() && is_short(phase))
        };
        let mut together: Vec<(Who, Share)> = Vec::new();
        if short().map(|(phase, _)| length(phase)).sum::<u64>() >= LEAST_SHARED_NS {
            for (who, share) in short().flat_map(|(_, sums)| sums) {
                match together.iter_mut().find(|(known, _)| known == who) {
                    Some((_, sum)) => *sum = *sum + *share,
                    None => together.push((who.clone(), *share)),
                }
            }
        }
        let long = sums
            .iter()
            .filter(|(phase, _)| length(phase) >= LEAST_SHARED_NS);
        let mut all = Vec::new();
        for (phase, sums) in long.chain([(&None, &together)]) {
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
        let phases = self
            .answers
            .phases
            .iter()
            .filter(|(phase, length)| phase.is_some() && **length >= LEAST_PHASE_NS);
        let all = phases.map(|(phase, _)| {
            let of = |all: &BTreeMap<Phase, u64>| all.get(phase).copied().unwrap_or_default();
            let ns = of(&self.answers.wasted_late_ns);
            let share = ns as f64 / of(&self.answers.cpu_ns).max(1) as f64;
            Wasted {
                phase: *phase,
                ns,
                share,
            }
        });
        all.max_by(|a, b| a.share.total_cmp(&b.share))
    }

    /// Returns the cgroup and the phase with the largest 90th percentile of the waits after a wakeup, divided by
    /// [`Self::queue`]; `None` if no cgroup has enough wakeups in a phase. A cgroup with fewer than
    /// [`LEAST_WAKEUPS_EACH`] wakeups per task is left out: wakeups that only start tasks show nothing about tasks that sleep.
    fn wake(&self) -> Option<OfCgroup> {
        let mut waits: BTreeMap<(Phase, &str), Wakeups> = BTreeMap::new();
        // A wait that is still open at the end of a step counts with its length at that time: it may be the longest of all.
        for wait in self.answers.waits.iter().chain(&self.answers.open_waits) {
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
                    value: late as f64 / self.queue(phase, cgroup),
                    events: waits.len() as u64,
                })
            });
        late.max_by(|a, b| a.value.total_cmp(&b.value))
    }

    /// Returns the average number of tasks that a CPU had to serve in `phase`, at least 1. It is the larger of two averages: that
    /// over all CPUs of the machine, and that over the CPUs on which the tasks of `cgroup` were allowed to run. The second one
    /// counts because no scheduler can spread the tasks of a confined cgroup over other CPUs.
    fn queue(&self, phase: Phase, cgroup: &str) -> f64 {
        let of_cgroup = self.answers.allowed.iter();
        let own = of_cgroup
            .filter(|((of, id), _)| *of == phase && self.below(*id) == Some(cgroup))
            .fold(CpuMask::of(0), |all, (_, mask)| all.or(*mask));
        let cpus = 0..self.tables.topology.llc.len().max(1);
        let is_own = |cpu: &usize| u16::try_from(*cpu).is_ok_and(|cpu| own.contains(Cpu(cpu)));
        let own_cpus = cpus.clone().filter(is_own).count();
        let length = self.answers.phases.get(&phase).copied().unwrap_or_default();
        let served = |cpus: usize, all: Totals| {
            let served = all.run_ns.saturating_add(all.wait_ns) as f64;
            served / (length as f64 * cpus.max(1) as f64).max(1.0)
        };
        let everywhere = self.answers.sum(|key| key.phase == phase);
        let here = self
            .answers
            .sum(|key| key.phase == phase && own.contains(key.cpu));
        served(cpus.len(), everywhere)
            .max(served(own_cpus, here))
            .max(1.0)
    }
}

/// Returns the cgroup and the phase with the most preemptions per CPU-second; `None` if no cgroup ran for long enough.
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
