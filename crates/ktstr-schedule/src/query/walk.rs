//! Walking through a schedule once, event by event.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::state::{Doing, Task};
use super::totals::{Key, Totals};
use super::{Answers, Phase, Wait, WaitCause};
use crate::event::{Class, Cpu, DequeueReason, Event, Pid, Reason, What};
use crate::{Gap, Tables};

/// Which LLC and which NUMA node each CPU belongs to, by CPU number. A CPU that is not listed is
/// in none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// LLC of each CPU.
    pub llc: Vec<u32>,
    /// NUMA node of each CPU.
    pub node: Vec<u32>,
}

/// The state of everything at a moment.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    tables: &'a Tables,
    topology: &'a Topology,
    pub(super) now: u64,
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
    throttled: HashSet<(u64, Cpu)>,
    pub(super) answers: Answers,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tables: &'a Tables, topology: &'a Topology) -> Self {
        Self {
            tables,
            topology,
            now: 0,
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
        match event.what {
            What::Switch { prev, next, reason } => self.switch(event.cpu, prev, next, reason),
            What::Enqueue {
                task,
                on,
                class,
                wakeup,
            } => {
                self.task(task).class = class;
                self.task(task).queue = on;
                self.enqueue(task, wakeup);
            }
            What::Dequeue { task, reason, .. } => match reason {
                DequeueReason::Sleep => self.sleep(task),
                DequeueReason::Throttle => self.set(task, Doing::Throttled),
                DequeueReason::Change => {}
            },
            What::Migrate { task, to } => self.task(task).queue = to,
            What::Affinity { task, mask } => self.task(task).mask = mask,
            What::Cgroup { task, cgroup } => {
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
            What::Bypass { on } => self.bypass = on,
            What::Online { cpu, online } => {
                if !online {
                    self.current.remove(&cpu);
                    self.set_idle(cpu, false);
                }
            }
            What::Insert { task, .. } => self.count(task, |totals| totals.inserts += 1),
            What::Phase { number } => self.phase = Some(number),
            What::End {} => self.phase = None,
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
        self.answers.missing_ns += gap.to_ns.saturating_sub(gap.from_ns);
        self.now = self.now.max(gap.to_ns);
        self.current.clear();
        self.idle = 0;
        self.active.clear();
        for task in self.tasks.values_mut() {
            task.doing = Doing::Unknown;
        }
    }

    pub(super) fn done(mut self) -> Answers {
        for pid in std::mem::take(&mut self.active) {
            self.end_wait(pid, false);
        }
        self.answers
    }

    fn switch(&mut self, cpu: Cpu, prev: Pid, next: Pid, reason: Reason) {
        if prev != Pid::IDLE {
            self.stop(prev, reason);
        }
        self.current.insert(cpu, next);
        self.set_idle(cpu, next == Pid::IDLE);
        if next == Pid::IDLE {
            return;
        }
        self.end_wait(next, true);
        let last = self.task(next).ran_on.replace(cpu);
        self.task(next).queue = cpu;
        self.task(next).fresh = false;
        self.set(next, Doing::Running { cpu });
        let away = |of: &[u32]| {
            let place = |cpu: Cpu| of.get(usize::from(cpu.0));
            last.is_some_and(|last| place(last) != place(cpu))
        };
        let (llc, node) = (away(&self.topology.llc), away(&self.topology.node));
        self.count(next, |totals| {
            totals.runs += 1;
            if last.is_some_and(|last| last != cpu) {
                totals.migrations += 1;
                totals.llc_migrations += u64::from(llc);
                totals.node_migrations += u64::from(node);
            }
        });
    }

    fn stop(&mut self, pid: Pid, reason: Reason) {
        self.count(pid, |totals| match reason {
            Reason::Slept => totals.slept += 1,
            Reason::Preempted => totals.preempted += 1,
            Reason::Yielded => totals.yielded += 1,
            Reason::Exited | Reason::Idle => {}
        });
        let now = self.now;
        let waiting = |cause| Doing::Waiting {
            from_ns: now,
            cause,
        };
        let throttled = self.task(pid).doing == Doing::Throttled;
        let doing = match reason {
            Reason::Exited => Doing::Gone,
            Reason::Slept => Doing::Asleep,
            _ if throttled => Doing::Throttled,
            Reason::Yielded => waiting(WaitCause::Yielded),
            Reason::Preempted | Reason::Idle => waiting(WaitCause::Preempted),
        };
        self.set(pid, doing);
    }

    fn enqueue(&mut self, pid: Pid, wakeup: bool) {
        let now = self.now;
        let task = self.task(pid);
        let cause = match task.doing {
            // It is changed while it runs or waits, or was woken before it had left its CPU.
            Doing::Running { .. } | Doing::Waiting { .. } => return,
            Doing::Throttled => WaitCause::Unthrottled,
            _ if task.fresh => WaitCause::Forked,
            Doing::Asleep | Doing::Unknown if wakeup => WaitCause::Woken,
            _ => WaitCause::Unknown,
        };
        let doing = if self.is_throttled(pid) {
            Doing::Throttled
        } else {
            Doing::Waiting {
                from_ns: now,
                cause,
            }
        };
        self.set(pid, doing);
        self.count(pid, |totals| {
            totals.wakeups += u64::from(cause == WaitCause::Woken);
        });
    }

    /// The task blocks. One that is on a CPU is on it until the switch, and can still be woken.
    fn sleep(&mut self, pid: Pid) {
        if !matches!(self.task(pid).doing, Doing::Running { .. }) {
            self.set(pid, Doing::Asleep);
        }
    }

    fn set(&mut self, pid: Pid, doing: Doing) {
        self.task(pid).doing = doing;
        match doing {
            Doing::Running { .. } | Doing::Waiting { .. } | Doing::Throttled => {
                self.active.insert(pid)
            }
            Doing::Unknown | Doing::Asleep | Doing::Gone => self.active.remove(&pid),
        };
    }

    /// Whether a task of the fair class is in a cgroup that is out of quota on the task's CPU, or
    /// under one: it is put aside as soon as it is woken.
    fn is_throttled(&self, pid: Pid) -> bool {
        let Some(task) = self.tasks.get(&pid) else {
            return false;
        };
        let path = |id: u64| {
            self.tables
                .cgroups
                .get(&id)
                .map(|cgroup| cgroup.path.as_str())
        };
        let here = self.throttled.iter().filter(|(_, on)| *on == task.queue);
        let mut of = here.map(|(cgroup, _)| *cgroup);
        task.class == Class::Fair
            && of.any(|cgroup| {
                let own = task.cgroup == Some(cgroup);
                let rest = path(cgroup)
                    .zip(task.cgroup.and_then(path))
                    .and_then(|(above, own)| own.strip_prefix(above));
                own || rest.is_some_and(|rest| rest.starts_with('/'))
            })
    }

    fn end_wait(&mut self, pid: Pid, served: bool) {
        let task = self.task(pid);
        if let Doing::Waiting { from_ns, cause } = task.doing {
            let (cgroup, cpu) = (task.cgroup, task.queue);
            self.answers.waits.push(Wait {
                phase: self.phase,
                task: pid,
                cgroup,
                cpu,
                cause,
                from_ns,
                to_ns: self.now,
                served,
            });
        }
    }

    fn count(&mut self, pid: Pid, count: impl FnOnce(&mut Totals)) {
        let phase = self.phase;
        let task = self.task(pid);
        let cpu = task.ran_on.unwrap_or(task.queue);
        let key = Key {
            phase,
            task: pid,
            cgroup: task.cgroup,
            cpu,
        };
        count(self.answers.totals.entry(key).or_default());
    }

    fn set_idle(&mut self, cpu: Cpu, idle: bool) {
        if cpu.0 < 128 {
            let bit = 1u128 << cpu.0;
            self.idle = if idle {
                self.idle | bit
            } else {
                self.idle & !bit
            };
        }
    }

    fn task(&mut self, pid: Pid) -> &mut Task {
        self.tasks.entry(pid).or_default()
    }

    fn info(&mut self, pid: Pid) -> &mut super::TaskInfo {
        self.answers.tasks.entry(pid).or_default()
    }
}
