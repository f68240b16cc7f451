//! Workers: processes that do one kind of work until told to stop, and count what they got.
//!
//! Each worker is a forked process with a group of its own. It waits at a gate until the caller
//! has put it where it belongs, writes its numbers into memory it shares with the parent, and
//! stops on SIGUSR1. Not for: cgroups (the engine moves the pids) or judging the numbers.

mod attrs;
mod child;
mod collect;
mod ctx;
mod error;
mod kinds;
mod pages;
mod pure;
mod report;
pub mod rng;
mod shared;
mod sys;

pub(crate) use pure::spin;

/// Guest time, for the engine.
pub(crate) mod clock {
    pub(crate) use super::sys::{now_ns, sleep_until};
}
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use ktstr_assert::WorkerReport;
use ktstr_scenario::workload::{
    AffinityIntent, CloneMode, MemPolicy, MpolFlags, ResolvedAffinity, WorkSpec, WorkType,
};

pub use collect::COLLECT_DEADLINE;
pub use error::WorkerError;
pub use ktstr_scenario::workload::WorkloadConfig;

use child::ChildPlan;
use ctx::Tie;
use kinds::Ring;
use rng::Rng;
use shared::{Control, MAX_WORDS, PhasePage, Shared, Telemetry};

/// Stream of a seed that the order of start is drawn from.
const START_ORDER: u64 = 1 << 33;

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

struct Worker {
    pid: i32,
    pidfd: OwnedFd,
    tele: Shared<Telemetry>,
    group_idx: usize,
    affinity: Option<BTreeSet<usize>>,
    policy: attrs::Policy,
    affinity_error: Option<String>,
    policy_error: Option<String>,
    /// See [`WorkerReport::entitlement`].
    entitlement: u64,
}

/// Folds something that changes what a worker is entitled to into its mark.
fn folded(mark: u64, what: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    // Made without keys: the same in every run.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(mark);
    what.hash(&mut hasher);
    hasher.finish()
}

/// Running (or still waiting) workers. Dropping it kills them.
pub struct WorkloadHandle {
    workers: Vec<Worker>,
    control: Shared<Control>,
    started: bool,
    /// Who is woken when the workers are let go: bits of the gate, one call after the other.
    wake_order: Vec<u32>,
    /// Whether to look where the workers' pages are, and what was counted of pages that moved when
    /// they were let go.
    pages: Option<Option<u64>>,
    // Mapped for as long as workers read it.
    _phase: PhaseCell,
}

impl WorkloadHandle {
    /// Starts the workers of a configuration with seed 0; they wait for [`Self::start`].
    ///
    /// # Errors
    /// What cannot be run yet, a configuration that contradicts itself, a failing fork.
    pub fn spawn(config: &WorkloadConfig) -> Result<Self, WorkerError> {
        Self::spawn_seeded(config, 0)
    }

    /// The same with a seed, from which everything random in the workers follows.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_seeded(config: &WorkloadConfig, seed: u64) -> Result<Self, WorkerError> {
        if config.clone_mode == CloneMode::Thread {
            return Err(WorkerError::Feature("CloneMode::Thread (use Fork)"));
        }
        if config.park_after_iterations.is_some() {
            return Err(WorkerError::Feature("park_after_iterations"));
        }
        if config.signal_first_iteration {
            return Err(WorkerError::Feature("signal_first_iteration"));
        }
        config
            .validate()
            .map_err(|e| WorkerError::Invalid(e.to_string()))?;
        let mut groups = Vec::new();
        for work in std::iter::once(config.primary()).chain(config.composed.iter().cloned()) {
            let affinity = match &work.affinity {
                AffinityIntent::Inherit => ResolvedAffinity::None,
                AffinityIntent::Exact(cpus) => ResolvedAffinity::Fixed(cpus.clone()),
                AffinityIntent::RandomSubset { from, count } => ResolvedAffinity::Random {
                    from: from.clone(),
                    count: *count,
                },
                other => {
                    return Err(WorkerError::Invalid(format!(
                        "affinity {} depends on the topology: declare the workers in a cgroup \
                         of a step, or give the CPUs with AffinityIntent::exact",
                        other.name()
                    )));
                }
            };
            let count = work
                .worker_count(1, 1)
                .map_err(|e| WorkerError::Invalid(e.to_string()))?;
            groups.push(Group {
                work,
                count,
                affinity,
            });
        }
        Self::spawn_groups(&groups, seed, &PhaseCell::new()?)
    }

    /// Starts resolved groups; what the engine uses. `phase` is what slices are stamped with.
    ///
    /// # Errors
    /// As [`Self::spawn`]. Workers already forked are killed.
    pub fn spawn_groups(
        groups: &[Group],
        seed: u64,
        phase: &PhaseCell,
    ) -> Result<Self, WorkerError> {
        let total: usize = groups.iter().map(|g| g.count).sum();
        if total > MAX_WORDS {
            return Err(WorkerError::Invalid(format!(
                "{total} workers in one cgroup: at most {MAX_WORDS} are supported"
            )));
        }
        let mut handle = Self {
            workers: Vec::with_capacity(total),
            control: Shared::new()?,
            started: false,
            wake_order: vec![u32::MAX],
            pages: None,
            _phase: phase.clone(),
        };
        for (group_idx, group) in groups.iter().enumerate() {
            handle.fork_group(group_idx, group, seed)?;
        }
        Ok(handle)
    }

    fn fork_group(
        &mut self,
        group_idx: usize,
        group: &Group,
        seed: u64,
    ) -> Result<(), WorkerError> {
        let work = &group.work;
        if work.pcomm.is_some() {
            return Err(WorkerError::Feature("pcomm (workers as threads)"));
        }
        let has_policy =
            work.mem_policy != MemPolicy::Default || work.mpol_flags != MpolFlags::NONE;
        if work.numa_node.is_some() || has_policy {
            return Err(WorkerError::Feature("a memory policy of workers"));
        }
        let body = kinds::body(&work.work_type)?;
        if body.group == 0 || !group.count.is_multiple_of(body.group) {
            return Err(WorkerError::Invalid(format!(
                "work type {}: {} workers cannot be divided into groups of {}",
                work.work_type.name(),
                group.count,
                body.group
            )));
        }
        for _ in 0..group.count / body.group {
            self.fork_ring(group_idx, group, &body, seed)?;
        }
        Ok(())
    }

    /// Forks the members that are tied to each other.
    fn fork_ring(
        &mut self,
        group_idx: usize,
        group: &Group,
        body: &kinds::Body,
        seed: u64,
    ) -> Result<(), WorkerError> {
        let base = self.workers.len();
        let pipes = match body.ring {
            Ring::Pipe => (0..body.group)
                .map(|_| {
                    rustix::pipe::pipe().map_err(|e| WorkerError::System {
                        action: "make a pipe between workers".to_owned(),
                        source: e.into(),
                    })
                })
                .collect::<Result<Vec<_>, _>>()?,
            _ => Vec::new(),
        };
        let raw = |fd: &OwnedFd| std::os::fd::AsRawFd::as_raw_fd(fd);
        let fds: Vec<i32> = pipes
            .iter()
            .flat_map(|(read, write)| [raw(read), raw(write)])
            .collect();
        for member in 0..body.group {
            let next = (member + 1) % body.group;
            let tie = match (body.ring, pipes.get(member), pipes.get(next)) {
                (Ring::Pipe, Some((own, _)), Some((_, next))) => Tie::Pipe {
                    wait: raw(own),
                    wake: raw(next),
                },
                (Ring::Shared, ..) => Tie::Shared { first: base },
                (Ring::Futex, ..) => Tie::Futex {
                    wait: base + member,
                    wake: base + next,
                },
                _ => Tie::None,
            };
            let tele = Shared::new()?;
            let index = (base + member) as u64;
            let (pid, pidfd) = child::fork(&ChildPlan {
                body: *body,
                tie,
                member,
                gate_bit: 1 << (index % 32),
                rng: Rng::new(seed, index),
                comm: group.work.comm.as_deref().map(attrs::comm_bytes),
                uid: group.work.uid,
                gid: group.work.gid,
                group_fds: &fds,
                tele: &tele,
                control: &self.control,
                phase: &self._phase.0,
            })?;
            let affinity = group
                .affinity
                .cpus(Rng::new(seed, index | 1 << 32).next_u64());
            let policy = format!("{:?}", group.work.sched_policy);
            // Who changes its own affinity or policy is entitled to something else all the time.
            let alone = match group.work.work_type {
                WorkType::AffinityChurn { .. }
                | WorkType::CrossAffinityChurn { .. }
                | WorkType::PolicyChurn { .. } => index + 1,
                _ => 0,
            };
            self.workers.push(Worker {
                pid,
                pidfd,
                tele,
                group_idx,
                entitlement: folded(alone, &(&affinity, group.work.nice.unwrap_or(0), policy)),
                affinity,
                policy: attrs::Policy {
                    nice: group.work.nice,
                    policy: group.work.sched_policy,
                },
                affinity_error: None,
                policy_error: None,
            });
        }
        Ok(())
    }

    /// Process ids, in order of start.
    pub fn worker_pids(&self) -> Vec<i32> {
        self.workers.iter().map(|w| w.pid).collect()
    }

    /// What to write to `cgroup.procs`.
    ///
    /// # Errors
    /// None as long as every worker is a process of its own.
    pub fn worker_pids_for_cgroup_procs(&self) -> Result<Vec<i32>, WorkerError> {
        Ok(self.worker_pids())
    }

    /// How many workers there are.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Sets affinity, nice value and policy of every worker, then releases them all at once.
    /// What could not be set is told in the workers' reports. A second call does nothing.
    pub fn start(&mut self) {
        self.prepare();
        self.release();
    }

    /// Has the workers' pages looked at when they are stopped. That takes a walk through their page
    /// tables, so it is not done unasked. To be called before [`Self::start`].
    pub fn measure_pages(&mut self) {
        self.pages = Some(None);
    }

    /// Has [`Self::start`] wake the workers in an order that the seed says: in 32 groups, one right
    /// after the other.
    pub fn shuffle_start(&mut self, seed: u64) {
        self.wake_order = (0..32).map(|n| 1 << n).collect();
        Rng::new(seed, START_ORDER).shuffle(&mut self.wake_order);
    }

    /// The first half of [`Self::start`]: what is set while the workers wait.
    pub(crate) fn prepare(&mut self) {
        if self.started {
            return;
        }
        for worker in &mut self.workers {
            if let Some(cpus) = &worker.affinity {
                worker.affinity_error = attrs::apply_affinity(worker.pid, cpus).err();
            }
            worker.policy_error = attrs::apply_policy(worker.pid, &worker.policy).err();
        }
    }

    /// The second half: from here on they run.
    pub(crate) fn release(&mut self) {
        if self.started {
            return;
        }
        self.started = true;
        if let Some(moved) = &mut self.pages {
            *moved = pages::moved();
        }
        self.control.released_at_ns.store(sys::now_ns(), Relaxed);
        self.control.gate.store(1, Release);
        for group in &self.wake_order {
            sys::futex_wake_those(&self.control.gate, *group);
        }
    }

    /// Whether the workers were let go.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// Sets the CPUs of one worker.
    ///
    /// # Errors
    /// No such worker, or the kernel's refusal with CPUs and pid.
    pub fn set_affinity(&mut self, idx: usize, cpus: &BTreeSet<usize>) -> Result<(), WorkerError> {
        let count = self.workers.len();
        let worker = self.workers.get_mut(idx).ok_or_else(|| {
            WorkerError::Invalid(format!("set_affinity: no worker {idx}, there are {count}"))
        })?;
        worker.entitlement = folded(worker.entitlement, cpus);
        attrs::apply_affinity(worker.pid, cpus).map_err(WorkerError::Invalid)
    }

    /// Takes note of something that happens to all these workers alone, such as a late start or a
    /// move: they are comparable with each other from then on, and with no others.
    pub(crate) fn set_apart(&mut self, by: u64) {
        for worker in &mut self.workers {
            worker.entitlement = folded(worker.entitlement, &by);
        }
    }

    /// Iterations of each worker so far, as of its last checkpoint.
    pub fn snapshot_iterations(&self) -> Vec<u64> {
        self.workers
            .iter()
            .map(|w| w.tele.live_iterations.load(Relaxed))
            .collect()
    }

    /// Sum of [`Self::snapshot_iterations`].
    pub fn total_iterations(&self) -> u64 {
        self.workers
            .iter()
            .map(|w| w.tele.live_iterations.load(Relaxed))
            .fold(0, u64::saturating_add)
    }

    /// Stops all workers and waits for them, [`COLLECT_DEADLINE`] at most; who is late is
    /// killed. One report each, in order of start.
    pub fn stop_and_collect(mut self) -> Vec<WorkerReport> {
        let workers = std::mem::take(&mut self.workers);
        let seen: Vec<_> = match self.pages {
            Some(_) => workers.iter().map(|w| pages::of(w.pid)).collect(),
            None => Vec::new(),
        };
        let processes: Vec<_> = workers.iter().map(|w| (w.pid, &w.pidfd)).collect();
        let ends = collect::stop_and_reap(&processes);
        let released_ns = self.control.released_at_ns.load(Relaxed);
        let mut reports: Vec<WorkerReport> = workers
            .iter()
            .zip(ends)
            .map(|(worker, end)| report::report(worker, end, released_ns))
            .collect();
        if let Some(before) = self.pages {
            let moved = pages::moved()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(before));
            pages::put(&mut reports, seen, moved.unwrap_or_default());
        }
        reports
    }
}

impl Drop for WorkloadHandle {
    fn drop(&mut self) {
        for worker in &self.workers {
            collect::kill_and_reap(worker.pid);
        }
    }
}
