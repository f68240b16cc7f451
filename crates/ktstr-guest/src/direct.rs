//! Workers and cgroups without steps, for a test function that controls them itself.
//!
//! [`setup_cgroups`] creates cgroups, forks workers into them and releases the workers; [`collect_all`] stops and
//! judges them. Prefer steps for whatever a test can express in steps: they have phases, record which worker belongs
//! to which cgroup, and check between two steps that the scheduler still runs.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ktstr_assert::{Assert, AssertResult};
use ktstr_scenario::Ctx;
use ktstr_scenario::cgroup::{CgroupError, CgroupOps, Controller};
use ktstr_scenario::topology::TestTopology;
use ktstr_scenario::workload::{
    AffinityError, AffinityIntent, ResolvedAffinity, WorkType, WorkloadConfig,
};

use crate::workers::WorkloadHandle;

/// A group of cgroups. When the group is dropped, its cgroups are removed in reverse order of creation.
pub struct CgroupGroup<'a> {
    cgroups: &'a dyn CgroupOps,
    names: Vec<String>,
}

impl<'a> CgroupGroup<'a> {
    /// Creates an empty group in the tree that `cgroups` manages.
    pub fn new(cgroups: &'a dyn CgroupOps) -> Self {
        Self {
            cgroups,
            names: Vec::new(),
        }
    }

    /// Creates a cgroup whose tasks may use only the CPUs of `cpuset`.
    ///
    /// # Errors
    /// The name is invalid, or the kernel rejected the controller, the directory or the cpuset.
    pub fn add_cgroup(&mut self, name: &str, cpuset: &BTreeSet<usize>) -> Result<(), CgroupError> {
        self.cgroups.setup(&[Controller::Cpuset].into())?;
        self.add_cgroup_no_cpuset(name)?;
        self.cgroups.set_cpuset(name, cpuset)
    }

    /// Creates a cgroup whose tasks may use all CPUs.
    ///
    /// # Errors
    /// The name is invalid, or the kernel rejected the directory.
    pub fn add_cgroup_no_cpuset(&mut self, name: &str) -> Result<(), CgroupError> {
        self.cgroups.create_cgroup(name)?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Returns the names of the cgroups in the order of their creation.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl Drop for CgroupGroup<'_> {
    fn drop(&mut self) {
        for name in self.names.drain(..).rev() {
            if let Err(error) = self.cgroups.remove_cgroup(&name) {
                eprintln!("ktstr: the cgroup {name:?} of a test could not be removed: {error}");
            }
        }
    }
}

/// Returns the default workload of a test: the default number of workers of a cgroup, all of them spinning.
pub fn dfl_wl(ctx: &Ctx) -> WorkloadConfig {
    WorkloadConfig {
        num_workers: ctx.workers_per_cgroup,
        ..WorkloadConfig::default()
    }
}

/// Creates the cgroups `cg_0` to `cg_{n-1}`, waits for `ctx.settle`, and starts the workers of `workload` in each. The
/// handles are in the order of the cgroups.
///
/// # Errors
/// A cgroup could not be created, a worker could not be started or moved, or the scheduler under test has exited.
pub fn setup_cgroups<'a>(
    ctx: &Ctx<'a>,
    n: usize,
    workload: &WorkloadConfig,
) -> Result<(Vec<WorkloadHandle>, CgroupGroup<'a>)> {
    let mut group = CgroupGroup::new(ctx.cgroups);
    for i in 0..n {
        group.add_cgroup_no_cpuset(&format!("cg_{i}"))?;
    }
    std::thread::sleep(ctx.settle);
    if let Some(pid) = crate::engine::scheduler_pid(ctx) {
        let pid = rustix::process::Pid::from_raw(pid).context("the scheduler has no process id")?;
        if rustix::process::test_kill_process(pid).is_err() {
            bail!("scheduler process died before the workers were started");
        }
    }
    let handles = start_in(ctx, group.names(), |_| workload.clone())?;
    Ok((handles, group))
}

/// Starts a different kind of work in each of `cgroups`, which must exist: spinning; bursts of 50 ms with pauses of
/// 100 ms; writes to a file; spinning and yielding; and mostly yielding. From the sixth cgroup on, the kinds repeat. A
/// cgroup that writes has two workers; every other cgroup has the default number of workers.
///
/// # Errors
/// A worker could not be started or moved.
pub fn spawn_diverse(ctx: &Ctx, cgroups: &[&str]) -> Result<Vec<WorkloadHandle>> {
    let names: Vec<String> = cgroups.iter().map(|name| (*name).to_owned()).collect();
    start_in(ctx, &names, |i| {
        let (work_type, workers) = match i % 5 {
            0 => (WorkType::SpinWait, ctx.workers_per_cgroup),
            1 => (
                WorkType::bursty(Duration::from_millis(50), Duration::from_millis(100)),
                ctx.workers_per_cgroup,
            ),
            2 => (WorkType::IoSyncWrite, 2),
            3 => (WorkType::Mixed, ctx.workers_per_cgroup),
            _ => (WorkType::YieldHeavy, ctx.workers_per_cgroup),
        };
        WorkloadConfig {
            num_workers: workers,
            work_type,
            ..WorkloadConfig::default()
        }
    })
}

/// Forks the workers of each cgroup, moves them into it, and finally releases all of them.
fn start_in(
    ctx: &Ctx,
    names: &[String],
    workload: impl Fn(usize) -> WorkloadConfig,
) -> Result<Vec<WorkloadHandle>> {
    let mut handles = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let handle = WorkloadHandle::spawn_seeded(&workload(i), ctx.seed.wrapping_add(i as u64))
            .with_context(|| format!("starting the workers of cgroup {name:?}"))?;
        ctx.cgroups
            .move_tasks(name, &handle.worker_pids_for_cgroup_procs()?)?;
        handles.push(handle);
    }
    handles.iter_mut().for_each(WorkloadHandle::start);
    Ok(handles)
}

/// Stops the workers of all handles and judges them by `checks`. The workers of each handle are judged as one cgroup, as the
/// engine judges the workers of a step: a worker that could not do its work fails the test whatever the checks are.
pub fn collect_all(handles: Vec<WorkloadHandle>, checks: &Assert) -> AssertResult {
    let mut result = AssertResult::pass();
    for handle in handles {
        let reports = handle.stop_and_collect();
        let mut judged = checks.assert_cgroup_on(&reports, None, None);
        crate::engine::acquit_of_gaps(&mut judged, &reports);
        crate::engine::report_ends(&mut judged, None, &reports);
        result.merge(judged);
    }
    result
}

/// Resolves an affinity intent for a cgroup with this cpuset; a cpuset of `None` stands for all CPUs.
///
/// # Errors
/// The intent leaves no CPU, or names something that the machine lacks.
pub fn resolve_affinity_for_cgroup(
    affinity: &AffinityIntent,
    cpuset: Option<&BTreeSet<usize>>,
    topology: &TestTopology,
) -> Result<ResolvedAffinity, AffinityError> {
    affinity.resolve(cpuset, topology)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ktstr_scenario::workload::AluWidth;

    use super::*;
    use crate::workers::tests::{ended, progress};

    fn started(work_type: WorkType) -> WorkloadHandle {
        let config = WorkloadConfig {
            num_workers: 1,
            work_type,
            ..WorkloadConfig::default()
        };
        let mut handle = WorkloadHandle::spawn(&config).unwrap();
        handle.start();
        handle
    }

    #[test]
    fn a_worker_that_cannot_work_fails_the_test_without_any_check() {
        let handle = started(WorkType::alu_hot(AluWidth::Amx));
        ended(handle.worker_pids()[0]);
        let result = collect_all(vec![handle], &Assert::NO_OVERRIDES);
        let failures: Vec<String> = result
            .failure_details()
            .map(|d| d.message.clone())
            .collect();
        assert!(
            failures.iter().any(|text| text.contains("AMX")),
            "{failures:?}"
        );
    }

    #[test]
    fn a_worker_that_was_stopped_has_no_gap_that_counts() {
        let handle = started(WorkType::SpinWait);
        let pid = handle.worker_pids()[0];
        progress(&handle);
        let kill = |signal| {
            // SAFETY: the process is a child of this one that has not been waited for.
            assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        };
        // The gap arises while the worker is stopped. The worker then waits neither for a CPU nor for an event.
        kill(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1500));
        kill(libc::SIGCONT);
        let result = collect_all(vec![handle], &Assert::NO_OVERRIDES.max_gap_ms(1000));
        assert!(!result.is_fail(), "{result:?}");
        let notes: Vec<String> = result.info_notes.iter().map(|n| n.to_string()).collect();
        assert!(
            notes.iter().any(|note| note.contains("got nothing done")),
            "{notes:?}"
        );
    }
}
