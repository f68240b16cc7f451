//! Functions that find the kernel and the scheduler's binary as a run does, for tests and tools that need them outside
//! of a run.

use std::path::PathBuf;

use ktstr_kernel::{KernelError, Resolver};
use ktstr_scenario::scheduler::{Scheduler, SchedulerSpec};

use crate::run::{SchedulerSource, find_scheduler_binary};

/// Finds the bootable image of the kernel that a run would use, if it is on this machine: the kernel that
/// `KTSTR_TEST_KERNEL` or `KTSTR_KERNEL` names, otherwise one with sched_ext from the cache, otherwise this machine's own
/// kernel if that has sched_ext. The function fetches nothing, and returns `None` if a run would fetch a kernel.
///
/// # Errors
/// The kernel that a variable names does not exist or is not a kernel, or the cache cannot be read.
pub fn find_kernel() -> anyhow::Result<Option<PathBuf>> {
    let resolver = Resolver {
        offline: true,
        ..Resolver::from_env()?
    };
    let wanted = ktstr_kernel::requested()?;
    match resolver.resolve(wanted.as_deref(), &mut |_| {}) {
        Ok(kernel) => Ok(Some(kernel.boot)),
        Err(KernelError::Offline { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the bootable image of the kernel that a run uses. Unlike [`find_kernel`], this function fetches the kernel if a run
/// would fetch it, unless `KTSTR_OFFLINE` is set.
///
/// # Errors
/// There is no such kernel, and none can be fetched.
pub fn resolve_test_kernel() -> anyhow::Result<PathBuf> {
    let kernel = ktstr_kernel::resolve(None, &mut ktstr_kernel::progress::on_stderr())?;
    Ok(kernel.boot)
}

/// Finds the binary of a scheduler as a run does. Returns its path and how it was found; both are `None` for a scheduler
/// without a binary.
/// `manifest_dir` is the folder of the crate that declares the scheduler (`env!("CARGO_MANIFEST_DIR")`); cargo builds the
/// scheduler in that crate's workspace. If `manifest_dir` is empty, cargo builds in the workspace of the test that runs.
///
/// # Errors
/// The binary does not exist, cannot run in the guest, or does not build.
pub fn resolve_scheduler(
    spec: &SchedulerSpec,
    manifest_dir: &'static str,
) -> anyhow::Result<(Option<PathBuf>, Option<SchedulerSource>)> {
    let scheduler = Scheduler::named("resolved")
        .binary(*spec)
        .manifest_dir(manifest_dir);
    let found = find_scheduler_binary(&scheduler)?;
    Ok(found.map(|found| (found.path, found.source)).unzip())
}
