//! Workers that a test function spawns itself, outside of the steps of a scenario.

use serde::{Deserialize, Serialize};

use super::affinity::AffinityIntent;
use super::mem_policy::{MemPolicy, MpolFlags};
use super::sched::{CloneMode, SchedPolicy};
use super::spec::{WorkSpec, WorkSpecError};
use super::work_type::WorkType;

/// A set of workers that a test spawns itself, with optional further groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadConfig {
    /// The number of workers.
    pub num_workers: usize,
    /// The affinity of the workers. Without a `numa_node`, only [`AffinityIntent::Inherit`], [`AffinityIntent::Exact`] and
    /// [`AffinityIntent::RandomSubset`] are allowed, since the others depend on a cgroup or on the topology.
    pub affinity: AffinityIntent,
    /// The work type of the workers; the default is [`WorkType::SpinWait`].
    pub work_type: WorkType,
    /// The number of iterations, at least 1, after which a worker parks: it does no more work, and waits to be stopped. With
    /// `None` a worker never parks. A worker that needs an answer from a parked worker waits, too.
    pub park_after_iterations: Option<u64>,
    /// Whether each worker signals the end of its first iteration; see `WorkloadHandle::wait_first_iterations`.
    pub signal_first_iteration: bool,
    /// The scheduling policy of the workers; the default is [`SchedPolicy::Normal`].
    pub sched_policy: SchedPolicy,
    /// The NUMA memory policy of the workers. By default they inherit it, or are bound to `numa_node` if that is set.
    pub mem_policy: MemPolicy,
    /// The mode flags of `mem_policy`; none by default.
    pub mpol_flags: MpolFlags,
    /// The nice value, from -20 to 19.
    pub nice: Option<i32>,
    /// Whether the workers are processes or threads.
    pub clone_mode: CloneMode,
    /// The thread name of the workers, 1 to 15 bytes; by default the name of the work type, cut to 15 bytes.
    pub comm: Option<String>,
    /// The user that the workers run as.
    pub uid: Option<u32>,
    /// The group that the workers run as.
    pub gid: Option<u32>,
    /// The NUMA node whose CPUs and memory the workers use.
    pub numa_node: Option<usize>,
    /// Further groups, spawned together with these workers.
    pub composed: Vec<WorkSpec>,
}

impl Default for WorkloadConfig {
    fn default() -> Self {
        Self {
            num_workers: 1,
            affinity: AffinityIntent::default(),
            work_type: WorkType::default(),
            park_after_iterations: None,
            signal_first_iteration: false,
            sched_policy: SchedPolicy::default(),
            mem_policy: MemPolicy::default(),
            mpol_flags: MpolFlags::NONE,
            nice: None,
            clone_mode: CloneMode::default(),
            comm: None,
            uid: None,
            gid: None,
            numa_node: None,
            composed: Vec::new(),
        }
    }
}

impl WorkloadConfig {
    /// Sets the number of workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.num_workers = workers;
        self
    }

    /// Sets the work type of the workers.
    pub fn work_type(mut self, work_type: WorkType) -> Self {
        self.work_type = work_type;
        self
    }

    /// Sets the affinity of the workers. The field `affinity` lists the intents that are allowed.
    pub fn affinity(mut self, affinity: AffinityIntent) -> Self {
        self.affinity = affinity;
        self
    }

    /// Sets whether the workers are processes or threads.
    pub fn clone_mode(mut self, mode: CloneMode) -> Self {
        self.clone_mode = mode;
        self
    }

    /// Makes each worker wait to be stopped after this number of iterations.
    pub fn park_after_iterations(mut self, iterations: u64) -> Self {
        self.park_after_iterations = Some(iterations);
        self
    }

    /// Sets whether each worker signals the end of its first iteration.
    pub fn signal_first_iteration(mut self, signals: bool) -> Self {
        self.signal_first_iteration = signals;
        self
    }

    /// Sets the scheduling policy of the workers.
    pub fn sched_policy(mut self, policy: SchedPolicy) -> Self {
        self.sched_policy = policy;
        self
    }

    /// Sets the memory policy of the workers.
    pub fn mem_policy(mut self, policy: MemPolicy) -> Self {
        self.mem_policy = policy;
        self
    }

    /// Sets the mode flags of the memory policy.
    pub fn mpol_flags(mut self, flags: MpolFlags) -> Self {
        self.mpol_flags = flags;
        self
    }

    /// Sets the nice value of the workers.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// Sets the thread name of the workers, 1 to 15 bytes without NUL.
    pub fn comm(mut self, comm: impl Into<String>) -> Self {
        self.comm = Some(comm.into());
        self
    }

    /// Sets the user id of the workers.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Sets the group id of the workers.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// Sets the NUMA node whose CPUs and memory the workers use.
    pub fn numa_node(mut self, node: usize) -> Self {
        self.numa_node = Some(node);
        self
    }

    /// Adds a further group, which is spawned together with these workers.
    pub fn push_composed(mut self, spec: WorkSpec) -> Self {
        self.composed.push(spec);
        self
    }

    /// Returns the workers of this configuration as a group, without the composed groups.
    pub fn primary(&self) -> WorkSpec {
        WorkSpec {
            work_type: self.work_type.clone(),
            sched_policy: self.sched_policy,
            num_workers: Some(self.num_workers),
            affinity: self.affinity.clone(),
            mem_policy: self.mem_policy.clone(),
            mpol_flags: self.mpol_flags,
            nice: self.nice,
            comm: self.comm.clone(),
            pcomm: None,
            uid: self.uid,
            gid: self.gid,
            numa_node: self.numa_node,
            workers_pct: None,
        }
    }

    /// Checks the workers of this configuration and all composed groups.
    ///
    /// # Errors
    /// The [`WorkSpecError`] of the first invalid group.
    pub fn validate(&self) -> Result<(), WorkSpecError> {
        let primary = self.primary();
        primary.validate()?;
        if self.park_after_iterations == Some(0) {
            return Err(WorkSpecError::ParkAfterNone);
        }
        primary.worker_count(1, 1)?;
        if self.clone_mode == CloneMode::Thread {
            let mut all = std::iter::once(&primary).chain(&self.composed);
            all.try_for_each(WorkSpec::validate_as_threads)?;
        }
        self.composed.iter().try_for_each(WorkSpec::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_groups_are_checked() {
        assert_eq!(WorkloadConfig::default().validate(), Ok(()));
        let pair = WorkloadConfig {
            work_type: WorkType::pipe_io(1),
            ..Default::default()
        };
        assert!(pair.validate().is_err(), "a pair needs two");
        assert_eq!(pair.workers(2).validate(), Ok(()));
        let composed = WorkloadConfig::default().push_composed(WorkSpec::default().nice(20));
        assert!(composed.validate().is_err());
        let parked = WorkloadConfig::default().park_after_iterations(0);
        assert!(parked.validate().is_err());
    }
}
