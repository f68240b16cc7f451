//! The handle of a set of workers: starts them, controls them, and collects their reports.

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

/// The number of the seed's random stream that decides the order in which workers are woken at the release.
const START_ORDER: u64 = 1 << 33;

/// A forked process: a single worker, or the leader of several workers that are its threads.
pub(super) struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Whether this is a leader, whose threads are the workers.
    pub threads: bool,
}

pub(super) struct Worker {
    /// The thread id. For a worker that is a process, this is also the process id.
    pub tid: i32,
    /// The index of its process in `processes`.
    pub process: usize,
    pub tele: Shared<Telemetry>,
    /// The memory file in which a custom function leaves its report.
    pub custom: Option<OwnedFd>,
    /// The keys of the objects (locks, barriers and the like) that the worker shares by name with other workers.
    pub objects: Vec<u64>,
    /// Whether the worker creates cgroups below its own.
    pub makes_cgroups: bool,
    pub group_idx: usize,
    pub affinity: Option<BTreeSet<usize>>,
    pub policy: attrs::Policy,
    pub affinity_error: Option<String>,
    pub policy_error: Option<String>,
    /// The real-time priority that the worker should have had, if it got a lower one.
    pub lowered_from: Option<u32>,
    /// Whether the kernel refused the policy with which the worker was to start.
    pub refused: bool,
    /// The CPU time of the worker when it got its present policy, in nanoseconds; 0 if it still has its first policy.
    pub realtime_from_ns: u64,
    /// The CPU time under earlier real-time policies, in nanoseconds.
    pub realtime_ns: u64,
    /// A mark that is equal for workers with equal entitlement to CPU time; see
    /// [`WorkerReport::entitlement`].
    pub entitlement: u64,
}

impl Worker {
    /// Returns whether the worker's present policy takes precedence over all fair and sched_ext tasks.
    pub fn is_realtime(&self) -> bool {
        !self.refused && self.policy.is_realtime()
    }
}

/// Combines the mark of a worker's entitlement with something that changes the entitlement.
pub(super) fn folded(mark: u64, what: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    // The hasher has no random keys, so the result is the same in every run.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(mark);
    what.hash(&mut hasher);
    hasher.finish()
}

/// A set of workers that run, or wait for their start. Dropping the handle kills them.
pub struct WorkloadHandle {
    pub(super) workers: Vec<Worker>,
    pub(super) processes: Vec<Process>,
    pub(super) control: Shared<Control>,
    clone_mode: CloneMode,
    reports_first: bool,
    started: bool,
    /// The bit masks of gate waiters to wake when the workers are released, in order.
    wake_order: Vec<u32>,
    /// `Some` if the NUMA nodes of the workers' pages are measured: what was measured at the release.
    pages: Option<pages::AtRelease>,
    // Keeps the phase page mapped for as long as the workers read the phase from it.
    _phase: PhaseCell,
}

impl WorkloadHandle {
    /// Creates a handle without workers.
    pub(super) fn empty(
        room: usize,
        phase: &PhaseCell,
        clone_mode: CloneMode,
        reports_first: bool,
    ) -> Result<Self, WorkerError> {
        Ok(Self {
            workers: Vec::with_capacity(room),
            processes: Vec::new(),
            control: Shared::new()?,
            clone_mode,
            reports_first,
            started: false,
            wake_order: vec![u32::MAX],
            pages: None,
            _phase: phase.clone(),
        })
    }

    pub(super) fn phase_page(&self) -> &PhasePage {
        &self._phase.0
    }

    /// Returns the workers' thread ids in the order of creation. For workers that are processes,
    /// these are process ids.
    pub fn worker_pids(&self) -> Vec<i32> {
        self.workers.iter().map(|w| w.tid).collect()
    }

    /// Returns the process ids to write to `cgroup.procs`: one for each worker, or one for each leader
    /// whose threads the workers are.
    ///
    /// # Errors
    /// The workers were forked with [`CloneMode::Thread`]. Move such threads with `cgroup.threads`
    /// in a threaded cgroup, or use [`Self::spawn_pcomm_cgroup`] to move all of them together.
    pub fn worker_pids_for_cgroup_procs(&self) -> Result<Vec<i32>, WorkerError> {
        if self.clone_mode == CloneMode::Thread {
            return Err(WorkerError::Invalid(
                "workers of CloneMode::Thread are threads, which cannot be written to cgroup.procs one by \
                 one: use CloneMode::Fork, or WorkloadHandle::spawn_pcomm_cgroup to move all of \
                 them together"
                    .to_owned(),
            ));
        }
        Ok(self.process_ids())
    }

    /// Returns the keys of the objects that the workers name.
    pub(crate) fn objects(&self) -> impl Iterator<Item = u64> {
        self.workers.iter().flat_map(|w| &w.objects).copied()
    }

    /// Returns the ids of the processes that contain the workers.
    pub(crate) fn process_ids(&self) -> Vec<i32> {
        self.processes.iter().map(|p| p.pid).collect()
    }

    /// Waits until each worker has completed its first iteration, for at most `limit`.
    ///
    /// # Errors
    /// The configuration does not set `signal_first_iteration`; or the time ran out, and the error
    /// names the number of workers that were done.
    pub fn wait_first_iterations(&self, limit: Duration) -> Result<(), WorkerError> {
        if !self.reports_first {
            return Err(WorkerError::Invalid(
                "the workers do not report their first iteration: set signal_first_iteration in the \
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
                    "{done} of {} workers completed their first iteration in time",
                    self.workers.len()
                )));
            }
            sys::futex_wait_for(word, done, left);
        }
    }

    /// Returns the number of workers.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Returns whether there are no workers.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Sets the affinity, nice value and policy of every worker, then releases all workers at once.
    /// A setting that failed is noted in the worker's report. Further calls do nothing.
    pub fn start(&mut self) {
        self.prepare();
        self.release();
    }

    /// Makes [`Self::stop_and_collect`] measure the NUMA nodes of the pages that the workers allocate after their release. Each
    /// worker then allocates at least one page. The measurement is optional, because the kernel walks the workers' page tables
    /// for it. Call this before [`Self::start`].
    pub fn measure_pages(&mut self) {
        self.pages = Some(pages::AtRelease::default());
        self.control.measures_pages.store(1, Relaxed);
    }

    /// Makes [`Self::start`] wake the workers in an order that depends on the seed. They are divided
    /// into 32 groups by their index, and the groups are woken right after each other.
    pub fn shuffle_start(&mut self, seed: u64) {
        self.wake_order = (0..32).map(|n| 1 << n).collect();
        Rng::new(seed, START_ORDER).shuffle(&mut self.wake_order);
    }

    /// The first half of [`Self::start`]: applies the settings while the workers wait.
    pub(crate) fn prepare(&mut self) {
        if self.started {
            return;
        }
        for worker in &mut self.workers {
            if let Some(cpus) = &worker.affinity {
                worker.affinity_error = attrs::apply_affinity(worker.tid, cpus).err();
            }
        }
        // The kernel checks SCHED_DEADLINE against the root domain of the CPU on which a sleeping thread last ran, although a
        // cpuset or an affinity may have forbidden that CPU since then. A wake-up assigns one of the allowed CPUs before the
        // system call returns (try_to_wake_up() in kernel/sched/core.c of 7.3), and the thread then waits at the gate again.
        if self
            .workers
            .iter()
            .any(|worker| worker.policy.is_deadline())
        {
            sys::futex_wake(&self.control.gate, i32::MAX);
        }
        for worker in &mut self.workers {
            worker.policy_error = attrs::apply_policy(worker.tid, &worker.policy).err();
            worker.refused = worker.policy_error.is_some();
            worker.lowered_from = attrs::lowered(&worker.policy.policy);
            for (to, from) in worker.tele.allowed.iter().zip(sys::affinity(worker.tid)) {
                to.store(from, Relaxed);
            }
            if let Some(delay_ns) = attrs::run_delay_ns(worker.tid) {
                worker.tele.delay_before_ns.store(delay_ns, Relaxed);
                worker.tele.delay_known.store(1, Relaxed);
            }
        }
    }

    /// The second half of [`Self::start`]: releases the workers.
    pub(crate) fn release(&mut self) {
        if self.started {
            return;
        }
        self.started = true;
        if let Some(pages) = &mut self.pages {
            *pages = pages::AtRelease::of(self.processes.iter().map(|process| process.pid));
        }
        self.control.released_at_ns.store(sys::now_ns(), Relaxed);
        self.control.gate.store(1, Release);
        for group in &self.wake_order {
            sys::futex_wake_those(&self.control.gate, *group);
        }
    }

    /// Returns whether the workers were released.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// Sets the CPUs that one worker may use.
    ///
    /// # Errors
    /// The worker does not exist, or the kernel rejected the CPUs; the error names the CPUs and the thread id.
    pub fn set_affinity(&mut self, idx: usize, cpus: &BTreeSet<usize>) -> Result<(), WorkerError> {
        let count = self.workers.len();
        let worker = self.workers.get_mut(idx).ok_or_else(|| {
            WorkerError::Invalid(format!(
                "set_affinity: there is no worker {idx}, only {count} workers"
            ))
        })?;
        worker.entitlement = folded(worker.entitlement, cpus);
        attrs::apply_affinity(worker.tid, cpus).map_err(WorkerError::Invalid)
    }

    /// Sets the scheduling policy of one worker, and its nice value to the declared one (0 if none is declared).
    ///
    /// # Errors
    /// The worker does not exist, or the kernel rejected the policy; the error names the policy and
    /// the thread id.
    pub fn set_policy(&mut self, idx: usize, policy: SchedPolicy) -> Result<(), WorkerError> {
        let count = self.workers.len();
        let worker = self.workers.get_mut(idx).ok_or_else(|| {
            WorkerError::Invalid(format!(
                "set_policy: there is no worker {idx}, only {count} workers"
            ))
        })?;
        worker.entitlement = folded(worker.entitlement, &policy);
        let wanted = attrs::Policy {
            policy,
            ..worker.policy
        };
        let was_realtime = worker.is_realtime();
        attrs::change_policy(worker.tid, &wanted).map_err(WorkerError::Invalid)?;
        worker.lowered_from = worker.lowered_from.or(attrs::lowered(&wanted.policy));
        let now = attrs::cpu_ns(worker.tid).unwrap_or(worker.realtime_from_ns);
        if was_realtime {
            let more = now.saturating_sub(worker.realtime_from_ns);
            worker.realtime_ns = worker.realtime_ns.saturating_add(more);
        }
        (worker.policy, worker.refused, worker.realtime_from_ns) = (wanted, false, now);
        Ok(())
    }

    /// Records something that happens only to these workers, such as a late start or a move; `by` identifies it. From
    /// then on the workers are compared only with workers to which the same has happened.
    pub(crate) fn set_apart(&mut self, by: u64) {
        for worker in &mut self.workers {
            worker.entitlement = folded(worker.entitlement, &by);
        }
    }

    /// Returns the number of iterations of each worker as of its last checkpoint.
    pub fn snapshot_iterations(&self) -> Vec<u64> {
        self.workers
            .iter()
            .map(|w| w.tele.live_iterations.load(Relaxed))
            .collect()
    }

    /// Returns the sum of [`Self::snapshot_iterations`].
    pub fn total_iterations(&self) -> u64 {
        self.workers
            .iter()
            .map(|w| w.tele.live_iterations.load(Relaxed))
            .fold(0, u64::saturating_add)
    }

    /// Stops all workers and waits for them, for at most [`super::COLLECT_DEADLINE`]; workers that
    /// are late are killed. Returns one report for each worker, in the order of creation.
    pub fn stop_and_collect(mut self) -> Vec<WorkerReport> {
        let made = self.made_cgroups();
        let workers = std::mem::take(&mut self.workers);
        let processes = std::mem::take(&mut self.processes);
        // The threads of a process share its pages, so only the first of them reports the pages.
        let mut counted = BTreeSet::new();
        let mut seen = Vec::new();
        if let Some(pages) = &self.pages {
            seen.extend(workers.iter().map(|w| match processes.get(w.process) {
                Some(process) if counted.insert(w.process) => pages.seen(process.pid),
                _ => Default::default(),
            }));
        }
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
        let lost = collect::End::WaitFailed("its process is unknown".to_owned());
        let mut reports: Vec<WorkerReport> = workers
            .iter()
            .map(|worker| {
                let end = ends.get(worker.process).unwrap_or(&lost);
                report::report(worker, end.clone(), released_ns)
            })
            .collect();
        if let Some(pages) = &self.pages {
            let moved = pages::moved()
                .zip(pages.moved)
                .map(|(now, before)| now.saturating_sub(before));
            pages::put(&mut reports, seen, moved.unwrap_or_default());
        }
        made.iter().for_each(|above| leftover::remove(above));
        reports
    }

    /// Returns the cgroups in which workers have created child cgroups.
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
