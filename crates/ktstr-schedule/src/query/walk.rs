//! Walking through a schedule once, event by event.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::state::{Doing, Task};
use super::{Answers, Phase};
use crate::event::{Cpu, DequeueReason, Event, Pid, What};
use crate::{Gap, Tables};

/// The state of everything at a moment.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) tables: &'a Tables,
    /// The latest time seen on any CPU.
    pub(super) now: u64,
    /// The time of this event.
    pub(super) time: u64,
    pub(super) begun: bool,
    pub(super) phase: Phase,
    pub(super) bypass: bool,
    /// What each CPU runs.
    pub(super) current: BTreeMap<Cpu, Pid>,
    /// CPUs that run nothing.
    pub(super) idle: u128,
    pub(super) tasks: HashMap<Pid, Task>,
    /// Tasks that run, wait or are throttled.
    pub(super) active: BTreeSet<Pid>,
    /// Cgroups that are out of quota on a CPU.
    pub(super) throttled: HashSet<(u64, Cpu)>,
    pub(super) answers: Answers,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tables: &'a Tables) -> Self {
        Self {
            tables,
            now: 0,
            time: 0,
            begun: false,
            phase: None,
            bypass: false,
            current: BTreeMap::new(),
            idle: 0,
            tasks: HashMap::new(),
            active: BTreeSet::new(),
            throttled: HashSet::new(),
            answers: Answers::default(),
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.account(event.time_ns);
        self.begun = true;
        self.time = event.time_ns;
        match event.what {
            What::Switch { prev, next, reason } => self.switch(event.cpu, prev, next, reason),
            What::Enqueue {
                task,
                on,
                class,
                wakeup,
            } => {
                self.book(task);
                self.task(task).class = class;
                self.task(task).queue = on;
                self.enqueue(task, wakeup);
            }
            What::Dequeue { task, reason, .. } => match reason {
                DequeueReason::Sleep => self.sleep(task),
                DequeueReason::Throttle => self.set(task, Doing::Throttled),
                DequeueReason::Change => {}
            },
            What::Migrate { task, to } => {
                self.book(task);
                self.task(task).queue = to;
            }
            What::Affinity { task, mask } => self.task(task).mask = mask,
            What::Cgroup { task, cgroup } => {
                self.book(task);
                self.task(task).cgroup = Some(cgroup);
                self.info(task).cgroups.push(cgroup);
            }
            What::Fork { task, parent } => {
                let made = Task {
                    cgroup: self.tasks.get(&task).and_then(|task| task.cgroup),
                    mask: self.task(parent).mask,
                    fresh: true,
                    ..Task::default()
                };
                self.active.remove(&task);
                self.tasks.insert(task, made);
                self.info(task).parent = Some(parent);
            }
            What::Name { task, name } => {
                let known = self.tables.names.get(name as usize).cloned();
                self.info(task).names.extend(known);
            }
            What::Nice { task, nice } => self.info(task).nice = Some(nice),
            What::Bypass { on } => {
                self.book_all();
                self.bypass = on;
            }
            What::Online { cpu, online } => {
                if !online {
                    self.current.remove(&cpu);
                    self.set_idle(cpu, false);
                }
            }
            What::Insert { task, .. } => self.count(task, |totals| totals.inserts += 1),
            What::Phase { number } => self.enter(Some(number)),
            What::End {} => self.enter(None),
            What::Throttle { cgroup, on } => {
                self.throttled.insert((cgroup, on));
            }
            What::Unthrottle { cgroup, on } => {
                self.throttled.remove(&(cgroup, on));
            }
            What::Wake { .. }
            | What::Policy { .. }
            | What::Weight { .. }
            | What::SchedExt { .. }
            | What::Kick { .. }
            | What::Exit { .. } => {}
        }
    }

    /// Forgets what everybody does: the events that would say so were left out.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.account(gap.from_ns);
        self.time = gap.from_ns;
        self.book_all();
        self.answers.missing_ns += gap.to_ns.saturating_sub(gap.from_ns);
        self.now = self.now.max(gap.to_ns);
        self.current.clear();
        self.idle = 0;
        self.active.clear();
        for task in self.tasks.values_mut() {
            task.doing = Doing::Unknown;
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.book_all();
        self.phase = phase;
    }

    pub(super) fn done(mut self) -> Answers {
        self.time = self.now;
        self.book_all();
        for pid in std::mem::take(&mut self.active) {
            self.end_wait(pid, false);
        }
        self.answers
    }
}
