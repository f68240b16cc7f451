//! What a sample shows about the tasks that wait, and which other CPUs could run them.
//!
//! The lengths of runqueues alone would blame the wrong party: eight workers that a cpuset confines to one CPU are not
//! the scheduler's imbalance, and with a queue that CPUs share, a waiting task is counted where it ran last, which
//! means nothing. These functions therefore look at the waiting tasks and at the CPUs on which they may run.

use super::{CpuSnapshot, MonitorSample, WaitingTask, WaitsIn};

/// The largest number of tasks that are listed of a runqueue. A list of this length may be incomplete.
const LISTED: usize = 64;

impl CpuSnapshot {
    /// Whether the CPU has nothing to run at this moment.
    pub fn is_idle(&self) -> bool {
        self.idle.unwrap_or(self.nr_running == 0)
    }

    /// Returns the number of tasks in the local DSQ that another CPU could take over, or the DSQ's depth if they are
    /// not listed.
    pub fn movable_dsq_depth(&self, cpu: usize, cpus: usize) -> u32 {
        match &self.waiting {
            Some(waiting) if waiting.len() < LISTED => {
                let movable = |t: &&WaitingTask| {
                    t.queue == WaitsIn::Local
                        && (0..cpus).any(|other| other != cpu && t.may_run_on(other))
                };
                waiting.iter().filter(movable).count() as u32
            }
            _ => self.local_dsq_depth,
        }
    }

    /// Returns the number of waiting tasks that are in this CPU's own queue and that `other` could take over.
    fn movable_to(&self, other: usize) -> usize {
        let bound = |t: &&WaitingTask| matches!(t.queue, WaitsIn::Local | WaitsIn::Fair);
        let waiting = self.waiting.iter().flatten();
        let movable = waiting.filter(bound).filter(|t| t.may_run_on(other));
        movable.count()
    }

    /// Returns the number of tasks that are running or waiting in a queue of this CPU only.
    fn bound(&self) -> usize {
        let bound = |t: &&WaitingTask| matches!(t.queue, WaitsIn::Local | WaitsIn::Fair);
        usize::from(!self.is_idle()) + self.waiting.iter().flatten().filter(bound).count()
    }
}

impl MonitorSample {
    /// Returns how much work a CPU has that another one, with less work, could take over, for the worst pair of CPUs:
    /// the running task and the movable tasks of the first, divided by the tasks of the other (at least 1). If the
    /// waiting tasks are not known, returns the ratio of the lengths.
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

    /// Returns the waiting tasks that may run on `cpu`.
    pub fn waiting_for(&self, cpu: usize) -> impl Iterator<Item = &WaitingTask> {
        self.waiting().filter(move |t| t.may_run_on(cpu))
    }

    /// Whether this is the same wait as in `before`: the task waited at that time, and has got no CPU since.
    pub(super) fn still_waits(before: &MonitorSample, task: &WaitingTask) -> bool {
        let mut then = before.waiting();
        then.any(|t| t.pid == task.pid && t.ran_ns == task.ran_ns)
    }
}
