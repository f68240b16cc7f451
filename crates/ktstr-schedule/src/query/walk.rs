//! Evaluates a schedule in a single pass, event by event.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use super::higher::Higher;
use super::shares::Window;
use super::state::{BALANCING_NS, Doing, Task};
use super::stretches::{Sink, Waker};
use super::{Answers, Phase, Wait};
use crate::event::{
    Class, Cpu, DequeueReason, Event, IDLE_CGROUP_WEIGHT, Pid, SHARES_SHIFT, SchedExtState, What,
};
use crate::{Gap, ReadError, Schedule, Tables};

/// The state of the evaluation at one point in time.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) tables: &'a Tables,
    /// The latest time of any CPU.
    pub(super) now: u64,
    /// The time of the current event.
    pub(super) time: u64,
    pub(super) begun: bool,
    pub(super) phase: Phase,
    /// When the current bypass of the BPF scheduler began; `None` if there is no bypass now.
    pub(super) bypass: Option<u64>,
    /// Whether a CPU went online or offline since a scheduler last began to load. An unload while this is true is taken for
    /// one that the kernel requested because of that hotplug.
    hotplugged: bool,
    /// Whether the scheduler was unloaded after such a hotplug, and no later load has yet brought a task into sched_ext's class.
    pub(super) away: bool,
    /// Whether a scheduler is being loaded. This may fail, and then there is still no scheduler.
    loading: bool,
    /// The task that each CPU runs.
    pub(super) current: BTreeMap<Cpu, Pid>,
    /// The CPUs below 128 that are known to be idle, one bit each.
    pub(super) idle: u128,
    pub(super) tasks: HashMap<Pid, Task>,
    /// The tasks that run, wait or are throttled.
    pub(super) active: BTreeSet<Pid>,
    /// For each cgroup that was throttled on a CPU: how many cgroups, itself and those above it, are out of quota there now.
    pub(super) throttled: HashMap<(u64, Cpu), u32>,
    /// Whether the kernel (before 6.18) takes a group that is out of quota off its queue as a whole, and not task by task.
    pub(super) groups_throttle: bool,
    /// The CPUs that are offline.
    pub(super) offline: BTreeSet<Cpu>,
    /// The weights of cgroups that were set, by path, each with the id of the cgroup. A cgroup that is not here has the default,
    /// 1024.
    pub(super) cgroup_weights: HashMap<String, (u64, f64)>,
    /// The times in which tasks of a class above sched_ext's held each CPU.
    pub(super) higher: BTreeMap<Cpu, Higher>,
    pub(super) window: Window,
    /// The time until which shares are not judged, because the weight of a working task changed (`SETTLING_NS`), or because a
    /// bypass (`REPAYING`) or a gap ended.
    pub(super) unsettled_until_ns: u64,
    /// The time until which the queues of the CPUs may be unbalanced; see [`BALANCING_NS`](super::state::BALANCING_NS).
    pub(super) unbalanced_until_ns: u64,
    /// When any task last started to count as working, which a task does once it has had `LONG_BURST_NS` of CPU time.
    pub(super) joined_ns: Option<u64>,
    /// The end of the last gap.
    pub(super) holed_until_ns: Option<u64>,
    pub(super) answers: Answers,
    pub(super) sink: Sink<'a>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tables: &'a Tables) -> Self {
        Self {
            tables,
            now: 0,
            time: 0,
            begun: false,
            phase: None,
            bypass: None,
            hotplugged: false,
            away: false,
            loading: false,
            current: BTreeMap::new(),
            idle: 0,
            tasks: HashMap::new(),
            active: BTreeSet::new(),
            throttled: HashMap::new(),
            groups_throttle: (tables.missing.iter()).any(|name| name == "throttle_cfs_rq_work"),
            offline: BTreeSet::new(),
            cgroup_weights: HashMap::new(),
            higher: BTreeMap::new(),
            window: Window::default(),
            unsettled_until_ns: 0,
            unbalanced_until_ns: 0,
            joined_ns: None,
            holed_until_ns: None,
            answers: Answers::default(),
            sink: Sink::default(),
        }
    }

    /// Evaluates a schedule from its beginning to its end.
    ///
    /// # Errors
    /// If a chunk cannot be decoded.
    pub(super) fn over(&mut self, schedule: &Schedule<'_>) -> Result<(), ReadError> {
        self.idle_at_first(schedule)?;
        schedule.for_each(|event| match event {
            Ok(event) => self.event(event),
            Err(gap) => self.gap(gap),
        })
    }

    /// Notes the CPUs that are idle at the beginning: those whose first switch leaves the idle task.
    fn idle_at_first(&mut self, schedule: &Schedule<'_>) -> Result<(), ReadError> {
        let cpus = self.tables.topology.llc.len();
        let mut first = BTreeMap::new();
        schedule.until(|event| {
            let Ok(event) = event else {
                // The first switches may be in the gap.
                return ControlFlow::Break(());
            };
            if let What::Switch { prev, .. } = event.what {
                first.entry(event.cpu).or_insert(prev);
            }
            match first.len() < cpus {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        for (cpu, prev) in first {
            if prev == Pid::IDLE {
                self.current.insert(cpu, prev);
                self.set_idle(cpu, true);
            }
        }
        Ok(())
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.account(event.time_ns);
        self.begun = true;
        self.time = event.time_ns;
        self.end_window_if_due();
        match event.what {
            What::Switch { prev, next, reason } => self.switch(event.cpu, prev, next, reason),
            What::Enqueue {
                task,
                on,
                class,
                wakeup,
            } => {
                if self.loading && class == Class::Ext {
                    self.book_all();
                    (self.loading, self.away) = (false, false);
                }
                self.book(task);
                let time = self.time;
                let state = self.task(task);
                let from = state.dequeued.take();
                let moved = from.is_some();
                // If the enqueue is on the CPU of the dequeue, the task stayed there. A CPU that takes a task from another CPU's
                // queue enqueues it on itself, after `set_task_cpu`, so only the dequeue shows where the task was.
                if from == Some(on) && state.dsq.is_some() {
                    state.left_dsq_ns.get_or_insert(time);
                }
                state.class = class;
                state.requeue(on, time);
                // The fair class keeps a task that sleeps on its queue until the task's lag is used up (`sched_delayed`, Linux
                // 6.12 and later), and may move it to another CPU meanwhile. Only a wake-up makes it runnable.
                if moved && !wakeup && matches!(state.doing, Doing::Asleep) {
                    return;
                }
                // A task that sleeps on its queue is woken without the flag of a wake-up.
                let wakeup = wakeup || !moved && matches!(state.doing, Doing::Asleep);
                self.enqueue(task, wakeup);
            }
            What::Dequeue {
                task, on, reason, ..
            } => match reason {
                DequeueReason::Sleep => self.sleep(task),
                DequeueReason::Throttle => self.throttle(task),
                DequeueReason::Change => self.task(task).dequeued = Some(on),
            },
            What::Migrate { task, to } => {
                self.book(task);
                let time = self.time;
                self.task(task).requeue(to, time);
            }
            What::Affinity { task, mask } => self.confine(task, mask),
            What::Cgroup { task, cgroup } => {
                self.forget_weight_of_another(cgroup);
                self.place(task, |task| &mut task.cgroup, Some(cgroup));
                self.info(task).cgroups.push(cgroup);
            }
            What::Fork { task, parent } => {
                let before = self.tasks.get(&task);
                let cgroup = before.and_then(|task| task.cgroup);
                let life = before.map_or(0, |task| task.life.saturating_add(1));
                let parent_is = self.task(parent).clone();
                let made = Task {
                    cgroup,
                    mask: parent_is.mask,
                    nice: parent_is.nice,
                    policy: parent_is.policy,
                    fresh: true,
                    life,
                    ..Task::default()
                };
                self.active.remove(&task);
                self.tasks.insert(task, made);
                let at_ns = self.time;
                let info = self.info(task);
                info.parent = Some(parent);
                info.forks_ns.push(at_ns);
            }
            What::Name { task, name } => {
                if self.task(task).name.replace(name) == Some(name) {
                    // A task that sets the name that it has already leaves a mark. An event without a CPU was added by the
                    // host, and is no mark.
                    if event.cpu != Cpu::UNKNOWN {
                        self.mark(task);
                    }
                    return;
                }
                let known = self.tables.names.get(name as usize).cloned();
                self.info(task).names.extend(known);
            }
            What::Nice { task, nice } => {
                self.weigh(task, |task| task.nice = nice);
                self.info(task).nice = Some(nice);
            }
            What::Policy { task, policy } => {
                self.weigh(task, |task| task.policy = policy);
            }
            What::Weight { cgroup, shares } => {
                if let Some(known) = self.tables.cgroups.get(&cgroup) {
                    let path = known.path.trim_end_matches('/').to_owned();
                    let weight = shares >> SHARES_SHIFT;
                    if weight == IDLE_CGROUP_WEIGHT && !self.answers.rules.cpu_idle {
                        self.answers.idle_cgroups.insert(path);
                        return;
                    }
                    let weight = weight as f64;
                    self.forget_weight_of_another(cgroup);
                    let before = self.cgroup_weights.get(&path);
                    let before = before.map_or(1024.0, |(_, weight)| *weight);
                    if (weight - before).abs() > 0.5 && self.somebody_works_in(&path) {
                        self.unbalance();
                    }
                    if (weight - 1024.0).abs() > 0.5 {
                        self.answers.weighted.insert(path.clone());
                    }
                    self.cgroup_weights.insert(path, (cgroup, weight));
                }
            }
            What::Bypass { on } => self.set_bypass(on),
            What::SchedExt { state } => {
                self.book_all();
                self.loading = state == SchedExtState::Enabling;
                if self.loading {
                    self.hotplugged = false;
                } else {
                    self.away |= self.hotplugged;
                }
            }
            What::Online { cpu, online } => {
                // CPUs that are offline from the start are reported at time 0.
                self.hotplugged |= self.time > 0;
                self.unbalance();
                if online {
                    self.offline.remove(&cpu);
                } else {
                    self.offline.insert(cpu);
                    self.current.remove(&cpu);
                    self.set_idle(cpu, false);
                }
            }
            What::Insert { task, dsq, .. } => {
                self.task(task).dsq = Some(dsq);
                self.task(task).left_dsq_ns = None;
                self.task(task).dequeued = None;
                self.count(task, |totals| totals.inserts += 1);
            }
            What::Wake {
                task,
                waker,
                interrupt,
            } => {
                let waker = Waker {
                    task: waker,
                    cpu: event.cpu,
                    interrupt,
                    at_ns: self.time,
                };
                let woken = self.task(task);
                // A wake-up call for a task that already waits for a CPU wakes nothing.
                if !matches!(woken.doing, Doing::Waiting { .. }) {
                    woken.waker = Some(waker);
                }
            }
            What::Phase { number } => self.enter(Some(number)),
            What::End {} => self.enter(None),
            What::Throttle { cgroup, on } => {
                let quotas = self.throttled.entry((cgroup, on)).or_default();
                *quotas = quotas.saturating_add(1);
                self.throttle_groups();
            }
            What::Unthrottle { cgroup, on } => {
                let quotas = self.throttled.entry((cgroup, on)).or_default();
                *quotas = quotas.saturating_sub(1);
                self.throttle_groups();
            }
            What::Kick { .. } | What::Exit { .. } => {}
        }
    }

    /// Forgets the weight of a cgroup that had the path of `cgroup` before: a new cgroup has the default weight.
    fn forget_weight_of_another(&mut self, cgroup: u64) {
        let Some(known) = self.tables.cgroups.get(&cgroup) else {
            return;
        };
        let path = known.path.trim_end_matches('/');
        let is_set = self.cgroup_weights.get(path);
        if is_set.is_some_and(|(id, _)| *id != cgroup) {
            self.cgroup_weights.remove(path);
        }
    }

    /// Forgets what every task is doing and what every CPU runs, because the events that would show it were dropped. Affinities,
    /// cgroups, weights and used-up quotas are kept, because a gap keeps the rare events that change them. Classes are kept, too.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.account(gap.from_ns);
        self.time = gap.from_ns;
        self.book_all();
        self.answers.gaps += 1;
        self.holed_until_ns = Some(gap.to_ns);
        let complete = &mut self.answers.complete_from_ns;
        *complete = (*complete).max(Some(gap.to_ns));
        // What a waiting task does is unknown until its next event, so the others seem to be entitled to more than they are.
        let known_ns = gap.to_ns.saturating_add(BALANCING_NS);
        self.unsettled_until_ns = self.unsettled_until_ns.max(known_ns);
        self.unbalanced_until_ns = self.unbalanced_until_ns.max(known_ns);
        self.answers.holed.insert(self.phase);
        let missing = gap.to_ns.saturating_sub(gap.from_ns);
        self.answers.missing_ns = self.answers.missing_ns.saturating_add(missing);
        self.now = self.now.max(gap.to_ns);
        self.window = Window::default();
        self.current.clear();
        self.idle = 0;
        for pid in std::mem::take(&mut self.active) {
            self.end_stretch(pid, None, false);
        }
        for task in self.tasks.values_mut() {
            task.doing = Doing::Unknown;
            task.put_aside = false;
            (task.waker, task.dsq, task.left_dsq_ns, task.dequeued) = (None, None, None, None);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.book_all();
        self.end_window();
        if phase.is_some() && self.answers.from_ns.is_none() {
            self.answers.from_ns = Some(self.time);
        }
        if phase.is_none() && self.phase.is_some() {
            self.answers.to_ns = Some(self.time);
        }
        if self.phase.is_some() {
            self.leave();
        }
        self.phase = phase;
        // The gap may extend beyond the start of the phase.
        if self.holed_until_ns.is_some_and(|until| self.time <= until) {
            self.answers.holed.insert(phase);
        }
    }

    /// Records the waits that are still open at the end of a phase.
    fn leave(&mut self) {
        let waiting = self.active.iter().filter_map(|pid| {
            let task = self.tasks.get(pid)?;
            let Doing::Waiting { from_ns, cause } = task.doing else {
                return None;
            };
            Some(Wait {
                phase: self.phase,
                task: *pid,
                class: task.waits_in,
                cgroup: task.cgroup,
                cpu: task.waited_on(self.time, false),
                cause,
                from_ns,
                to_ns: self.time,
                owed_ns: task.owed_ns,
                judged_ns: task.judged_ns,
                served: false,
            })
        });
        let waiting: Vec<Wait> = waiting.collect();
        self.answers.open_waits.extend(waiting);
    }

    pub(super) fn done(mut self) -> Answers {
        self.time = self.now;
        self.book_all();
        for pid in std::mem::take(&mut self.active) {
            self.end_wait(pid, false);
            self.end_stretch(pid, None, false);
        }
        let higher = std::mem::take(&mut self.higher).into_iter();
        self.answers.higher = higher.map(|(cpu, held)| (cpu, held.into_vec())).collect();
        self.answers
    }
}
