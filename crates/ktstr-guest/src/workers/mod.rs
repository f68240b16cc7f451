//! Workers: processes, or threads of one process, that do one kind of work until they are stopped, and count what they
//! achieved.
//!
//! Each worker is a forked process in its own process group. If the test asks for threads or names the process, workers are
//! threads of a forked process, the leader, instead. Adjacent groups that ask for the same leader share one. A worker waits at a
//! gate, so that the caller can first move it to its cgroup. It writes its counters into memory that it shares with the parent,
//! and stops on SIGUSR1. This module does not manage cgroups (the engine moves the pids), except that it removes those that
//! workers have created. It does not judge the counters.

mod arch;
mod attrs;
mod child;
mod collect;
mod counters;
mod ctx;
mod error;
mod handle;
mod kinds;
mod leader;
mod leftover;
mod mem;
mod objects;
mod pages;
mod report;
pub mod rng;
mod shared;
mod spawn;
mod sys;
mod text;
mod unable;

pub(crate) use arch::spin;
pub(crate) use attrs::lowered_from;
pub(crate) use collect::wait_failed;

/// Access to the guest's clock for the engine.
pub(crate) mod clock {
    pub(crate) use super::sys::{now_ns, sleep_until};
}
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ktstr_scenario::workload::{ResolvedAffinity, WorkSpec};

pub use collect::COLLECT_DEADLINE;
pub use error::WorkerError;
pub use handle::WorkloadHandle;
pub use ktstr_scenario::workload::WorkloadConfig;

use handle::Worker;
use shared::{PhasePage, Shared};

/// The state that all workers of a scenario share: the ordinal of the current phase, with which workers stamp the counters of
/// each phase (their slices), and the objects that workers share by name.
#[derive(Debug, Clone)]
pub struct PhaseCell(Arc<Shared<PhasePage>>);

impl PhaseCell {
    /// Creates the state, with the phase BASELINE. It is an error if the kernel refuses the shared memory.
    pub fn new() -> Result<Self, WorkerError> {
        Ok(Self(Arc::new(Shared::new()?)))
    }

    /// Resets the objects with these keys to their first state. Call this only when no worker that may use them is left.
    pub(crate) fn renew<'a>(&self, objects: impl IntoIterator<Item = &'a u64>) {
        for key in objects {
            objects::renew(&self.0.objects, *key);
        }
    }

    /// Publishes the ordinal of a phase: 0 is BASELINE, the steps are 1, 2, ….
    pub fn set(&self, phase: u16) {
        self.0.phase.store(phase, Relaxed);
    }
}

/// A group of identical workers whose specification has been resolved against the machine.
#[derive(Debug, Clone)]
pub struct Group {
    /// What the workers do, and how.
    pub work: WorkSpec,
    /// How many workers the group has.
    pub count: usize,
    /// The CPUs on which the workers may run.
    pub affinity: ResolvedAffinity,
}
