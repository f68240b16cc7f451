//! Workers: processes, or threads of one, that do one kind of work until told to stop, and count what
//! they got.
//!
//! Each worker is a forked process with a group of its own, unless the test wants threads: then one
//! forked process, the leader, has them all. A worker waits at a gate until the caller has put it
//! where it belongs, writes its numbers into memory it shares with the parent, and stops on SIGUSR1.
//! Not for: cgroups (the engine moves the pids) or judging the numbers.

mod attrs;
mod child;
mod collect;
mod ctx;
mod error;
mod handle;
mod kinds;
mod leader;
mod leftover;
mod mem;
mod pages;
mod pure;
mod report;
pub mod rng;
mod shared;
mod spawn;
mod sys;
mod text;
mod unable;

pub(crate) use pure::spin;

/// Guest time, for the engine.
pub(crate) mod clock {
    pub(crate) use super::sys::{now_ns, sleep_until};
}
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ktstr_scenario::workload::{ResolvedAffinity, WorkSpec};

pub use collect::COLLECT_DEADLINE;
pub use error::WorkerError;
pub use handle::WorkloadHandle;
pub use ktstr_scenario::workload::WorkloadConfig;

use handle::Worker;
use shared::{PhasePage, Shared};

/// The phase ordinal that workers stamp their slices with; shared by all of a scenario.
#[derive(Debug, Clone)]
pub struct PhaseCell(Arc<Shared<PhasePage>>);

impl PhaseCell {
    /// A cell that says BASELINE.
    pub fn new() -> Result<Self, WorkerError> {
        Ok(Self(Arc::new(Shared::new()?)))
    }

    /// Publishes the ordinal (0 BASELINE, then 1, 2, …).
    pub fn set(&self, phase: u16) {
        self.0.phase.store(phase, Relaxed);
    }
}

/// One group of equal workers, with everything resolved that needs a machine.
#[derive(Debug, Clone)]
pub struct Group {
    /// What they do and how.
    pub work: WorkSpec,
    /// How many workers the group has.
    pub count: usize,
    /// Where they may run.
    pub affinity: ResolvedAffinity,
}
