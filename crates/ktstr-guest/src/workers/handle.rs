//! The handle of running workers: who they are, their start, their end.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ktstr_assert::WorkerReport;
use ktstr_scenario::workload::{CloneMode, SchedPolicy};

use super::collect::Target;
use super::rng::Rng;
use super::shared::{Control, PhasePage, Shared, Telemetry};
use super::{PhaseCell, WorkerError, attrs, collect, leftover, pages, report, sys};
use crate::protocol::ToHost;

/// Stream of a seed that the order of start is drawn from.
const START_ORDER: u64 = 1 << 33;

/// A forked process: one worker, or the leader of several that are its threads.
pub(super) struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub threads: bool,
}

pub(super) struct Worker {
    /// The thread id, which is the process id of a worker that is a process.
    pub tid: i32,
    /// The index of its process in `processes`.
    pub process: usize,
    pub tele: Shared<Telemetry>,
    /// Where a custom function leaves its report.
    pub custom: Option<OwnedFd>,
    /// Whether it makes cgroups below its own.
    pub makes_cgroups: bool,
    pub group_idx: usize,
    pub affinity: Option<BTreeSet<usize>>,
    pub policy: attrs::Policy,
    pub affinity_error: Option<String>,
    pub policy_error: Option<String>,
    /// What the worker is entitled to beside its peers; see [`WorkerReport::entitlement`].
    pub entitlement: u64,
}

/// Folds something that changes what a worker is entitled to into its mark.
pub(super) fn folded(mark: u64, what: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    // Made without keys: the same in every run.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(mark);
    what.hash(&mut hasher);
    hasher.finish()
}

/// Running (or still waiting) workers. Dropping it kills them.
pub struct WorkloadHandle {
    pub(super) workers: Vec<Worker>,
    pub(super) processes: Vec<Process>,
    pub(super) control: Shared<Control>,
    clone_mode: CloneMode,
    tells_first: bool,
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
    /// A handle without workers yet.
    pub(super) fn empty(
        room: usize,
        phase: &PhaseCell,
        clone_mode: CloneMode,
        tells_first: bool,
    ) -> Result<Self, WorkerError> {
        Ok(Self {
            workers: Vec::with_capacity(room),
            processes: Vec::new(),
            control: Shared::new()?,
            clone_mode,
            tells_first,
            started: false,
            wake_order: vec![u32::MAX],
            pages: None,
            _phase: phase.clone(),
        })
    }

    pub(super) fn phase_page(&self) -> &PhasePage {
        &self._phase.0
    }

    /// Thread ids, in order of start: process ids of workers that are processes.
    pub fn worker_pids(&self) -> Vec<i32> {
        self.workers.iter().map(|w| w.tid).collect()
    }

    /// What to write to `cgroup.procs`: the workers, or the leader whose threads they are.
    ///
    /// # Errors
    /// With [`CloneMode::Thread`]: threads are moved by `cgroup.threads`, in a threaded cgroup, or
    /// all together by [`Self::spawn_pcomm_cgroup`].
    pub fn worker_pids_for_cgroup_procs(&self) -> Result<Vec<i32>, WorkerError> {
        if self.clone_mode == CloneMode::Thread {
            return Err(WorkerError::Invalid(
                "workers of CloneMode::Thread are threads, which cgroup.procs does not take one by \
                 one: use CloneMode::Fork, or WorkloadHandle::spawn_pcomm_cgroup to move all of \
                 them together"
                    .to_owned(),
            ));
        }
        Ok(self.process_ids())
    }

    /// The processes that the workers are or belong to.
    pub(crate) fn process_ids(&self) -> Vec<i32> {
        self.processes.iter().map(|p| p.pid).collect()
    }

    /// Waits until each worker has done its first iteration; at most so long.
    ///
    /// # Errors
    /// The configuration does not say `signal_first_iteration`; or the time is over, with how many
    /// were done.
    pub fn wait_first_iterations(&self, limit: Duration) -> Result<(), WorkerError> {
        if !self.tells_first {
            return Err(WorkerError::Invalid(
                "nobody tells when its first iteration is done: set signal_first_iteration in the \
                 WorkloadConfig"
                    .to_owned(),
            ));
        }
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let end = sys::now_ns().saturating_add(limit);
        let word = &self.control.first_iterations;
        loop {
            let done = word.load(Acquire);
            if done as usize >= self.workers.len() {
                return Ok(());
            }
            let left = end.saturating_sub(sys::now_ns());
            if left == 0 {
                return Err(WorkerError::Invalid(format!(
                    "{done} of {} workers did their first iteration in time",
                    self.workers.len()
                )));
            }
            sys::futex_wait_for(word, done, left);
        }
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
                worker.affinity_error = attrs::apply_affinity(worker.tid, cpus).err();
            }
            worker.policy_error = attrs::apply_policy(worker.tid, &worker.policy).err();
            for (to, from) in worker.tele.allowed.iter().zip(sys::affinity(worker.tid)) {
                to.store(from, Relaxed);
            }
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
        attrs::apply_affinity(worker.tid, cpus).map_err(WorkerError::Invalid)
    }

    /// Sets the scheduling policy of one worker; its nice value stays.
    ///
    /// # Errors
    /// No such worker, or the kernel's refusal with policy and pid.
    pub fn set_policy(&mut self, idx: usize, policy: SchedPolicy) -> Result<(), WorkerError> {
        let count = self.workers.len();
        let worker = self.workers.get_mut(idx).ok_or_else(|| {
            WorkerError::Invalid(format!("set_policy: no worker {idx}, there are {count}"))
        })?;
        worker.entitlement = folded(worker.entitlement, &policy);
        worker.policy.policy = policy;
        attrs::change_policy(worker.tid, &worker.policy).map_err(WorkerError::Invalid)
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

    /// Stops all workers and waits for them, [`super::COLLECT_DEADLINE`] at most; who is late is
    /// killed. One report each, in order of start.
    pub fn stop_and_collect(mut self) -> Vec<WorkerReport> {
        let made = self.made_cgroups();
        let workers = std::mem::take(&mut self.workers);
        let processes = std::mem::take(&mut self.processes);
        let seen: Vec<_> = match self.pages {
            Some(_) => workers.iter().map(|w| pages::of(w.tid)).collect(),
            None => Vec::new(),
        };
        let mut targets = Vec::new();
        for (at, process) in processes.iter().enumerate() {
            let own = |w: &&Worker| process.threads && w.process == at;
            targets.push(Target {
                pid: process.pid,
                pidfd: &process.pidfd,
                threads: workers.iter().filter(own).map(|w| w.tid).collect(),
            });
        }
        let ends = collect::stop_and_reap(&targets);
        let numbers: Vec<_> = workers.iter().filter_map(report::numbers).collect();
        if !numbers.is_empty() {
            crate::link::send(&ToHost::Workers(numbers));
        }
        let released_ns = self.control.released_at_ns.load(Relaxed);
        let lost = collect::End::WaitFailed("its process is not known".to_owned());
        let mut reports: Vec<WorkerReport> = workers
            .iter()
            .map(|worker| {
                let end = ends.get(worker.process).unwrap_or(&lost);
                report::report(worker, end.clone(), released_ns)
            })
            .collect();
        if let Some(before) = self.pages {
            let moved = pages::moved()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(before));
            pages::put(&mut reports, seen, moved.unwrap_or_default());
        }
        made.iter().for_each(|above| leftover::remove(above));
        reports
    }

    /// The cgroups in which workers have made others.
    fn made_cgroups(&self) -> BTreeSet<PathBuf> {
        let makers = self.workers.iter().filter(|w| w.makes_cgroups);
        makers.filter_map(|w| leftover::above(w.tid)).collect()
    }
}

impl Drop for WorkloadHandle {
    fn drop(&mut self) {
        let made = self.made_cgroups();
        for process in &self.processes {
            collect::kill_and_reap(process.pid);
        }
        made.iter().for_each(|above| leftover::remove(above));
    }
}
