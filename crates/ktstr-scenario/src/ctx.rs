//! The context that a test function gets: the cgroup tree, the machine, the duration.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use ktstr_assert::Assert;

use crate::cgroup::CgroupOps;
use crate::ops::{CgroupDef, CpusetSpec, HoldSpec};
use crate::scheduler::SchedulerSpec;
use crate::topology::TestTopology;
use crate::workload::WorkType;

/// The context of a running test. The harness creates it; unit tests use [`Ctx::builder`].
#[non_exhaustive]
#[derive(Clone)]
pub struct Ctx<'a> {
    /// The cgroup tree of the test.
    pub cgroups: &'a dyn CgroupOps,
    /// The topology of the machine, as the guest sees it.
    pub topo: &'a TestTopology,
    /// The workload window, in guest time.
    pub duration: Duration,
    /// The number of workers of each group that does not declare a number.
    pub workers_per_cgroup: usize,
    /// The process id, in the guest, of the scheduler that runs when the test function is called; `None` if no scheduler
    /// process runs then.
    pub sched_pid: Option<i32>,
    /// The time for the scheduler to settle, 0 by default; see [`Ctx::settled_hold`].
    pub settle: Duration,
    /// The work type that replaces the declared work types in cgroups that are
    /// [`swappable`](crate::ops::CgroupDef::swappable); `None` keeps the declared ones.
    pub work_type_override: Option<WorkType>,
    /// The checks of this test, merged from the scheduler's declaration and the test's attributes.
    pub assert: Assert,
    /// Whether the scenario, before it creates its first cgroup, waits until the host has written the values of the test's
    /// `bpf_map_write` to the scheduler's maps.
    pub wait_for_map_write: bool,
    /// The current step: 0 before the first one, then 1, 2, ….
    pub current_step: Arc<AtomicU16>,
    /// Name of the test.
    pub entry_name: Option<&'static str>,
    /// A hash that identifies the variant of the test.
    pub variant_hash: u64,
    /// The seed of the run, from which all random choices are derived.
    pub seed: u64,
    scheduler: Option<&'static SchedulerSpec>,
    capture_times: Vec<Duration>,
}

impl<'a> Ctx<'a> {
    /// Starts a context with a duration of 1 s, one worker per group, no scheduler, and no checks.
    pub fn builder(cgroups: &'a dyn CgroupOps, topo: &'a TestTopology) -> CtxBuilder<'a> {
        CtxBuilder {
            ctx: Ctx {
                cgroups,
                topo,
                duration: Duration::from_secs(1),
                workers_per_cgroup: 1,
                sched_pid: None,
                settle: Duration::ZERO,
                work_type_override: None,
                assert: Assert::default_checks(),
                wait_for_map_write: false,
                current_step: Arc::new(AtomicU16::new(0)),
                entry_name: None,
                variant_hash: 0,
                seed: 0,
                scheduler: None,
                capture_times: Vec::new(),
            },
        }
    }

    /// Declares a cgroup with one group of [`Ctx::workers_per_cgroup`] workers.
    pub fn cgroup_def(&self, name: impl Into<String>) -> CgroupDef {
        CgroupDef::named(name).workers(self.workers_per_cgroup)
    }

    /// Returns a fixed hold as long as the settling time plus the fraction `frac` of the duration.
    pub fn settled_hold(&self, frac: f64) -> HoldSpec {
        let hold = HoldSpec::frac(frac).requested(self.duration);
        HoldSpec::Fixed(self.settle.saturating_add(hold))
    }

    /// Returns the number of CPUs of a cpuset on this machine; 0 if [`CpusetSpec::resolve_on`] fails.
    pub fn cpuset_cpus(&self, cpuset: &CpusetSpec) -> usize {
        cpuset.resolve_on(self.topo).map_or(0, |cpus| cpus.len())
    }

    /// Returns the times of the periodic captures since the start of the workload window, in ascending order.
    pub fn capture_times(&self) -> &[Duration] {
        &self.capture_times
    }

    /// Returns the path of the file to which the host writes a capture of the guest if this run fails, so that a message can name
    /// the file. The path is relative to the host's folder of sidecars (`ktstr::test_support::sidecar_dir`): the guest does not
    /// know the host's folders, because a run must not depend on them. `VmResult::failure_dump_path` has the whole path.
    ///
    /// # Errors
    /// If the context has no [`Ctx::entry_name`], which is a part of the file's name.
    pub fn failure_dump_path(&self) -> Result<PathBuf, Nameless> {
        let test = self.entry_name.ok_or(Nameless)?;
        Ok(failure_dump_name(test, self.variant_hash).into())
    }

    /// Returns the scheduler under test; `None` if it is the kernel's own, or if [`CtxBuilder::scheduler`] was not called.
    pub fn current_scheduler(&self) -> Option<&'static SchedulerSpec> {
        self.scheduler
    }
}

/// The error of [`Ctx::failure_dump_path`] in a context without the name of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot name the file of a failure, which has the name of its test: this context names no test; set it with \
     CtxBuilder::entry_name"
)]
pub struct Nameless;

/// Returns the name of the file with the capture that a failed run of this test and variant leaves in the folder of sidecars.
pub fn failure_dump_name(test: &str, variant: u64) -> String {
    format!("{test}-{variant:016x}.failure-dump.json")
}

impl fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx")
            .field("entry_name", &self.entry_name)
            .field("cgroups", &self.cgroups.parent_path())
            .field("duration", &self.duration)
            .field("workers_per_cgroup", &self.workers_per_cgroup)
            .field("sched_pid", &self.sched_pid)
            .field("current_step", &self.current_step)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// Builds a [`Ctx`] from the defaults of [`Ctx::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CtxBuilder<'a> {
    ctx: Ctx<'a>,
}

impl<'a> CtxBuilder<'a> {
    /// Sets the workload window.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.ctx.duration = duration;
        self
    }

    /// Sets the number of workers of each group that does not declare a number.
    pub fn workers_per_cgroup(mut self, workers: usize) -> Self {
        self.ctx.workers_per_cgroup = workers;
        self
    }

    /// Sets the process id of the scheduler under test.
    pub fn sched_pid(mut self, pid: impl Into<Option<i32>>) -> Self {
        self.ctx.sched_pid = pid.into();
        self
    }

    /// Sets the settling time.
    pub fn settle(mut self, settle: Duration) -> Self {
        self.ctx.settle = settle;
        self
    }

    /// Sets the work type that replaces the declared ones in swappable cgroups.
    pub fn work_type_override(mut self, work_type: impl Into<Option<WorkType>>) -> Self {
        self.ctx.work_type_override = work_type.into();
        self
    }

    /// Sets the checks of the test; [`Assert::default_checks`] if this is not called.
    pub fn assert(mut self, assert: Assert) -> Self {
        self.ctx.assert = assert;
        self
    }

    /// Sets whether the scenario waits for the host's write to the scheduler's maps.
    pub fn wait_for_map_write(mut self, wait: bool) -> Self {
        self.ctx.wait_for_map_write = wait;
        self
    }

    /// Sets the shared counter of the current step.
    pub fn current_step(mut self, step: Arc<AtomicU16>) -> Self {
        self.ctx.current_step = step;
        self
    }

    /// Sets the name of the test.
    pub fn entry_name(mut self, name: impl Into<Option<&'static str>>) -> Self {
        self.ctx.entry_name = name.into();
        self
    }

    /// Sets the hash that identifies the variant of the test.
    pub fn variant_hash(mut self, hash: u64) -> Self {
        self.ctx.variant_hash = hash;
        self
    }

    /// Sets the run's seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.ctx.seed = seed;
        self
    }

    /// Sets the scheduler under test.
    pub fn scheduler(mut self, spec: &'static SchedulerSpec) -> Self {
        self.ctx.scheduler = Some(spec);
        self
    }

    /// Sets the times of the periodic captures since the start of the workload window, in ascending order. The host takes the
    /// captures; the guest asks the scheduler for its statistics before each of them.
    pub fn capture_times(mut self, times: Vec<Duration>) -> Self {
        self.ctx.capture_times = times;
        self
    }

    /// Returns the finished context, to be passed to a test function.
    pub fn build(self) -> Ctx<'a> {
        self.ctx
    }
}
