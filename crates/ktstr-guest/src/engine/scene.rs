//! The cgroups and workers that a scenario has right now, and who they belong to.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use ktstr_assert::{AssertResult, WorkerReport};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::CgroupDef;
use ktstr_scenario::workload::WorkSpec;

use super::payloads::Payloads;
use crate::workers::rng::Rng;
use crate::workers::{Group, PhaseCell, WorkloadHandle};

/// Name under which workers of the harness's own cgroup are counted.
pub(super) const RUNNER: &str = "";

/// Stream of a seed that the order of placing is drawn from.
const PLACING_ORDER: u64 = 1 << 34;

/// Marks workers that were moved between cgroups.
const MOVED: u64 = u64::MAX;

/// The kernel's usual period of a quota, in microseconds (Documentation/admin-guide/cgroup-v2.rst).
const DEFAULT_PERIOD_US: u64 = 100_000;

/// Whether a cgroup is this one or below it.
pub(super) fn is_below(cgroup: &str, top: &str) -> bool {
    let rest = cgroup.strip_prefix(top);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How long something lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// For the scenario.
    Backdrop,
    /// For the running step.
    Step,
}

/// CPUs that workers of a cgroup were ever allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowed {
    /// All of the machine.
    All,
    /// No CPU but these, by number.
    Only(BTreeSet<usize>),
}

impl Allowed {
    fn of(cpuset: Option<&BTreeSet<usize>>) -> Self {
        cpuset.map_or(Self::All, |cpus| Self::Only(cpus.clone()))
    }

    /// The isolation that can be expected, if any.
    pub fn cpus(&self) -> Option<&BTreeSet<usize>> {
        match self {
            Self::All => None,
            Self::Only(cpus) => Some(cpus),
        }
    }
}

/// A cgroup the scenario made.
pub(super) struct Tracked {
    pub name: String,
    pub owner: Owner,
    /// Its CPUs now; `None` is all.
    pub cpuset: Option<BTreeSet<usize>>,
    pub frozen: bool,
    /// It has a quota of CPU time.
    pub has_quota: bool,
    pub handles: Vec<WorkloadHandle>,
    /// A program of the host was started in it, which may have left processes behind.
    pub runs_payloads: bool,
    /// Union over the life of its workers: what was allowed once is no breach.
    allowed: Allowed,
    reports: Vec<WorkerReport>,
}

impl Tracked {
    fn new(name: &str, owner: Owner) -> Self {
        Self {
            name: name.to_owned(),
            owner,
            cpuset: None,
            frozen: false,
            has_quota: false,
            handles: Vec::new(),
            runs_payloads: false,
            allowed: Allowed::All,
            reports: Vec::new(),
        }
    }

    /// Takes note of a new cpuset (already written).
    pub fn set_cpuset(&mut self, cpuset: Option<BTreeSet<usize>>) {
        let untouched = self.handles.is_empty() && self.reports.is_empty();
        self.allowed = match (&self.allowed, &cpuset) {
            (_, new) if untouched => Allowed::of(new.as_ref()),
            (Allowed::Only(old), Some(new)) => Allowed::Only(old | new),
            _ => Allowed::All,
        };
        self.cpuset = cpuset;
    }

    /// Takes note of CPUs that are off line: a cgroup of which all are has those of the cgroup above it until one comes back
    /// (Documentation/admin-guide/cgroup-v2.rst, `cpuset.cpus.effective`).
    fn without(&mut self, off_line: &BTreeSet<usize>) {
        if self
            .cpuset
            .as_ref()
            .is_some_and(|own| own.is_subset(off_line))
        {
            self.allowed = Allowed::All;
        }
    }

    /// Takes over workers that were in a cgroup with this cpuset.
    pub fn take_over(
        &mut self,
        mut handles: Vec<WorkloadHandle>,
        cpuset: Option<&BTreeSet<usize>>,
    ) {
        if handles.is_empty() {
            return;
        }
        for handle in &mut handles {
            handle.set_apart(MOVED);
        }
        self.allowed = match (&self.allowed, cpuset) {
            (Allowed::Only(own), Some(theirs)) => Allowed::Only(own | theirs),
            _ => Allowed::All,
        };
        self.handles.extend(handles);
    }

    /// Kills what payloads have left in it. One that cannot be killed keeps the cgroup from being removed, which is told.
    fn kill_leftovers(&self, ctx: &Ctx) {
        if self.runs_payloads {
            let _ = ctx.cgroups.set_file(&self.name, None, "cgroup.kill", "1");
        }
    }

    /// Stops the workers and keeps their reports.
    pub fn stop(&mut self, ctx: &Ctx) -> Result<()> {
        if self.frozen {
            // Frozen workers could not write their last numbers.
            ctx.cgroups.set_freeze(&self.name, false)?;
            self.frozen = false;
        }
        if self.has_quota {
            // Its window is over: to write the last numbers and to exit takes CPU time too.
            ctx.cgroups
                .set_cpu_max(&self.name, None, DEFAULT_PERIOD_US)?;
            self.has_quota = false;
        }
        // Who never ran has nothing to report.
        self.handles.retain(WorkloadHandle::started);
        for handle in self.handles.drain(..) {
            self.reports.extend(handle.stop_and_collect());
        }
        Ok(())
    }
}

/// What a cgroup left when it was torn down.
pub(super) struct Done {
    pub name: String,
    pub owner: Owner,
    pub allowed: Allowed,
    pub reports: Vec<WorkerReport>,
}

/// A scheduler as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attached {
    /// The scheduler's process id.
    pub pid: i32,
    /// sched_ext must be on while it is there.
    pub bpf: bool,
}

/// The cgroups and workers that are alive, and what those that ended have left.
pub(super) struct Scene {
    pub phase: PhaseCell,
    /// The scheduler that has to be there.
    pub scheduler: Option<Attached>,
    /// An operation has stopped or started one since it was last looked at.
    pub scheduler_changed: bool,
    /// The programs that run beside the workers.
    pub payloads: Payloads,
    /// BPF maps that live as long as the scenario.
    pub pinned_maps: Vec<OwnedFd>,
    /// How many affinities were drawn for workers that ran already.
    pub draws: u64,
    /// CPUs that the test took off line.
    off_line: BTreeSet<usize>,
    /// Whether it is asked where the workers' pages are.
    measures_pages: bool,
    tracked: Vec<Tracked>,
    /// Cgroups that the running step's setup makes after its operations.
    announced: Vec<String>,
    removed: Vec<Done>,
    spawns: u64,
    collected_iterations: u64,
}

impl Scene {
    /// The test took a CPU off line.
    pub fn cpu_is_off(&mut self, cpu: usize) {
        self.off_line.insert(cpu);
        for tracked in &mut self.tracked {
            tracked.without(&self.off_line);
        }
    }

    /// The test brought a CPU back.
    pub fn cpu_is_on(&mut self, cpu: usize) {
        self.off_line.remove(&cpu);
    }

    pub fn new(measures_pages: bool, scheduler: Option<Attached>) -> Result<Self> {
        Ok(Self {
            scheduler,
            scheduler_changed: false,
            payloads: Payloads::default(),
            pinned_maps: Vec::new(),
            draws: 0,
            off_line: BTreeSet::new(),
            measures_pages,
            phase: PhaseCell::new()?,
            tracked: Vec::new(),
            announced: Vec::new(),
            removed: Vec::new(),
            spawns: 0,
            collected_iterations: 0,
        })
    }

    /// How many cgroups there are now.
    pub fn cgroups(&self) -> usize {
        self.tracked.iter().filter(|t| t.name != RUNNER).count()
    }

    /// How many workers there are now.
    pub fn workers(&self) -> usize {
        self.handles().map(WorkloadHandle::len).sum()
    }

    fn handles(&self) -> impl Iterator<Item = &WorkloadHandle> {
        self.tracked.iter().flat_map(|t| &t.handles)
    }

    /// Iterations of all workers, gone ones included.
    pub fn total_iterations(&self) -> u64 {
        let stopped = self.tracked.iter().flat_map(|t| &t.reports);
        let stopped = stopped.chain(self.removed.iter().flat_map(|d| &d.reports));
        self.handles()
            .map(WorkloadHandle::total_iterations)
            .chain(stopped.map(|r| r.iterations))
            .fold(self.collected_iterations, u64::saturating_add)
    }

    /// A cgroup by name.
    pub fn get(&mut self, name: &str) -> Result<&mut Tracked> {
        let known: Vec<String> = self.tracked.iter().map(|t| t.name.clone()).collect();
        let announced = self.announced.iter().any(|later| later == name);
        self.tracked
            .iter_mut()
            .find(|t| t.name == name)
            .with_context(|| {
                if announced {
                    return format!(
                        "there is no cgroup {name:?} yet: a step's operations come before its setup. Make it with \
                         Op::add_cgroup_def ahead of this operation, or in an earlier step or the backdrop"
                    );
                }
                format!(
                    "no cgroup {name:?} in this scenario (there are: {}); add it first",
                    known.join(", ")
                )
            })
    }

    /// Takes note of the cgroups that the step's setup will make.
    pub fn announce(&mut self, defs: &[CgroupDef]) {
        self.announced = defs.iter().map(|def| def.name.clone()).collect();
    }

    /// Lets go of the workers of a cgroup, and of those below it, that were just killed. Their iterations count.
    pub fn forget_killed(&mut self, name: &str) {
        for tracked in self.tracked.iter_mut().filter(|t| is_below(&t.name, name)) {
            for handle in tracked.handles.drain(..) {
                let done = handle.total_iterations();
                self.collected_iterations = self.collected_iterations.saturating_add(done);
            }
        }
    }

    /// Whether the scenario has this cgroup.
    pub fn has(&self, name: &str) -> bool {
        self.tracked.iter().any(|t| t.name == name)
    }

    /// Makes an empty cgroup.
    pub fn add(&mut self, ctx: &Ctx, owner: Owner, name: &str) -> Result<&mut Tracked> {
        if self.has(name) {
            bail!(
                "cgroup {name:?} exists already in this scenario: use another name, or remove it \
                 first"
            );
        }
        ctx.cgroups.create_cgroup(name)?;
        self.tracked.push(Tracked::new(name, owner));
        self.get(name)
    }

    /// The harness's own cgroup, which is always there.
    pub fn runner(&mut self, owner: Owner) -> &mut Tracked {
        let at = match self.tracked.iter().position(|t| t.name == RUNNER) {
            Some(at) => at,
            None => {
                self.tracked.push(Tracked::new(RUNNER, owner));
                self.tracked.len() - 1
            }
        };
        &mut self.tracked[at]
    }

    /// Makes a cgroup as declared, with its workers.
    pub fn add_def(&mut self, ctx: &Ctx, owner: Owner, def: &CgroupDef) -> Result<()> {
        def.validate()?;
        let name = def.name.as_str();
        self.add(ctx, owner, name)?;
        if let Some(spec) = &def.cpuset {
            let cpus = spec
                .resolve(ctx)
                .with_context(|| format!("cpuset of cgroup {name:?}"))?;
            ctx.cgroups.set_cpuset(name, &cpus)?;
            self.get(name)?.set_cpuset(Some(cpus));
        }
        limits(ctx, def)?;
        let quota = def.cpu.as_ref().and_then(|cpu| cpu.max_us);
        self.get(name)?.has_quota = quota.is_some_and(|(quota, _)| quota.is_some());
        def.validate_memory(self.get(name)?.cpuset.as_ref(), ctx.topo)?;
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

    /// Starts the payloads of the cgroups and lets all workers go that still wait: together, so that no cgroup is ahead
    /// of another by the time it takes to fork the next one's workers beside its own.
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

    /// Makes workers in a cgroup that is tracked: forked blocked and moved. They run from
    /// [`Self::release`] on.
    pub fn spawn(&mut self, ctx: &Ctx, name: &str, works: &[WorkSpec]) -> Result<()> {
        let spawns = self.spawns;
        let seed = Rng::new(ctx.seed, spawns).next_u64();
        self.spawns += 1;
        let phase = self.phase.clone();
        let measures_pages = self.measures_pages;
        let tracked = self.get(name)?;
        let cpuset = tracked.cpuset.as_ref();
        let cpus = cpuset.map_or(ctx.topo.total_cpus(), BTreeSet::len);
        let mut groups = Vec::new();
        for work in works {
            let at = || format!("workers of cgroup {name:?}");
            work.validate().with_context(at)?;
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
        // Seed 0 is the plain run: placed and woken in the order of their making.
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
        tracked.handles.push(handle);
        Ok(())
    }

    /// Stops a cgroup's workers and removes it; what it measured is judged with the others.
    pub fn remove(&mut self, ctx: &Ctx, name: &str) -> Result<()> {
        self.payloads.end_in(name)?;
        self.get(name)?.stop(ctx)?;
        self.get(name)?.kill_leftovers(ctx);
        let names = self.tracked.iter().map(|t| t.name.as_str());
        let others: Vec<&str> = names.filter(|other| *other != name).collect();
        remove_with_parents(ctx, name, &others)?;
        if let Some(at) = self.tracked.iter().position(|t| t.name == name) {
            let done = self.tracked.remove(at);
            self.removed.push(Done {
                name: done.name,
                owner: done.owner,
                allowed: done.allowed,
                reports: done.reports,
            });
        }
        Ok(())
    }

    /// Stops and removes all that has this owner, last made first. What cannot be removed is a
    /// note of the result: it is the harness's trouble, not the scheduler's.
    pub fn tear_down(&mut self, ctx: &Ctx, owner: Owner, result: &mut AssertResult) -> Vec<Done> {
        self.payloads.tear_down(owner, result);
        for tracked in self.tracked.iter_mut().filter(|t| t.owner == owner) {
            if let Err(error) = tracked.stop(ctx) {
                result.note(format!("teardown of cgroup {:?}: {error:#}", tracked.name));
            }
        }
        let (gone, kept) = std::mem::take(&mut self.tracked)
            .into_iter()
            .partition(|t| t.owner == owner);
        self.tracked = kept;
        let mut gone: Vec<Tracked> = gone;
        for tracked in gone.iter_mut().filter(|t| t.name != RUNNER) {
            // Whatever is still running is killed before the directory goes.
            tracked.handles.clear();
            tracked.kill_leftovers(ctx);
        }
        let mut left: Vec<&str> = gone.iter().map(|t| t.name.as_str()).collect();
        left.retain(|name| *name != RUNNER);
        // Made last or deepest in the tree, removed first.
        left.sort_by_key(|name| name.matches('/').count());
        while let Some(name) = left.pop() {
            let kept = self.tracked.iter().map(|t| t.name.as_str());
            let others: Vec<&str> = kept.chain(left.iter().copied()).collect();
            if let Err(error) = remove_with_parents(ctx, name, &others) {
                result.note(format!("teardown of cgroup {name:?}: {error:#}"));
            }
        }
        let (ended, waiting) = std::mem::take(&mut self.removed)
            .into_iter()
            .partition(|d| d.owner == owner);
        self.removed = waiting;
        let mut done: Vec<Done> = ended;
        done.extend(gone.into_iter().map(|t| Done {
            name: t.name,
            owner: t.owner,
            allowed: t.allowed,
            reports: t.reports,
        }));
        done.retain(|d| !d.reports.is_empty());
        for report in done.iter().flat_map(|d| &d.reports) {
            self.collected_iterations = self.collected_iterations.saturating_add(report.iterations);
        }
        done
    }
}

/// Removes a cgroup, and those above it that were made on the way to it, up to one that is among the `others` or has one of them
/// below it.
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

/// Writes a definition's limits.
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
