//! Accounting of time. A task's time is measured by the clock with which the kernel accounts for it. Time that concerns
//! several CPUs or tasks is measured by the latest time of any CPU.

use super::WaitCause;
use super::higher::HeldByHigher;
use super::idle::{usable, usable_time};
use super::shares::competes;
use super::state::{Doing, Task};
use super::totals::{Key, Totals};
use super::walk::Walk;
use crate::event::{Class, Cpu, Pid};

/// The length from which a wait counts as long, in nanoseconds: a tick at 250 Hz, within which an idle CPU looks for
/// work anyway. Under the virtual clock CPUs take turns, so even a CPU that was notified at once may start up to a few
/// milliseconds late.
const LATE_NS: u64 = 4_000_000;

impl Walk<'_> {
    /// Accounts the length of the phase, and idle and wasted CPU time, up to `now`.
    pub(super) fn account(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        if passed == 0 || !self.begun {
            return;
        }
        *self.answers.phases.entry(self.phase).or_default() += passed;
        let cpus = self.tables.topology.llc.len().max(1);
        let cpus = cpus.saturating_sub(self.offline.len()) as u64;
        let cpu_ns = self.answers.cpu_ns.entry(self.phase).or_default();
        *cpu_ns = cpu_ns.saturating_add(passed.saturating_mul(cpus));
        let before = self.now - passed;
        let (wanted, usable) = usable(self.idle, self.waiting_masks());
        if usable != 0 {
            let wasted = u64::from(usable).saturating_mul(passed);
            let sum = self.answers.wasted_ns.entry(self.phase).or_default();
            *sum = sum.saturating_add(wasted);
            // While the scheduler loads once more at the kernel's request, the fair class places the tasks. During a bypass, the
            // kernel does. The scheduler is not to blame for idle CPUs in either case.
            if !self.away && self.bypass.is_none() {
                let mut late = self.waiting_since(before);
                let late = usable_time(self.idle, before, self.now, &mut late);
                let sum = self.answers.wasted_late_ns.entry(self.phase).or_default();
                *sum = sum.saturating_add(late);
            }
        }
        for (cpu, current) in &self.current {
            if *current == Pid::IDLE {
                let idle = self.answers.idle.entry((self.phase, *cpu)).or_default();
                idle.idle_ns += passed;
                if cpu.0 < 128 && wanted >> cpu.0 & 1 == 1 {
                    idle.beside_waiter_ns += passed;
                }
            }
        }
    }

    /// Accounts what the task `pid` did since the last call, up to the time of this event. Call it before anything changes
    /// that is part of the key of the task's sums.
    pub(super) fn book(&mut self, pid: Pid) {
        let Some(task) = self.tasks.get(&pid) else {
            return;
        };
        let until = self.time.max(task.since_ns);
        if until < task.booked_ns {
            self.take_back(pid, until);
            return;
        }
        let passed = until - task.booked_ns;
        let (cpu, totals) = self.spent(task, passed);
        self.window.add(pid, task, passed);
        if totals.higher_class_ns > 0 {
            self.higher.entry(cpu).or_default().add(HeldByHigher {
                task: pid,
                class: task.class,
                from_ns: task.booked_ns,
                to_ns: until,
            });
        }
        let key = Key {
            phase: self.phase,
            task: pid,
            cgroup: task.cgroup,
            cpu,
        };
        if totals != Totals::default() {
            let sum = self.answers.totals.entry(key).or_default();
            *sum = *sum + totals;
            if totals.run_ns > 0 && !task.mask.contains(cpu) {
                let outside = self.answers.outside_ns.entry(pid).or_default();
                *outside = outside.saturating_add(totals.run_ns);
            }
            let of_cgroup = (self.phase, task.cgroup);
            let allowed = self.answers.allowed.entry(of_cgroup);
            let allowed = allowed.or_insert(crate::CpuMask::of(0));
            *allowed = allowed.or(task.mask);
        }
        let task = self.task(pid);
        task.booked_ns = until;
        task.booked = Some(key);
        let before = task.ran_ns;
        task.ran_ns = before.saturating_add(totals.run_ns);
        let after = task.ran_ns;
        task.burst_ns = task.burst_ns.saturating_add(totals.run_ns);
        self.join(before, after);
    }

    /// Subtracts the time that was accounted beyond `until`. It had been measured by the clock of another CPU, and that clock
    /// was ahead.
    fn take_back(&mut self, pid: Pid, until: u64) {
        let Some(task) = self.tasks.get(&pid) else {
            return;
        };
        let (cpu, totals) = self.spent(task, task.booked_ns - until);
        if totals.higher_class_ns > 0
            && let Some(held) = self.higher.get_mut(&cpu)
        {
            held.take_back(pid, until);
        }
        if let Some(sum) = task
            .booked
            .and_then(|key| self.answers.totals.get_mut(&key))
        {
            *sum = sum.less(totals);
        }
        let task = self.task(pid);
        task.booked_ns = until;
        task.ran_ns = task.ran_ns.saturating_sub(totals.run_ns);
        task.burst_ns = task.burst_ns.saturating_sub(totals.run_ns);
    }

    /// Calls [`Self::book`] for all active tasks.
    pub(super) fn book_all(&mut self) {
        for pid in self.active.clone() {
            self.book(pid);
        }
    }

    /// Returns the CPU of the task, and the totals of `passed` nanoseconds of its current activity.
    fn spent(&self, task: &Task, passed: u64) -> (Cpu, Totals) {
        let mut totals = Totals::default();
        match task.doing {
            Doing::Running { cpu } => {
                totals.run_ns = passed;
                if self.away {
                    totals.away_ns = passed;
                    return (cpu, totals);
                }
                let is_other = !matches!(task.class, Class::Ext | Class::Unknown);
                if is_other {
                    totals.other_class_ns = passed;
                } else if self.bypass.is_some() {
                    totals.bypass_ns = passed;
                }
                if task.class.is_above_ext() {
                    totals.higher_class_ns = passed;
                }
                return (cpu, totals);
            }
            Doing::Waiting { .. } => totals.wait_ns = passed,
            Doing::Throttled => totals.throttled_ns = passed,
            Doing::Unknown | Doing::Asleep | Doing::Gone => {}
        }
        (task.queue, totals)
    }

    /// Returns for each waiting task the time from which its wait counts as long, and the CPUs on which it has a claim at
    /// the time `at_ns`. Tasks of other classes are left out: a deadline task that has used up its budget looks as if it waited,
    /// and the scheduler that is judged does not place it. Tasks that sched_ext itself keeps on their CPU are left out, too.
    fn waiting_since(&self, at_ns: u64) -> Vec<(u64, crate::CpuMask)> {
        let waiting = self.active.iter().filter_map(|pid| self.tasks.get(pid));
        let waiting = waiting.filter(|task| competes(task.class) && !self.is_kept(task));
        let late = waiting.filter_map(|task| match task.doing {
            Doing::Waiting { from_ns, .. } => {
                Some((from_ns.saturating_add(LATE_NS), task.claim(at_ns)))
            }
            _ => None,
        });
        late.collect()
    }

    /// Whether sched_ext keeps the task on its CPU, behind a task of a higher class. If a task of a higher class preempts a task
    /// that has slice left, `put_prev_task_scx` (kernel/sched/ext.c) puts the preempted task into the CPU's local queue without
    /// asking the BPF scheduler.
    fn is_kept(&self, task: &Task) -> bool {
        let cause = WaitCause::Preempted;
        let preempted = matches!(task.doing, Doing::Waiting { cause: why, .. } if why == cause);
        let runs = self.current.get(&task.queue);
        let runs = runs.and_then(|pid| self.tasks.get(pid));
        task.class == Class::Ext
            && preempted
            && task.dsq.is_none()
            && runs.is_some_and(|runs| runs.class.is_above_ext())
    }

    /// Returns the affinity of each waiting task; nothing if no CPU is idle.
    fn waiting_masks(&self) -> impl Iterator<Item = crate::CpuMask> + '_ {
        let idle = self.idle != 0;
        // Without the affinities, nobody knows which task could have used an idle CPU.
        let known = idle && self.tables.source.is_exact();
        let waiting = self.active.iter().filter(move |_| known);
        waiting
            .filter_map(|pid| self.tasks.get(pid))
            .filter(|task| matches!(task.doing, Doing::Waiting { .. }) && competes(task.class))
            .map(|task| task.mask)
    }
}
