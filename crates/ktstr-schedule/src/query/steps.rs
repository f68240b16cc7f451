//! How an event changes the state of a task and of a CPU.

use super::state::{Doing, Task};
use super::totals::{Key, Totals};
use super::walk::Walk;
use super::{TaskInfo, Wait, WaitCause};
use crate::event::{Class, Cpu, Pid, Reason};

impl Walk<'_> {
    pub(super) fn switch(&mut self, cpu: Cpu, prev: Pid, next: Pid, reason: Reason) {
        if prev != Pid::IDLE {
            self.stop(prev, reason);
        }
        // A CPU that goes offline switches to its idle task last. It does not count as an idle CPU, because no task can use it.
        if next == Pid::IDLE && self.offline.contains(&cpu) {
            self.current.remove(&cpu);
            self.set_idle(cpu, false);
            return;
        }
        self.current.insert(cpu, next);
        self.set_idle(cpu, next == Pid::IDLE);
        if next == Pid::IDLE {
            return;
        }
        self.book(next);
        self.end_wait(next, true);
        self.end(next, None, true);
        let last = self.task(next).ran_on.replace(cpu);
        self.task(next).queue = cpu;
        self.task(next).fresh = false;
        self.task(next).dsq = None;
        self.task(next).left_dsq_ns = None;
        self.begin(next, Doing::Running { cpu });
        let moved = last.is_some_and(|last| last != cpu);
        let task = self.task(next);
        task.runs = task.runs.saturating_add(1);
        task.migrations = task.migrations.saturating_add(u64::from(moved));
        let away = |of: &[u32]| {
            let place = |cpu: Cpu| of.get(usize::from(cpu.0));
            last.is_some_and(|last| place(last) != place(cpu))
        };
        let (llc, node) = (
            away(&self.tables.topology.llc),
            away(&self.tables.topology.node),
        );
        self.count(next, |totals| {
            totals.runs += 1;
            if moved {
                totals.migrations += 1;
                totals.llc_migrations += u64::from(llc);
                totals.node_migrations += u64::from(node);
            }
        });
    }

    fn stop(&mut self, pid: Pid, reason: Reason) {
        self.book(pid);
        let now = self.time;
        let waiting = |cause| Doing::Waiting {
            from_ns: now,
            cause,
        };
        let task = self.task(pid);
        if let Some(since) = task.off_queue_ns.take() {
            task.leaving_ns = task.leaving_ns.saturating_add(now.saturating_sub(since));
        }
        if matches!(reason, Reason::Slept | Reason::Yielded) {
            task.burst_ns = 0;
        }
        if reason == Reason::Exited {
            self.depart(pid);
        }
        let aside = std::mem::take(&mut self.task(pid).put_aside);
        let runnable = matches!(reason, Reason::Preempted | Reason::Yielded);
        let throttled = aside
            || self.task(pid).doing == Doing::Throttled
            || runnable && self.groups_throttle && self.is_throttled(pid);
        self.count(pid, |totals| match reason {
            Reason::Slept => totals.slept += 1,
            // A task that has run out of quota loses its CPU to the quota, and not to another task.
            Reason::Preempted => totals.preempted += u64::from(!throttled),
            Reason::Yielded => totals.yielded += 1,
            Reason::Exited | Reason::Idle => {}
        });
        let doing = match reason {
            Reason::Exited => Doing::Gone,
            Reason::Slept => Doing::Asleep,
            _ if throttled => Doing::Throttled,
            Reason::Yielded => waiting(WaitCause::Yielded),
            Reason::Preempted | Reason::Idle => waiting(WaitCause::Preempted),
        };
        self.end(pid, Some(reason), false);
        self.begin(pid, doing);
    }

    pub(super) fn enqueue(&mut self, pid: Pid, wakeup: bool) {
        let now = self.time;
        let task = self.task(pid);
        task.off_queue_ns = None;
        let cause = match task.doing {
            // The task is changed while it runs or waits, or it was woken before it had left its CPU.
            Doing::Running { .. } | Doing::Waiting { .. } => {
                task.put_aside = false;
                return;
            }
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

    /// Puts the task to sleep. A running task keeps its CPU until the switch, and can still be woken.
    pub(super) fn sleep(&mut self, pid: Pid) {
        if matches!(self.task(pid).doing, Doing::Running { .. }) {
            self.task(pid).off_queue_ns = Some(self.time);
        } else {
            self.set(pid, Doing::Asleep);
        }
    }

    /// Throttles the task, because its cgroup is out of quota. A running task keeps its CPU until the switch.
    pub(super) fn throttle(&mut self, pid: Pid) {
        match self.task(pid).doing {
            Doing::Running { .. } => {
                let now = self.time;
                let task = self.task(pid);
                task.put_aside = true;
                task.off_queue_ns = Some(now);
            }
            _ => self.set(pid, Doing::Throttled),
        }
    }

    /// Throttles the waiting tasks of groups that have run out of quota, and lets those of other groups wait again. Kernels
    /// before 6.18 take the whole group off its queue and put it back, and do not dequeue each task.
    pub(super) fn throttle_groups(&mut self) {
        if !self.groups_throttle {
            return;
        }
        let now = self.time;
        for pid in self.active.clone() {
            let throttled = self.is_throttled(pid);
            match (self.task(pid).doing, throttled) {
                (Doing::Waiting { .. }, true) => self.set(pid, Doing::Throttled),
                (Doing::Throttled, false) => {
                    let (from_ns, cause) = (now, WaitCause::Unthrottled);
                    self.set(pid, Doing::Waiting { from_ns, cause });
                }
                _ => {}
            }
        }
    }

    pub(super) fn set(&mut self, pid: Pid, doing: Doing) {
        self.end(pid, None, false);
        self.begin(pid, doing);
    }

    /// Ends the current activity of the task: accounts for it, and reports it to the sink.
    fn end(&mut self, pid: Pid, then: Option<Reason>, served: bool) {
        self.book(pid);
        self.end_stretch(pid, then, served);
    }

    /// Starts a new activity of the task at the time of this event.
    fn begin(&mut self, pid: Pid, doing: Doing) {
        let now = self.time;
        let task = self.task(pid);
        task.doing = doing;
        task.waits_in = task.class;
        task.since_ns = now;
        task.booked_ns = now;
        task.queues.clear();
        match doing {
            Doing::Running { .. } | Doing::Waiting { .. } | Doing::Throttled => {
                self.active.insert(pid)
            }
            Doing::Unknown | Doing::Asleep | Doing::Gone => self.active.remove(&pid),
        };
    }

    /// Whether the task belongs to the fair class and is in or below a cgroup that is out of quota on the task's CPU. Such a
    /// task is throttled as soon as it is woken.
    pub(super) fn is_throttled(&self, pid: Pid) -> bool {
        let Some(task) = self.tasks.get(&pid) else {
            return false;
        };
        let path = |id: u64| {
            self.tables
                .cgroups
                .get(&id)
                .map(|cgroup| cgroup.path.as_str())
        };
        // Each group has events of its own, so the nearest one decides: a group is put back before those above it.
        let depth = |cgroup: u64| {
            // The path of the task's own cgroup may be unknown.
            if task.cgroup == Some(cgroup) {
                return Some(usize::MAX);
            }
            let (above, own) = path(cgroup).zip(task.cgroup.and_then(path))?;
            let rest = own.strip_prefix(above)?;
            rest.starts_with('/').then_some(above.len())
        };
        let here = self
            .throttled
            .iter()
            .filter(|((_, on), _)| *on == task.queue);
        let nearest = here
            .filter_map(|((cgroup, _), quotas)| Some((depth(*cgroup)?, *quotas)))
            .max_by_key(|(depth, _)| *depth);
        task.class == Class::Fair && nearest.is_some_and(|(_, quotas)| quotas > 0)
    }

    pub(super) fn end_wait(&mut self, pid: Pid, served: bool) {
        let time = self.time;
        let task = self.task(pid);
        let owed_ns = std::mem::take(&mut task.owed_ns);
        let judged_ns = std::mem::take(&mut task.judged_ns);
        if let Doing::Waiting { from_ns, cause } = task.doing {
            let (class, cgroup) = (task.waits_in, task.cgroup);
            let cpu = task.waited_on(time, served);
            self.answers.waits.push(Wait {
                phase: self.phase,
                task: pid,
                class,
                cgroup,
                cpu,
                cause,
                from_ns,
                to_ns: self.time,
                owed_ns,
                judged_ns,
                served,
            });
        }
    }

    pub(super) fn count(&mut self, pid: Pid, count: impl FnOnce(&mut Totals)) {
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

    pub(super) fn set_idle(&mut self, cpu: Cpu, idle: bool) {
        if cpu.0 < 128 {
            let bit = 1u128 << cpu.0;
            self.idle = if idle {
                self.idle | bit
            } else {
                self.idle & !bit
            };
        }
    }

    pub(super) fn task(&mut self, pid: Pid) -> &mut Task {
        self.tasks.entry(pid).or_default()
    }

    pub(super) fn info(&mut self, pid: Pid) -> &mut TaskInfo {
        self.answers.tasks.entry(pid).or_default()
    }
}
