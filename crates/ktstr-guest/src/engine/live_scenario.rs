//! The live state of a scenario: its cgroups and workers with their owners, its scheduler and payloads, and the reports of
//! workers that have ended.

mod allowed;

pub(super) use allowed::Allowed;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use ktstr_assert::{AssertResult, WorkerReport};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{CgroupDef, CpusetPartition};
use ktstr_scenario::workload::WorkSpec;

use super::liveness::Liveness;
use super::memory_nodes::Placement;
use super::partition;
use super::payloads::Payloads;
use super::quota::{QuotaReach, Quotas};
use crate::stats::Requests;
use crate::workers::rng::Rng;
use crate::workers::{Group, PhaseCell, WorkloadHandle};

/// The name that stands for the cgroup in which the harness itself runs, and in which a test may start workers too.
pub(super) const RUNNER: &str = "";

/// The number of the seed's random stream that decides the order in which workers are moved into their cgroup.
const PLACING_ORDER: u64 = 1 << 34;

/// The argument of `WorkloadHandle::set_apart` for workers that were moved between cgroups, so that they are compared only
/// with each other.
const MOVED: u64 = u64::MAX;

/// The kernel's default period of a quota in microseconds (Documentation/admin-guide/cgroup-v2.rst).
const DEFAULT_PERIOD_US: u64 = 100_000;

/// Returns whether `cgroup` is `top` or one of its descendants.
pub(super) fn is_below(cgroup: &str, top: &str) -> bool {
    let rest = cgroup.strip_prefix(top);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The owner of cgroups and programs. The owner decides how long they live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// What the backdrop owns lives until the end of the scenario.
    Backdrop,
    /// What a step owns lives until the end of that step.
    Step,
}

/// A cgroup that the scenario created.
pub(super) struct LiveCgroup {
    pub name: String,
    pub owner: Owner,
    /// The cpuset that the scenario gave to this cgroup; `None` if it has no cpuset of its own.
    pub cpuset: Option<BTreeSet<usize>>,
    /// The nodes of the `cpuset.mems` that the scenario gave to this cgroup; `None` if it gave none.
    mems: Option<BTreeSet<usize>>,
    /// Where the test places the memory of the cgroup's workers.
    pub placements: BTreeSet<Placement>,
    /// Whether the cgroup is a partition, and of which type.
    pub partition: CpusetPartition,
    pub frozen: bool,
    /// The quotas of CPU time that the cgroup has and had.
    pub quotas: Quotas,
    pub handles: Vec<WorkloadHandle>,
    /// Whether a program of the host was started in the cgroup. It may have left processes behind.
    pub runs_payloads: bool,
    /// The union of all CPUs that the cgroup had during the lives of the workers. Running on a CPU that was allowed at any
    /// time is no breach of isolation.
    pub allowed: Allowed,
    /// What quotas may have done to the workers that were stopped in this cgroup, or that came from another cgroup.
    reach: Option<QuotaReach>,
    /// The largest number of migrations that changes of the test may have forced: one for each worker and each change of its
    /// CPUs.
    pub forced_moves: u64,
    /// The CPUs that the cgroup had when they were last noted; `None` before that.
    last_allowed: Option<Allowed>,
    reports: Vec<WorkerReport>,
}

impl LiveCgroup {
    fn new(name: &str, owner: Owner) -> Self {
        Self {
            name: name.to_owned(),
            owner,
            cpuset: None,
            mems: None,
            placements: BTreeSet::new(),
            partition: CpusetPartition::Member,
            frozen: false,
            quotas: Quotas::default(),
            reach: None,
            handles: Vec::new(),
            runs_payloads: false,
            allowed: Allowed::All,
            forced_moves: 0,
            last_allowed: None,
            reports: Vec::new(),
        }
    }

    /// Notes that the test has changed the CPUs of all workers of the cgroup, which may have forced each of them to another CPU.
    pub fn forces_moves(&mut self) {
        let workers: usize = self.handles.iter().map(WorkloadHandle::len).sum();
        self.forced_moves = self.forced_moves.saturating_add(workers as u64);
    }

    /// Records what quotas may have done to workers of this cgroup.
    fn was_limited(&mut self, reach: Option<QuotaReach>) {
        let both = self.reach.zip(reach).map(|(own, other)| own.or(other));
        self.reach = both.or(self.reach).or(reach);
    }

    /// Adopts the workers of another cgroup. `allowed` contains the CPUs that the workers could use so far, and `reach` is what
    /// quotas may have done to them.
    pub fn adopt(
        &mut self,
        mut handles: Vec<WorkloadHandle>,
        allowed: &Allowed,
        placements: BTreeSet<Placement>,
        reach: Option<QuotaReach>,
    ) {
        if handles.is_empty() {
            return;
        }
        self.was_limited(reach);
        for handle in &mut handles {
            handle.set_apart(MOVED);
        }
        self.allowed = self.allowed.or(allowed);
        self.placements.extend(placements);
        self.handles.extend(handles);
    }

    /// Kills the processes that programs have left in the cgroup. A failure is not reported here, because the removal of the
    /// cgroup then fails and is reported.
    fn kill_leftovers(&self, ctx: &Ctx) {
        if self.runs_payloads {
            let _ = ctx.cgroups.set_file(&self.name, None, "cgroup.kill", "1");
        }
    }

    /// Stops the workers and keeps their reports.
    pub fn stop(&mut self, ctx: &Ctx) -> Result<()> {
        if self.frozen {
            // Frozen workers cannot write their final counters.
            ctx.cgroups.set_freeze(&self.name, false)?;
            self.frozen = false;
        }
        if self.quotas.now.take().is_some() {
            // Lift the quota: the measurement is over, but writing the final counters and exiting take CPU time too.
            ctx.cgroups
                .set_cpu_max(&self.name, None, DEFAULT_PERIOD_US)?;
        }
        // Workers that were never released have nothing to report.
        self.handles.retain(WorkloadHandle::started);
        for handle in self.handles.drain(..) {
            self.reports.extend(handle.stop_and_collect());
        }
        Ok(())
    }
}

/// The reports of a cgroup that was torn down.
pub(super) struct CgroupReports {
    pub name: String,
    pub owner: Owner,
    pub allowed: Allowed,
    /// Where the test places the memory of the workers.
    pub placements: BTreeSet<Placement>,
    /// What quotas may have done to the workers; `None` if no quota can have limited them.
    pub quota: Option<QuotaReach>,
    /// The largest number of migrations of the workers that changes of the test may have forced.
    pub forced_moves: u64,
    pub reports: Vec<WorkerReport>,
}

/// The scheduler as the last operation of this test left it. The outer `None` means that no operation has changed it; the inner
/// `None` means that the operation stopped the scheduler and attached none. The value outlives a scenario, because a test may run
/// several scenarios, and an operation of one scenario also decides which scheduler the next scenario has.
static CHANGED_TO: Mutex<Option<Option<Attached>>> = Mutex::new(None);

/// An attached scheduler as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attached {
    /// The scheduler's process id.
    pub pid: i32,
    /// Whether sched_ext must be enabled while the process lives.
    pub bpf: bool,
}

impl Attached {
    /// Returns the scheduler that is attached now: `first`, which was attached when the test started, or the one that an
    /// operation of the test attached since.
    pub fn now(first: Option<Self>) -> Option<Self> {
        let changed = CHANGED_TO.lock().unwrap_or_else(PoisonError::into_inner);
        changed.unwrap_or(first)
    }

    /// Records the scheduler that an operation has attached; `None` if it attached none.
    pub fn changed_to(scheduler: Option<Self>) {
        *CHANGED_TO.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheduler);
    }
}

/// The live cgroups and workers of a scenario, and the reports of the workers that have ended.
pub(super) struct LiveScenario {
    pub phase: PhaseCell,
    /// The scheduler that must be running.
    pub scheduler: Option<Attached>,
    /// The state with which the next check of the scheduler starts, if an operation changed the scheduler since the last check.
    pub changed: Option<Liveness>,
    /// The programs that run next to the workers.
    pub payloads: Payloads,
    /// Descriptors of BPF maps, which keep the maps alive until the end of the scenario.
    pub pinned_maps: Vec<OwnedFd>,
    /// The requests for the scheduler's statistics.
    pub stats: Arc<Requests>,
    /// The number of random affinities that the test's operations have drawn for running workers. Each draw uses the next
    /// random stream.
    pub draws: u64,
    /// The CPUs that the test took offline.
    off_line: BTreeSet<usize>,
    /// Whether the NUMA nodes of the workers' pages are measured.
    measures_pages: bool,
    tracked: Vec<LiveCgroup>,
    /// Names of the cgroups that the running step will create after its operations.
    announced: Vec<String>,
    removed: Vec<CgroupReports>,
    /// The keys of the shared objects (locks, barriers and the like) that workers have used and that have not been reset since.
    objects: BTreeSet<u64>,
    spawns: u64,
    collected_iterations: u64,
}

impl LiveScenario {
    pub fn new(measures_pages: bool, scheduler: Option<Attached>) -> Result<Self> {
        Ok(Self {
            scheduler,
            changed: None,
            payloads: Payloads::default(),
            pinned_maps: Vec::new(),
            stats: Arc::default(),
            draws: 0,
            off_line: BTreeSet::new(),
            measures_pages,
            phase: PhaseCell::new()?,
            tracked: Vec::new(),
            announced: Vec::new(),
            removed: Vec::new(),
            objects: BTreeSet::new(),
            spawns: 0,
            collected_iterations: 0,
        })
    }

    /// Returns the current number of cgroups.
    pub fn cgroups(&self) -> usize {
        self.tracked.iter().filter(|t| t.name != RUNNER).count()
    }

    /// Returns the current number of workers.
    pub fn workers(&self) -> usize {
        self.handles().map(WorkloadHandle::len).sum()
    }

    fn handles(&self) -> impl Iterator<Item = &WorkloadHandle> {
        self.tracked.iter().flat_map(|t| &t.handles)
    }

    /// Returns the number of iterations of all workers, including those that have ended.
    pub fn total_iterations(&self) -> u64 {
        let stopped = self.tracked.iter().flat_map(|t| &t.reports);
        let stopped = stopped.chain(self.removed.iter().flat_map(|d| &d.reports));
        self.handles()
            .map(WorkloadHandle::total_iterations)
            .chain(stopped.map(|r| r.iterations))
            .fold(self.collected_iterations, u64::saturating_add)
    }

    /// Returns a cgroup by its name.
    pub fn get(&mut self, name: &str) -> Result<&mut LiveCgroup> {
        let known: Vec<String> = self.tracked.iter().map(|t| t.name.clone()).collect();
        let announced = self.announced.iter().any(|later| later == name);
        self.tracked
            .iter_mut()
            .find(|t| t.name == name)
            .with_context(|| {
                if announced {
                    return format!(
                        "there is no cgroup {name:?} yet: a step's operations come before its setup. Create it with \
                         Op::add_cgroup_def ahead of this operation, or in an earlier step or the backdrop"
                    );
                }
                format!(
                    "no cgroup {name:?} in this scenario (there are: {}); add it first",
                    known.join(", ")
                )
            })
    }

    /// Records the names of the cgroups that the step's setup will create.
    pub fn announce(&mut self, defs: &[CgroupDef]) {
        self.announced = defs.iter().map(|def| def.name.clone()).collect();
    }

    /// Drops the handles of the workers of a cgroup and its descendants, which were just killed. Their iterations still count.
    pub fn forget_killed(&mut self, name: &str) {
        for tracked in self.tracked.iter_mut().filter(|t| is_below(&t.name, name)) {
            for handle in tracked.handles.drain(..) {
                let done = handle.total_iterations();
                self.collected_iterations = self.collected_iterations.saturating_add(done);
            }
        }
    }

    /// Returns whether the scenario has this cgroup.
    pub fn has(&self, name: &str) -> bool {
        self.tracked.iter().any(|t| t.name == name)
    }

    /// Returns whether the scenario has this cgroup or one below it.
    pub fn has_below(&self, name: &str) -> bool {
        self.tracked.iter().any(|t| is_below(&t.name, name))
    }

    /// Creates an empty cgroup.
    pub fn add(&mut self, ctx: &Ctx, owner: Owner, name: &str) -> Result<&mut LiveCgroup> {
        if self.has(name) {
            bail!(
                "cgroup {name:?} exists already in this scenario: use another name, or remove it \
                 first"
            );
        }
        ctx.cgroups.create_cgroup(name)?;
        self.tracked.push(LiveCgroup::new(name, owner));
        let allowed = self.allowed_now(ctx, name);
        let added = self.get(name)?;
        added.allowed = allowed;
        Ok(added)
    }

    /// Returns the entry of the harness's own cgroup, and adds it for `owner` if there is none yet. The cgroup always exists.
    pub fn runner(&mut self, owner: Owner) -> &mut LiveCgroup {
        let at = match self.tracked.iter().position(|t| t.name == RUNNER) {
            Some(at) => at,
            None => {
                self.tracked.push(LiveCgroup::new(RUNNER, owner));
                self.tracked.len() - 1
            }
        };
        &mut self.tracked[at]
    }

    /// Creates a cgroup and its workers as declared.
    pub fn add_def(&mut self, ctx: &Ctx, owner: Owner, def: &CgroupDef) -> Result<()> {
        def.validate()?;
        let name = def.name.as_str();
        self.add(ctx, owner, name)?;
        if let Some(spec) = &def.cpuset {
            let cpus = spec
                .resolve(ctx)
                .with_context(|| format!("cpuset of cgroup {name:?}"))?;
            ctx.cgroups.set_cpuset(name, &cpus)?;
            self.get(name)?.cpuset = Some(cpus);
            self.note_effective_cpus(ctx);
            self.partitions_are_valid(ctx)?;
        }
        limits(ctx, def)?;
        self.get(name)?.mems.clone_from(&def.cpuset_mems);
        if let Some((quota, period)) = def.cpu.as_ref().and_then(|cpu| cpu.max_us) {
            self.get(name)?.quotas.set(quota, period);
        }
        def.validate_memory(self.cpus_of(name, ctx.topo).as_ref(), ctx.topo)?;
        if let Some(payload) = def.payload {
            self.get(name)?.runs_payloads = true;
            self.payloads.announce(owner, payload, name);
        }
        let works = def.works_instead(ctx.work_type_override.as_ref());
        match works.is_empty() {
            true => Ok(()),
            false => self.spawn(ctx, name, &works),
        }
    }

    /// Starts the programs of the cgroups and releases all workers that still wait. The workers are released together, so
    /// that no cgroup runs alone while the workers of the next cgroup are being forked.
    pub fn release(&mut self, ctx: &Ctx) -> Result<()> {
        self.payloads.start_announced(ctx)?;
        for handle in self.tracked.iter_mut().flat_map(|t| &mut t.handles) {
            handle.prepare();
        }
        for handle in self.tracked.iter_mut().flat_map(|t| &mut t.handles) {
            handle.release();
        }
        Ok(())
    }

    /// Forks workers and moves them into a tracked cgroup. They block until [`Self::release`].
    pub fn spawn(&mut self, ctx: &Ctx, name: &str, works: &[WorkSpec]) -> Result<()> {
        let spawns = self.spawns;
        let seed = Rng::new(ctx.seed, spawns).next_u64();
        self.spawns += 1;
        self.renew_objects();
        let phase = self.phase.clone();
        let measures_pages = self.measures_pages;
        let cpuset = self.cpus_of(name, ctx.topo);
        let cpuset = cpuset.as_ref();
        let above = self.tracked.iter().filter(|t| is_below(name, &t.name));
        let nearest = above
            .filter(|t| t.mems.is_some())
            .max_by_key(|t| t.name.len());
        let mems = nearest
            .and_then(|t| t.mems.as_ref())
            .map(Placement::of_cpuset);
        let tracked = self.get(name)?;
        tracked.placements.extend(mems);
        let cpus = cpuset.map_or(ctx.topo.total_cpus(), BTreeSet::len);
        let mut groups = Vec::new();
        for work in works {
            let at = || format!("workers of cgroup {name:?}");
            work.validate().with_context(at)?;
            tracked.placements.extend(Placement::of_work(work));
            groups.push(Group {
                count: work
                    .worker_count(cpus, ctx.workers_per_cgroup)
                    .with_context(at)?,
                affinity: work.resolve_affinity(cpuset, ctx.topo).with_context(at)?,
                work: work.clone(),
            });
        }
        let mut handle = WorkloadHandle::spawn_groups(&groups, seed, &phase)
            .with_context(|| format!("workers of cgroup {name:?}"))?;
        handle.set_apart(spawns);
        let mut pids = handle.process_ids();
        if measures_pages {
            handle.measure_pages();
        }
        // Seed 0 is the plain run: workers are moved and woken in the order of their creation.
        if ctx.seed != 0 {
            Rng::new(seed, PLACING_ORDER).shuffle(&mut pids);
        }
        if name != RUNNER {
            for pid in pids {
                ctx.cgroups.place_task_during_handshake(name, pid)?;
            }
        }
        if ctx.seed != 0 {
            handle.shuffle_start(seed);
        }
        let objects: Vec<u64> = handle.objects().collect();
        tracked.handles.push(handle);
        self.objects.extend(objects);
        Ok(())
    }

    /// Resets the objects that no worker names any more, so that the next workers do not find a lock that is taken, or a
    /// barrier at which earlier workers have arrived.
    fn renew_objects(&mut self) {
        if self.objects.is_empty() {
            return;
        }
        let named: BTreeSet<u64> = self.handles().flat_map(WorkloadHandle::objects).collect();
        self.phase.renew(self.objects.difference(&named));
        self.objects = named;
    }

    /// Returns what the quotas of a cgroup and of its ancestors may have done to its workers; `None` if none can have acted.
    pub fn quota_reach(&self, ctx: &Ctx, name: &str) -> Option<QuotaReach> {
        let above = self.tracked.iter().filter(|t| is_below(name, &t.name));
        let reaches = above.filter_map(|holder| {
            let sharing = || {
                self.tracked
                    .iter()
                    .filter(|t| is_below(&t.name, &holder.name))
            };
            let workers = |t: &LiveCgroup| {
                let running: usize = t.handles.iter().map(WorkloadHandle::len).sum();
                running + t.reports.len()
            };
            // A program may have any number of tasks.
            let known = !sharing().any(|t| t.runs_payloads);
            let tasks = known.then(|| sharing().map(workers).sum());
            let folder = ctx.cgroups.parent_path().join(&holder.name);
            holder.quotas.reach(tasks, ctx.topo.total_cpus(), &folder)
        });
        reaches.reduce(QuotaReach::and)
    }

    /// Stops the workers of a cgroup. Meanwhile, frozen cgroups above it are thawed, because frozen workers cannot stop, and the
    /// quotas of cgroups above it are lifted, because a worker that is out of quota may not stop in time.
    ///
    /// # Errors
    /// There is no such cgroup, or the kernel refuses to change the quota or the frozen state of this cgroup or of a cgroup above
    /// it.
    pub fn stop(&mut self, ctx: &Ctx, name: &str) -> Result<()> {
        let reach = self.quota_reach(ctx, name);
        // The test may have changed the cpuset without an operation, for example by `ctx.cgroups`.
        let now = match self.get(name)?.cpuset.is_some() {
            true => Some(self.allowed_now(ctx, name)),
            false => None,
        };
        let cgroup = self.get(name)?;
        cgroup.was_limited(reach);
        if let Some(now) = now {
            cgroup.allow(now);
        }
        let is_above = |t: &&LiveCgroup| t.name != name && is_below(name, &t.name);
        let above = || self.tracked.iter().filter(is_above);
        let frozen: Vec<String> = (above().filter(|t| t.frozen))
            .map(|t| t.name.clone())
            .collect();
        let limited: Vec<(String, (u64, u64))> = above()
            .filter_map(|t| Some((t.name.clone(), t.quotas.now?)))
            .collect();
        for above in &frozen {
            ctx.cgroups.set_freeze(above, false)?;
        }
        let mut lifted = Ok(());
        for (above, _) in &limited {
            lifted = lifted.and(ctx.cgroups.set_cpu_max(above, None, DEFAULT_PERIOD_US));
        }
        let stopped = self.get(name)?.stop(ctx);
        let mut again = lifted;
        for (above, (quota, period)) in &limited {
            again = again.and(ctx.cgroups.set_cpu_max(above, Some(*quota), *period));
        }
        for above in &frozen {
            again = again.and(ctx.cgroups.set_freeze(above, true));
        }
        stopped.and(again.map_err(Into::into))
    }

    /// Removes a cgroup and those cgroups below it that the scenario created, the deepest first.
    ///
    /// # Errors
    /// A worker or program cannot be stopped, or the kernel refuses to remove one of the cgroups, for example because there is a
    /// cgroup below it that the scenario did not create.
    pub fn remove(&mut self, ctx: &Ctx, name: &str) -> Result<()> {
        let tracked = self.tracked.iter().map(|t| t.name.clone());
        let mut all: Vec<String> = tracked.filter(|t| is_below(t, name)).collect();
        all.sort_by_key(|below| std::cmp::Reverse(below.matches('/').count()));
        for below in all {
            self.remove_one(ctx, &below).with_context(|| {
                let left = children(&ctx.cgroups.parent_path().join(&below));
                let why = match left.is_empty() {
                    true => String::new(),
                    false => format!(
                        ": it contains the cgroups {}, which the scenario did not create",
                        left.join(", ")
                    ),
                };
                format!("cgroup {below:?} cannot be removed{why}")
            })?;
        }
        Ok(())
    }

    /// Stops a cgroup's workers and programs, and removes the cgroup. The reports of the workers are kept until the teardown
    /// of the cgroup's owner, and are judged then.
    fn remove_one(&mut self, ctx: &Ctx, name: &str) -> Result<()> {
        self.payloads.end_in(name)?;
        self.stop(ctx, name)?;
        let removed = self.get(name)?;
        removed.kill_leftovers(ctx);
        let was_partition = removed.partition != CpusetPartition::Member;
        if was_partition {
            partition::dissolve(ctx, name)?;
        }
        let names = self.tracked.iter().map(|t| t.name.as_str());
        let others: Vec<&str> = names.filter(|other| *other != name).collect();
        remove_with_parents(ctx, name, &others)?;
        if let Some(at) = self.tracked.iter().position(|t| t.name == name) {
            let done = self.tracked.remove(at);
            self.removed.push(CgroupReports {
                name: done.name,
                owner: done.owner,
                allowed: done.allowed,
                placements: done.placements,
                quota: done.reach,
                forced_moves: done.forced_moves,
                reports: done.reports,
            });
        }
        if was_partition {
            // The other cgroups may use the CPUs of the removed partition again.
            self.note_effective_cpus(ctx);
        }
        Ok(())
    }

    /// Stops everything that this owner has and removes its cgroups, the deepest first and the newest first at each depth.
    /// Returns the reports of each cgroup that has any. A removal that fails adds a note to the result and no failure, because
    /// the harness is at fault, not the scheduler.
    pub fn tear_down(
        &mut self,
        ctx: &Ctx,
        owner: Owner,
        result: &mut AssertResult,
    ) -> Vec<CgroupReports> {
        self.payloads.tear_down(owner, result);
        let own = self.tracked.iter().filter(|t| t.owner == owner);
        for name in own.map(|t| t.name.clone()).collect::<Vec<_>>() {
            if let Err(error) = self.stop(ctx, &name) {
                result.note(format!("teardown of cgroup {name:?}: {error:#}"));
            }
        }
        let (gone, kept) = std::mem::take(&mut self.tracked)
            .into_iter()
            .partition(|t| t.owner == owner);
        self.tracked = kept;
        let mut gone: Vec<LiveCgroup> = gone;
        for tracked in gone.iter_mut().filter(|t| t.name != RUNNER) {
            // Kill whatever still runs before the directory is removed.
            tracked.handles.clear();
            tracked.kill_leftovers(ctx);
            if tracked.partition != CpusetPartition::Member
                && let Err(error) = partition::dissolve(ctx, &tracked.name)
            {
                result.note(format!("teardown of cgroup {:?}: {error:#}", tracked.name));
            }
        }
        let mut left: Vec<&str> = gone.iter().map(|t| t.name.as_str()).collect();
        left.retain(|name| *name != RUNNER);
        // The sort is stable, and the loop takes names from the end: the deepest first, and the newest first at each depth.
        left.sort_by_key(|name| name.matches('/').count());
        while let Some(name) = left.pop() {
            let kept = self.tracked.iter().map(|t| t.name.as_str());
            let others: Vec<&str> = kept.chain(left.iter().copied()).collect();
            if let Err(error) = remove_with_parents(ctx, name, &others) {
                result.note(format!("teardown of cgroup {name:?}: {error:#}"));
            }
        }
        if gone.iter().any(|t| t.partition != CpusetPartition::Member) {
            // The cgroups that are left may use the CPUs of the removed partitions again.
            self.note_effective_cpus(ctx);
        }
        let (ended, waiting) = std::mem::take(&mut self.removed)
            .into_iter()
            .partition(|d| d.owner == owner);
        self.removed = waiting;
        let mut done: Vec<CgroupReports> = ended;
        done.extend(gone.into_iter().map(|t| CgroupReports {
            name: t.name,
            owner: t.owner,
            allowed: t.allowed,
            placements: t.placements,
            quota: t.reach,
            forced_moves: t.forced_moves,
            reports: t.reports,
        }));
        done.retain(|d| !d.reports.is_empty());
        for report in done.iter().flat_map(|d| &d.reports) {
            self.collected_iterations = self.collected_iterations.saturating_add(report.iterations);
        }
        done
    }
}

/// Returns the names of the cgroups directly below the cgroup with this folder; empty if the folder cannot be read.
fn children(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = folders
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Removes a cgroup and then the ancestors that were created on the way to it, one after the other. Stops before the first
/// cgroup that is one of `others` or contains one of them; `name` itself may be that cgroup.
fn remove_with_parents(ctx: &Ctx, name: &str, others: &[&str]) -> Result<()> {
    let mut at = name;
    while !others.iter().any(|other| is_below(other, at)) {
        ctx.cgroups.remove_cgroup(at)?;
        match at.rsplit_once('/') {
            Some((above, _)) => at = above,
            None => break,
        }
    }
    Ok(())
}

/// Writes the limits and weights of a definition, and its memory nodes.
fn limits(ctx: &Ctx, def: &CgroupDef) -> Result<()> {
    let (cgroups, name) = (ctx.cgroups, def.name.as_str());
    if let Some(nodes) = &def.cpuset_mems {
        cgroups.set_cpuset_mems(name, nodes)?;
    }
    if let Some(cpu) = &def.cpu {
        if let Some((quota, period)) = cpu.max_us {
            cgroups.set_cpu_max(name, quota, period)?;
        }
        if let Some(weight) = cpu.weight {
            cgroups.set_cpu_weight(name, weight)?;
        }
    }
    if let Some(memory) = &def.memory {
        if let Some(bytes) = memory.max {
            cgroups.set_memory_max(name, bytes)?;
        }
        if let Some(bytes) = memory.high {
            cgroups.set_memory_high(name, bytes)?;
        }
        if let Some(bytes) = memory.low {
            cgroups.set_memory_low(name, bytes)?;
        }
        if let Some(bytes) = memory.swap_max {
            cgroups.set_memory_swap_max(name, bytes)?;
        }
    }
    if let Some(weight) = def.io.as_ref().and_then(|io| io.weight) {
        cgroups.set_io_weight(name, weight)?;
    }
    if let Some(max) = def.pids.as_ref().and_then(|pids| pids.max) {
        cgroups.set_pids_max(name, max)?;
    }
    Ok(())
}
