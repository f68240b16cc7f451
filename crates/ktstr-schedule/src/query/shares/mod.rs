//! The CPU time that each task was entitled to: the weighted max-min fair share of the available CPU time, window by
//! window.
//!
//! In each window the machine's CPU time is distributed among the runnable tasks in proportion to their weights. A task stops
//! receiving when it has all that it can use, or when the CPUs on which it may run are full, and the rest goes to the others.
//! This is the fluid model of generalized processor sharing (Parekh and Gallager, 1993), extended to affinities by max-min
//! fairness. A task claims only the time in which it could run, so it is owed nothing while it is throttled or asleep.
//!
//! A scheduler may leave tasks on their CPUs, even if some of them then get less CPU time than others. So a share is limited to
//! what a task gets in the fullest queue if the queues are as even as they can be without dividing a task among several queues.
//!
//! The shares are computed twice: once with all tasks on the same level, and once with each cgroup's weight divided among its
//! tasks, as `cpu.weight` requires. A task that got less than the smaller of the two got too little under both rules.

mod fill;
mod flow;
mod queues;
#[cfg(test)]
mod tests;
mod tree;
mod weight;

use weight::{of_nice, of_task};

use std::collections::{HashMap, HashSet};
use std::ops::Add;

use serde::Serialize;

use super::Phase;
use super::state::{BALANCING_NS, Doing, Task};
use super::walk::Walk;
use crate::event::{Class, Cpu, CpuMask, Pid};
use fill::Consumer;
use tree::Tree;

/// The length of a window, in nanoseconds: several slices of common schedulers, and a fraction of a wait that counts as
/// starvation.
const WINDOW_NS: u64 = 50_000_000;
/// The CPU time without sleep from which a task counts as running continuously, in nanoseconds. A shorter burst ends
/// when its work is done, so the task gets all the CPU time that it wants, and only the delay can be wrong.
const LONG_BURST_NS: u64 = 10_000_000;
/// The time in nanoseconds after a change of weight in which shares are not judged. CPU time from before the change was charged
/// at the old weight, and a scheduler may let the task, or its competitors, wait for that after the change.
const SETTLING_NS: u64 = 1_000_000_000;
/// Shares are not judged after a bypass for this many times its length. The kernel alone shares out the CPUs during a bypass. A
/// scheduler that counts what each task got may afterwards let the tasks wait that got more than the others.
const REPAYING: u64 = 4;
/// Shares are not judged in a window in which the higher classes left one CPU this share of a window less time than another one.
/// A queue is a number of tasks, so it cannot be divided in proportion to what is left. With a deadline task of 30 % and a
/// real-time task of 10 % on one of two CPUs, EEVDF gave a cgroup 0.62 of its share for 0.9 s.
const UNEVEN: f64 = 0.125;
/// The largest number of CPUs that are evaluated.
const CPUS: usize = 128;

/// The CPU time that a task got and was entitled to, in the windows from which something can be concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Share {
    /// The CPU time that it got, in nanoseconds.
    pub got_ns: u64,
    /// The CPU time that it was entitled to with all tasks on the same level, in nanoseconds.
    pub flat_ns: u64,
    /// The CPU time that it was entitled to with the weights of cgroups, in nanoseconds.
    pub tree_ns: u64,
}

impl Add for Share {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            got_ns: self.got_ns.saturating_add(other.got_ns),
            flat_ns: self.flat_ns.saturating_add(other.flat_ns),
            tree_ns: self.tree_ns.saturating_add(other.tree_ns),
        }
    }
}

/// What a task did in a window, under one affinity.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    run_ns: u64,
    wait_ns: u64,
    /// The parts of `run_ns` and `wait_ns` that were in a long burst.
    long_run_ns: u64,
    long_wait_ns: u64,
}

/// The window that is currently being filled.
#[derive(Debug, Default)]
pub(super) struct Window {
    from_ns: u64,
    parts: HashMap<(Pid, CpuMask), Part>,
    /// Tasks that a quota kept from running in a part of the window. Their claim on the rest is unknown: they are
    /// behind when they return, and their quota may run out again before their turn.
    throttled: HashSet<Pid>,
    /// The CPU time in nanoseconds of the classes other than sched_ext's, by CPU and class. Classes that rank above the
    /// class whose shares are computed take their time away from it.
    above_ns: HashMap<(Cpu, Class), u64>,
}

/// Adds to a sum, which saturates. When times go back, the same stretch of time is counted again. In a damaged file times can
/// go back by any amount, so a sum could overflow.
fn add(to: &mut u64, ns: u64) {
    *to = to.saturating_add(ns);
}

impl Window {
    /// Adds what `task` did for `passed` nanoseconds.
    pub(super) fn add(&mut self, pid: Pid, task: &Task, passed: u64) {
        let (run_ns, wait_ns) = match task.doing {
            Doing::Running { cpu } => {
                if !matches!(task.class, Class::Ext | Class::Unknown) {
                    add(self.above_ns.entry((cpu, task.class)).or_default(), passed);
                }
                (passed, 0)
            }
            Doing::Waiting { .. } => (0, passed),
            Doing::Throttled => {
                self.throttled.insert(pid);
                return;
            }
            Doing::Unknown | Doing::Asleep | Doing::Gone => return,
        };
        if !competes(task.class) {
            return;
        }
        let long = task.burst_ns >= LONG_BURST_NS;
        let part = self.parts.entry((pid, task.mask)).or_default();
        add(&mut part.run_ns, run_ns);
        add(&mut part.wait_ns, wait_ns);
        if long {
            add(&mut part.long_run_ns, run_ns);
            add(&mut part.long_wait_ns, wait_ns);
        }
    }
}

/// Whether tasks of that class share the CPU time that real-time, deadline and stop tasks leave.
pub(super) fn competes(class: Class) -> bool {
    matches!(class, Class::Fair | Class::Ext | Class::Unknown)
}

impl Walk<'_> {
    /// Changes something that determines a task's weight. A task that sets its weight before it starts to work counts
    /// as settled at once.
    pub(super) fn weigh(&mut self, pid: Pid, change: impl FnOnce(&mut Task)) {
        self.book(pid);
        let task = self.task(pid);
        let before = of_task(task);
        change(task);
        if of_task(task) != before && task.ran_ns >= LONG_BURST_NS {
            let settled = self.now.saturating_add(SETTLING_NS);
            self.unsettled_until_ns = self.unsettled_until_ns.max(settled);
        }
    }

    /// Changes the affinity or the cgroup of a task. A task that is placed before it starts to work counts as balanced
    /// at once.
    pub(super) fn place<T: PartialEq>(&mut self, pid: Pid, field: fn(&mut Task) -> &mut T, to: T) {
        self.book(pid);
        let task = self.task(pid);
        let works = task.ran_ns >= LONG_BURST_NS;
        let field = field(task);
        let changed = *field != to;
        *field = to;
        if changed && works {
            self.unbalance();
        }
    }

    /// Changes the CPUs on which a task may run.
    pub(super) fn confine(&mut self, pid: Pid, mask: CpuMask) {
        // A kernel's mask may have bits of CPUs that do not exist, and what follows the mask in memory may be anything.
        let (now, all) = (self.time, self.all_cpus());
        let mask = CpuMask::of(mask.bits() & all);
        let task = self.task(pid);
        if task.mask.bits() & all == mask.bits() {
            return;
        }
        if task.ran_ns >= LONG_BURST_NS {
            task.confined = Some((now, task.claim(now)));
        }
        self.place(pid, |task| &mut task.mask, mask);
    }

    /// Notes that a bypass of the BPF scheduler begins or ends.
    pub(super) fn set_bypass(&mut self, on: bool) {
        self.book_all();
        match (on, self.bypass) {
            (true, None) => self.bypass = Some(self.time),
            (false, Some(from_ns)) => {
                let length = self.time.saturating_sub(from_ns);
                let settled = self.time.saturating_add(length.saturating_mul(REPAYING));
                self.unsettled_until_ns = self.unsettled_until_ns.max(settled);
                self.bypass = None;
            }
            _ => {}
        }
    }

    /// Notes that a task has started to work, if its CPU time has just reached the threshold.
    pub(super) fn join(&mut self, before_ns: u64, after_ns: u64) {
        if before_ns < LONG_BURST_NS && after_ns >= LONG_BURST_NS {
            self.joined_ns = Some(self.time);
        }
    }

    /// Notes that a task has ended. A confined task leaves its CPUs with less to do than the others.
    pub(super) fn depart(&mut self, pid: Pid) {
        let all = self.all_cpus();
        let task = self.task(pid);
        if task.ran_ns >= LONG_BURST_NS && task.mask.bits() & all != all {
            self.unbalance();
        }
    }

    /// Returns the CPUs of the machine as a mask, and all bits if they are not known.
    fn all_cpus(&self) -> u128 {
        match self.tables.topology.llc.len().min(CPUS) {
            0 => u128::MAX,
            cpus => u128::MAX >> (CPUS - cpus),
        }
    }

    /// Concludes nothing about shares until the queues may be balanced again. What is set up before the first step does not
    /// count. The operations of a later step come before the phase of that step, and count.
    pub(super) fn unbalance(&mut self) {
        if self.answers.from_ns.is_some() {
            self.unbalanced_until_ns = self.time.saturating_add(BALANCING_NS);
        }
    }

    /// Whether a task in or below the cgroup `path` has already worked, and runs, waits or is throttled now.
    pub(super) fn somebody_works_in(&self, path: &str) -> bool {
        let mut tasks = self.active.iter().filter_map(|pid| self.tasks.get(pid));
        tasks.any(|task| {
            let cgroup = task.cgroup.and_then(|id| self.tables.cgroups.get(&id));
            let below = cgroup.and_then(|cgroup| cgroup.path.strip_prefix(path));
            task.ran_ns >= LONG_BURST_NS
                && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Ends the window if it is long enough.
    pub(super) fn end_window_if_due(&mut self) {
        if self.now.saturating_sub(self.window.from_ns) >= WINDOW_NS {
            self.book_all();
            self.end_window();
        }
    }

    /// Ends the window. All time must have been accounted.
    pub(super) fn end_window(&mut self) {
        let fresh = Window {
            from_ns: self.now,
            ..Window::default()
        };
        let window = std::mem::replace(&mut self.window, fresh);
        let length = self.now.saturating_sub(window.from_ns);
        if self.phase.is_none() || length == 0 || window.parts.is_empty() {
            return;
        }
        self.fill(self.phase, &window, length);
    }

    /// Computes the shares of a window, and adds them to the answers and to what waiting tasks are owed.
    fn fill(&mut self, phase: Phase, window: &Window, length: u64) {
        let mut parts: Vec<_> = window.parts.iter().collect();
        // The sums must not depend on the order of a hash map.
        parts.sort_unstable_by_key(|((pid, mask), _)| (*pid, mask.bits()));
        let ext = |pid: &Pid| {
            self.tasks
                .get(pid)
                .is_some_and(|task| task.class == Class::Ext)
        };
        // If there are tasks of sched_ext, the fair class ranks above them.
        let contest = match parts.iter().any(|((pid, _), _)| ext(pid)) {
            true => Class::Ext,
            false => Class::Fair,
        };
        let capacity = self.capacity(window, contest, length);
        let all = self.all_cpus();
        let mut tree = Tree::default();
        let consumers: Vec<Consumer> = parts
            .iter()
            .filter(|((pid, _), _)| {
                let class = self
                    .tasks
                    .get(pid)
                    .map_or(Class::Unknown, |task| task.class);
                class == contest || class == Class::Unknown
            })
            .map(|((pid, mask), part)| {
                let task = self.tasks.get(pid);
                let cgroup = task.and_then(|task| task.cgroup);
                let path = cgroup.and_then(|id| self.tables.cgroups.get(&id));
                Consumer {
                    pid: *pid,
                    cgroup,
                    mask: mask.bits() & all,
                    weight: match (task, self.answers.rules.nice) {
                        (Some(task), true) => of_task(task),
                        _ => of_nice(0),
                    },
                    leaf: tree.leaf(path.map_or("/", |cgroup| &cgroup.path), |path| {
                        self.cgroup_weights.get(path).map(|(_, weight)| *weight)
                    }),
                    demand: part.run_ns.saturating_add(part.wait_ns).min(length) as f64,
                    got_ns: part.run_ns,
                    short_ns: part.run_ns - part.long_run_ns,
                    long: part.long_run_ns > 0 || part.long_wait_ns > 0,
                    whole: part.run_ns == 0
                        && u128::from(part.wait_ns) * 100 >= u128::from(length) * 98,
                }
            })
            .collect();
        // If an affinity changes within a window, the sums of the window do not show which task could have run where and
        // when. While the scheduler loads once more at the kernel's request, the fair class shares out the time.
        let mut tasks: Vec<Pid> = consumers.iter().map(|consumer| consumer.pid).collect();
        tasks.dedup();
        let moved = consumers.len() > tasks.len()
            || self.now < self.unsettled_until_ns
            || self.away
            || self.bypass.is_some();
        // A window counts only if it begins after the queues have become balanced again. If some tasks are confined,
        // the CPUs on which the others start are arbitrary.
        let long = || consumers.iter().filter(|one| one.long);
        let contested = long().fold(0, |all, one| all | one.mask);
        let mut masks = long().map(|one| one.mask);
        let first = masks.next();
        let confined = masks.any(|mask| Some(mask) != first);
        let joined = self.joined_ns.filter(|_| confined);
        let begun_ns = joined.map_or(0, |joined| joined.saturating_add(BALANCING_NS));
        let balanced = window.from_ns >= self.unbalanced_until_ns.max(begun_ns)
            && !self.is_uneven(window, length, contested);
        let concludes = balanced && !moved;
        let time = match concludes {
            true => &mut self.answers.even_ns,
            false => &mut self.answers.uneven_ns,
        };
        *time = time.saturating_add(length);
        let shares = |tree| {
            let mut shares = fill::fill(&consumers, &capacity, tree);
            queues::limit(&mut shares, &consumers, &capacity, length as f64, tree);
            shares
        };
        let (flat, tree) = (shares(None), shares(Some(&tree)));
        for ((consumer, flat), tree) in consumers.iter().zip(flat).zip(tree) {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "shares of the length, which are at least 0"
            )]
            let (flat, tree) = (flat as u64, tree as u64);
            let limited =
                window.throttled.contains(&consumer.pid) || self.is_throttled(consumer.pid);
            let entitled = |ns: u64| match consumer.long && !limited {
                true => ns.max(consumer.short_ns),
                false => consumer.got_ns,
            };
            if concludes {
                let key = (phase, consumer.pid, consumer.cgroup);
                let share = self.answers.shares.entry(key).or_default();
                *share = *share
                    + Share {
                        got_ns: consumer.got_ns,
                        flat_ns: entitled(flat),
                        tree_ns: entitled(tree),
                    };
            }
            if consumer.whole
                && !moved
                && !limited
                && let Some(task) = self.tasks.get_mut(&consumer.pid)
            {
                task.owed_ns = task.owed_ns.saturating_add(flat.min(tree));
                task.judged_ns = task.judged_ns.saturating_add(length);
            }
        }
    }

    /// Whether real-time, deadline and stop tasks left much less time on one of the `contested` CPUs than on another one.
    fn is_uneven(&self, window: &Window, length: u64, contested: u128) -> bool {
        let cpus = self.tables.topology.llc.len().clamp(1, CPUS);
        let mut taken: Vec<u64> = vec![0; cpus];
        for ((cpu, class), ns) in &window.above_ns {
            if class.is_above_ext()
                && let Some(taken) = taken.get_mut(usize::from(cpu.0))
            {
                add(taken, *ns);
            }
        }
        let online = (0u16..).zip(taken);
        let taken = online.filter(|(cpu, _)| {
            !self.offline.contains(&Cpu(*cpu)) && CpuMask::of(contested).contains(Cpu(*cpu))
        });
        let (least, most) = taken.fold((u64::MAX, 0), |(least, most), (_, ns)| {
            (ns.min(least), ns.max(most))
        });
        most.saturating_sub(least) as f64 > UNEVEN * length as f64
    }

    /// Returns the CPU time of each CPU that the classes above `contest` left, in nanoseconds; 0 for a CPU that is offline.
    fn capacity(&self, window: &Window, contest: Class, length: u64) -> Vec<f64> {
        let cpus = self.tables.topology.llc.len().clamp(1, CPUS);
        let mut capacity = vec![length as f64; cpus];
        for ((cpu, class), ns) in &window.above_ns {
            if *class != contest
                && let Some(left) = capacity.get_mut(usize::from(cpu.0))
            {
                *left = (*left - *ns as f64).max(0.0);
            }
        }
        for cpu in &self.offline {
            if let Some(left) = capacity.get_mut(usize::from(cpu.0)) {
                *left = 0.0;
            }
        }
        capacity
    }
}
