//! A group of equal workers within a cgroup.

use serde::{Deserialize, Serialize};

use super::affinity::AffinityIntent;
use super::mem_policy::{MemPolicy, MemPolicyError, MpolFlags};
use super::sched::{SchedPolicy, SchedPolicyError};
use super::work_type::{WorkType, WorkTypeValidationError};

/// The largest length of a thread's name in bytes, without the final NUL (`TASK_COMM_LEN` - 1).
pub(crate) const MAX_COMM: usize = 15;

/// A group of equal workers. A field that is `None` stands for the default of the cgroup if the cgroup has one. Otherwise it
/// stands for the default that the field names, or for what the workers inherit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkSpec {
    /// The work type of the workers; the default is [`WorkType::SpinWait`].
    pub work_type: WorkType,
    /// The scheduling policy of the workers; the default is [`SchedPolicy::Normal`].
    pub sched_policy: SchedPolicy,
    /// The number of workers. It must be `None` if `workers_pct` is set; without either, the default of the context applies.
    pub num_workers: Option<usize>,
    /// The affinity of the workers; by default they may use all CPUs of their cgroup.
    pub affinity: AffinityIntent,
    /// The NUMA memory policy of the workers. By default they inherit it, or are bound to `numa_node` if that is set.
    pub mem_policy: MemPolicy,
    /// The mode flags of `mem_policy`; none by default.
    pub mpol_flags: MpolFlags,
    /// The nice value, from -20 to 19.
    pub nice: Option<i32>,
    /// The thread name of the workers, 1 to 15 bytes; by default the name of the work type, cut to 15 bytes.
    pub comm: Option<String>,
    /// If set, the workers are threads of one process of this name, 1 to 15 bytes, which they share with adjacent groups that
    /// have the same name. Work types that change their whole process cannot be threads.
    pub pcomm: Option<String>,
    /// The user that the workers run as.
    pub uid: Option<u32>,
    /// The group that the workers run as.
    pub gid: Option<u32>,
    /// The NUMA node whose CPUs and memory the workers use.
    pub numa_node: Option<usize>,
    /// The number of workers as a fraction of the cpuset's CPUs, rounded up; 1.0 is one worker per CPU. It must be `None` if
    /// `num_workers` is set.
    pub workers_pct: Option<f64>,
}

/// Why a group of workers cannot be started.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkSpecError {
    /// Both `num_workers` and `workers_pct` are set.
    #[error("workers({workers}) and workers_pct({pct}) exclude each other")]
    TwoCounts {
        /// The value of `num_workers`.
        workers: usize,
        /// The value of `workers_pct`.
        pct: f64,
    },
    /// The group has no worker.
    #[error("workers(0): a group needs at least one worker")]
    NoWorkers,
    /// A fraction that is not a positive finite number.
    #[error("workers_pct({0}) must be finite and more than 0")]
    BadFraction(f64),
    /// A fraction that makes more workers than a group can have.
    #[error("workers_pct({pct}) of {cpus} CPUs is more than {max} workers")]
    TooMany {
        /// The fraction that was given.
        pct: f64,
        /// The number of CPUs of the cpuset.
        cpus: usize,
        /// The largest number of workers of one group.
        max: usize,
    },
    /// `park_after_iterations` is 0, but a worker does at least one iteration.
    #[error(
        "park_after_iterations(0): a worker does at least one iteration; leave it out for no limit"
    )]
    ParkAfterNone,
    /// A nice value outside -20..=19.
    #[error("nice {0} is not in -20..=19")]
    Nice(i32),
    /// A thread or process name that is empty, has more than 15 bytes, or contains a NUL.
    #[error("name {name:?} must be 1 to 15 bytes without NUL")]
    Comm {
        /// The name that was given.
        name: String,
    },
    /// The workers are threads of one process, but what they do changes the whole process.
    #[error(
        "work type {work_type} cannot be done by threads of one process: {why}. Leave out the name of the process (`pcomm`), \
         and declare CloneMode::Fork"
    )]
    ChangesProcess {
        /// Name of the work type.
        work_type: &'static str,
        /// What a thread would change for the other threads.
        why: &'static str,
    },
    /// An invalid parameter of the work type, or a number of workers that does not fit its groups.
    #[error(transparent)]
    WorkType(#[from] WorkTypeValidationError),
    /// An invalid parameter of the scheduling policy.
    #[error(transparent)]
    SchedPolicy(#[from] SchedPolicyError),
    /// An invalid memory policy or invalid flags of it.
    #[error(transparent)]
    MemPolicy(#[from] MemPolicyError),
}

/// The largest number of workers that `workers_pct` can result in, so that a mistyped fraction does not fill the
/// guest with processes.
const MAX_WORKERS: usize = 65_536;

impl WorkSpec {
    /// Creates a group of workers with this work type.
    pub fn new(work_type: WorkType) -> Self {
        Self {
            work_type,
            ..Self::default()
        }
    }

    /// Sets the work type of the workers.
    pub fn work_type(mut self, work_type: WorkType) -> Self {
        self.work_type = work_type;
        self
    }

    /// Sets the scheduling policy of the workers.
    pub fn sched_policy(mut self, policy: SchedPolicy) -> Self {
        self.sched_policy = policy;
        self
    }

    /// Sets the number of workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.num_workers = Some(workers);
        self
    }

    /// Sets the number of workers as a fraction of the cpuset's CPUs, rounded up.
    pub fn workers_pct(mut self, fraction: f64) -> Self {
        self.workers_pct = Some(fraction);
        self
    }

    /// Sets the affinity of the workers, which is resolved within the CPUs of their cgroup.
    pub fn affinity(mut self, affinity: AffinityIntent) -> Self {
        self.affinity = affinity;
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

    /// Makes the workers threads of one process of this name, 1 to 15 bytes without NUL.
    pub fn pcomm(mut self, comm: impl Into<String>) -> Self {
        self.pcomm = Some(comm.into());
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

    /// Returns the number of workers on a cpuset of `cpus` CPUs. A group that declares no number has `default_workers`. The
    /// declared or default number of a benchmark must be 1, because the benchmark's parameters determine the number of workers
    /// that is returned.
    ///
    /// # Errors
    /// [`WorkSpecError`] if the number is 0 or too large, is declared twice, or does not fit the work type.
    pub fn worker_count(
        &self,
        cpus: usize,
        default_workers: usize,
    ) -> Result<usize, WorkSpecError> {
        let count = match (self.num_workers, self.workers_pct) {
            (Some(workers), Some(pct)) => return Err(WorkSpecError::TwoCounts { workers, pct }),
            (Some(workers), None) => workers,
            (None, None) => default_workers,
            (None, Some(pct)) => {
                if !pct.is_finite() || pct <= 0.0 {
                    return Err(WorkSpecError::BadFraction(pct));
                }
                let workers = (cpus as f64 * pct).ceil();
                if workers > MAX_WORKERS as f64 {
                    return Err(WorkSpecError::TooMany {
                        pct,
                        cpus,
                        max: MAX_WORKERS,
                    });
                }
                workers as usize
            }
        };
        if count == 0 {
            return Err(WorkSpecError::NoWorkers);
        }
        self.work_type.validate_workers(count)?;
        match self.work_type.tasks(cpus) {
            None => Ok(count),
            Some(tasks) if count == 1 => Ok(tasks),
            Some(_) => Err(WorkSpecError::WorkType(WorkTypeValidationError::NotOne {
                work_type: self.work_type.name(),
                workers: count,
            })),
        }
    }

    /// Checks each field regardless of the machine. Whether the number of workers fits the work type is
    /// checked by [`Self::worker_count`].
    ///
    /// # Errors
    /// [`WorkSpecError`] names the first error.
    pub fn validate(&self) -> Result<(), WorkSpecError> {
        match (self.num_workers, self.workers_pct) {
            (Some(workers), Some(pct)) => return Err(WorkSpecError::TwoCounts { workers, pct }),
            (Some(0), None) => return Err(WorkSpecError::NoWorkers),
            (None, Some(pct)) if !pct.is_finite() || pct <= 0.0 => {
                return Err(WorkSpecError::BadFraction(pct));
            }
            _ => {}
        }
        if let Some(nice) = self.nice
            && !(-20..=19).contains(&nice)
        {
            return Err(WorkSpecError::Nice(nice));
        }
        for name in [&self.comm, &self.pcomm].into_iter().flatten() {
            if name.is_empty() || name.len() > MAX_COMM || name.contains('\0') {
                return Err(WorkSpecError::Comm { name: name.clone() });
            }
        }
        self.work_type.validate()?;
        if self.pcomm.is_some() {
            self.validate_as_threads()?;
        }
        self.sched_policy.validate()?;
        self.mem_policy.validate(self.mpol_flags)?;
        Ok(())
    }

    /// Checks that the workers can be threads of one process.
    ///
    /// # Errors
    /// [`WorkSpecError::ChangesProcess`] if a worker changes something that its process has only once.
    pub(super) fn validate_as_threads(&self) -> Result<(), WorkSpecError> {
        match self.work_type.changes_process() {
            None => Ok(()),
            Some(why) => Err(WorkSpecError::ChangesProcess {
                work_type: self.work_type.name(),
                why,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{CloneMode, ReapMode, SchbenchConfig, WorkloadConfig};

    #[test]
    fn counts() {
        let count = |spec: WorkSpec| spec.worker_count(3, 5);
        let bench = WorkSpec::new(WorkType::schbench(SchbenchConfig::DEFAULT));
        assert_eq!(count(bench.clone().workers(1)), Ok(4));
        let two = count(bench.workers(2)).expect_err("a benchmark is declared once");
        assert!(two.to_string().contains("declare workers(1)"), "{two}");
        assert_eq!(count(WorkSpec::default()), Ok(5));
        assert_eq!(count(WorkSpec::default().workers(2)), Ok(2));
        assert_eq!(count(WorkSpec::default().workers_pct(0.5)), Ok(2));
        assert_eq!(count(WorkSpec::default().workers_pct(2.0)), Ok(6));
        assert_eq!(
            count(WorkSpec::default().workers(0)),
            Err(WorkSpecError::NoWorkers)
        );
        assert!(count(WorkSpec::default().workers(1).workers_pct(1.0)).is_err());
        assert!(count(WorkSpec::default().workers_pct(f64::NAN)).is_err());
        assert!(count(WorkSpec::default().workers_pct(1e300)).is_err());
        assert!(
            count(WorkSpec::new(WorkType::pipe_io(1))).is_err(),
            "5 workers make no pairs"
        );
    }

    #[test]
    fn names_and_nice() {
        let ok = |spec: WorkSpec| spec.validate().is_ok();
        assert!(ok(WorkSpec::default().comm("x".repeat(15)).nice(-20)));
        assert!(!ok(WorkSpec::default().comm("x".repeat(16))));
        assert!(!ok(WorkSpec::default().pcomm("")));
        assert!(!ok(WorkSpec::default().nice(20)));
    }

    #[test]
    fn a_thread_does_not_change_its_process() {
        let churn = WorkType::cgroup_churn(2, 100);
        let storm = |reap| WorkType::cgroup_attach_storm("dest", reap);
        let text = |work: WorkType| {
            let work = WorkSpec::new(work).pcomm("one");
            work.validate().map_err(|error| error.to_string())
        };
        insta::assert_snapshot!(
            text(churn.clone()).expect_err("a move moves all threads"),
            @"work type CgroupChurn cannot be done by threads of one process: a write to cgroup.procs moves all threads of a process. Leave out the name of the process (`pcomm`), and declare CloneMode::Fork"
        );
        insta::assert_snapshot!(
            text(storm(ReapMode::SigIgn)).expect_err("threads share signal actions"),
            @"work type CgroupAttachStorm cannot be done by threads of one process: ReapMode::SigIgn ignores SIGCHLD, which changes how the children of all threads of a process are reaped. Leave out the name of the process (`pcomm`), and declare CloneMode::Fork"
        );
        assert_eq!(text(storm(ReapMode::Waitpid)), Ok(()));
        assert_eq!(text(WorkType::SpinWait), Ok(()));
        assert_eq!(WorkSpec::new(churn.clone()).validate(), Ok(()));
        let first = WorkloadConfig::default().work_type(churn.clone());
        let second = WorkloadConfig::default().push_composed(WorkSpec::new(churn));
        for config in [first, second] {
            assert_eq!(config.validate(), Ok(()));
            let threads = config.clone_mode(CloneMode::Thread).validate();
            assert!(
                matches!(threads, Err(WorkSpecError::ChangesProcess { .. })),
                "{threads:?}"
            );
        }
    }
}
