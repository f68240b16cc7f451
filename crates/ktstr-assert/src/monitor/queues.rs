//! What a sample shows about the tasks that wait, and about the other CPUs that could run them.
//!
//! The lengths of runqueues alone would blame the wrong party. If a cpuset confines eight workers to one CPU, the imbalance
//! is not the scheduler's fault. A task that waits in a queue shared by CPUs is counted on the CPU where it ran last,
//! although any of these CPUs may run it. The functions in this file therefore look at the waiting tasks and at the CPUs on
//! which they may run.

use super::{CpuSnapshot, MonitorSample, WaitingTask, WaitsIn};

/// The sampler reads at most this many entries of a runqueue's list of sched_ext tasks, and as many of its list of fair
/// tasks. If this many tasks or more were found, some tasks of the local DSQ may be missing.
const LISTED: usize = 64;

impl CpuSnapshot {
    /// Whether the CPU has nothing to run at this moment.
    pub fn is_idle(&self) -> bool {
        self.idle.unwrap_or(self.nr_running == 0)
    }

    /// Returns the number of tasks in this CPU's local DSQ that another CPU could take over. `cpu` is the number of this CPU, and
    /// `cpus` is the number of CPUs of the machine. The list of waiting tasks may be incomplete. If most of the listed tasks of
    /// the DSQ are movable, the DSQ's unlisted tasks count as movable, too. Otherwise the unlisted tasks do not count. If there
    /// is no list, returns the depth of the DSQ.
    pub fn movable_dsq_depth(&self, cpu: usize, cpus: usize) -> u32 {
        let Some(waiting) = &self.waiting else {
            return self.local_dsq_depth;
        };
        let movable = |t: &&WaitingTask| {
            t.queue == WaitsIn::Local && (0..cpus).any(|other| other != cpu && t.may_run_on(other))
        };
        let found = waiting.iter().filter(movable).count() as u32;
        let local = waiting.iter().filter(|t| t.queue == WaitsIn::Local);
        let confined = (local.count() as u32).saturating_sub(found);
        match waiting.len() < LISTED || confined >= found {
            true => found,
            false => self.local_dsq_depth.saturating_sub(confined).max(found),
        }
    }

    /// Returns the number of waiting tasks that are in this CPU's own queue and that `other` could take over.
    fn movable_to(&self, other: usize) -> usize {
        let bound = |t: &&WaitingTask| matches!(t.queue, WaitsIn::Local | WaitsIn::Fair);
        let waiting = self.waiting.iter().flatten();
        let movable = waiting.filter(bound).filter(|t| t.may_run_on(other));
        movable.count()
    }

    /// Returns the number of tasks that are running on this CPU or waiting in a queue that no other CPU serves.
    fn bound(&self) -> usize {
        let bound = |t: &&WaitingTask| matches!(t.queue, WaitsIn::Local | WaitsIn::Fair);
        usize::from(!self.is_idle()) + self.waiting.iter().flatten().filter(bound).count()
    }
}

impl MonitorSample {
    /// Returns the imbalance that migrations could reduce, for the worst pair of CPUs A and B. The imbalance is a quotient. Its
    /// dividend is the number of tasks that A runs (0 or 1) plus the number of tasks in A's own queue that B could take over. Its
    /// divisor is the number of tasks that run on B or wait in B's own queue, or 1 if B has none. Returns 1 if no task could be
    /// taken over, or if every quotient is below 1. If the waiting tasks of a CPU are unknown, returns [`Self::imbalance_ratio`].
    pub fn movable_imbalance(&self) -> f64 {
        if self.cpus.iter().any(|c| c.waiting.is_none()) {
            return self.imbalance_ratio();
        }
        let mut worst: f64 = 1.0;
        for (i, long) in self.cpus.iter().enumerate() {
            for (j, short) in self.cpus.iter().enumerate() {
                let movable = long.movable_to(j);
                if i != j && movable > 0 {
                    let here = usize::from(!long.is_idle()) + movable;
                    worst = worst.max(here as f64 / short.bound().max(1) as f64);
                }
            }
        }
        worst
    }

    /// Returns all waiting tasks.
    pub fn waiting(&self) -> impl Iterator<Item = &WaitingTask> {
        self.cpus.iter().flat_map(|c| c.waiting.iter().flatten())
    }

    /// Returns the waiting tasks that a scheduler could have moved to another CPU: all but those that the kernel keeps on a CPU
    /// behind a task of a higher class.
    pub fn movable(&self) -> impl Iterator<Item = &WaitingTask> {
        self.waiting().filter(|t| !t.behind_higher_class)
    }

    /// Returns the waiting tasks that a scheduler could have run on `cpu`.
    pub fn waiting_for(&self, cpu: usize) -> impl Iterator<Item = &WaitingTask> {
        self.movable().filter(move |t| t.may_run_on(cpu))
    }

    /// Whether `task` already waited in the sample `before`, and has got no CPU time since.
    pub(super) fn still_waits(before: &MonitorSample, task: &WaitingTask) -> bool {
        let mut then = before.waiting();
        then.any(|t| t.pid == task.pid && t.ran_ns == task.ran_ns)
    }
}
