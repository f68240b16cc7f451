//! What a sample says of who waits where, and who could be served elsewhere.
//!
//! Lengths of runqueues alone accuse the wrong one: eight workers that a cpuset confines to one CPU
//! are no scheduler's imbalance, and with a queue that CPUs share a waiting task counts where it ran
//! last, which means nothing. So these look at the tasks that wait, and at where they may run.

use super::{CpuSnapshot, MonitorSample, WaitingTask, WaitsIn};

/// Tasks listed of a runqueue, at most: a list of this length may go on.
const LISTED: usize = 64;

impl CpuSnapshot {
    /// Whether the CPU has nothing to run at this moment.
    pub fn is_idle(&self) -> bool {
        self.idle.unwrap_or(self.nr_running == 0)
    }

    /// Tasks of the local DSQ that another CPU could take over; its depth where they are not listed.
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

    /// Waiting tasks that are bound to this CPU's queue and that `other` could take over.
    fn movable_to(&self, other: usize) -> usize {
        let bound = |t: &&WaitingTask| matches!(t.queue, WaitsIn::Local | WaitsIn::Fair);
        let waiting = self.waiting.iter().flatten();
        let movable = waiting.filter(bound).filter(|t| t.may_run_on(other));
        movable.count()
    }

    /// The task that runs, and those that wait in a queue of this CPU alone.
    fn bound(&self) -> usize {
        let bound = |t: &&WaitingTask| matches!(t.queue, WaitsIn::Local | WaitsIn::Fair);
        usize::from(!self.is_idle()) + self.waiting.iter().flatten().filter(bound).count()
    }
}

impl MonitorSample {
    /// How much work lies at one CPU that another, which has less, may take over: what runs and could
    /// come along, over what is at the other (at least 1), of the worst pair of CPUs. The ratio of
    /// lengths where it is not known who waits.
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

    /// Every task that waits.
    pub fn waiting(&self) -> impl Iterator<Item = &WaitingTask> {
        self.cpus.iter().flat_map(|c| c.waiting.iter().flatten())
    }

    /// The tasks that wait and may run on `cpu`.
    pub fn waiting_for(&self, cpu: usize) -> impl Iterator<Item = &WaitingTask> {
        self.waiting().filter(move |t| t.may_run_on(cpu))
    }

    /// Whether it is the same wait as in `before`: the task waited then, and got no CPU since.
    pub(super) fn still_waits(before: &MonitorSample, task: &WaitingTask) -> bool {
        let mut then = before.waiting();
        then.any(|t| t.pid == task.pid && t.ran_ns == task.ran_ns)
    }
}
