//! Work that changes cgroups: a worker's own cgroup, or that of children that are about to exit.

use ktstr_scenario::workload::{ReapMode, WorkType};

use super::super::ctx::WorkerCtx;
use super::super::sys;
use super::super::text::{self, Text};
use super::super::unable::Unable;
use super::churn;

/// The prefix of the cgroups that a worker creates below its own.
pub(in super::super) const CHURN: &str = "churn_";
/// Number of forks between two waits for all children, with [`ReapMode::SigIgn`].
const UNREAPED: u32 = 32;

/// Moves round-robin through cgroups below its own. Parameters: number of cgroups, and the time in each in ns. The
/// process that started the worker removes the cgroups after the worker has ended.
pub(super) fn cgroup_churn(ctx: &mut WorkerCtx<'_>) {
    let [groups, cycle, ..] = ctx.params;
    let own = match text::own_cgroup() {
        Ok(own) => own,
        Err(errno) => return ctx.unable(Unable::Cgroup, errno),
    };
    let child = |n: u64| {
        let mut dir = Text::of(own.bytes());
        dir.push(b"/").push(CHURN.as_bytes()).number(n);
        dir
    };
    for n in 0..groups {
        // SAFETY: the path ends with a NUL and outlives the call.
        let made = unsafe { libc::mkdir(child(n).as_ptr(), 0o755) };
        if made < 0 && sys::errno() != libc::EEXIST {
            return ctx.unable(Unable::Cgroup, sys::errno());
        }
    }
    let mut control = Text::of(own.bytes());
    control.push(b"/cgroup.subtree_control");
    let mut at = ctx.base as u64;
    let mut has_cpu = false;
    while !ctx.stopped() {
        let mut procs = child(at % groups.max(1));
        procs.push(b"/cgroup.procs");
        match procs.write(b"0") {
            Ok(()) => {}
            Err(_) if ctx.stopped() => return,
            Err(errno) => return ctx.unable(Unable::Cgroup, errno),
        }
        // The scheduler tells these cgroups apart only if the CPU controller is enabled. The kernel refuses to enable it
        // while a task is left in the parent, so this is retried until the last worker has moved.
        has_cpu = has_cpu || control.write(b"+cpu").is_ok();
        at = at.wrapping_add(1);
        ctx.work_until(sys::now_ns().saturating_add(cycle));
        ctx.iteration();
        ctx.checkpoint();
    }
}

/// Forks children that exit at once, and moves each to the cgroup `dest` while it is exiting. Each child counts as a unit of
/// work, and each successful move as another.
pub(super) fn attach_storm(ctx: &mut WorkerCtx<'_>) {
    let WorkType::CgroupAttachStorm { dest, reap } = ctx.work_type else {
        return;
    };
    let mut path = match text::own_cgroup() {
        Ok(own) => own,
        Err(errno) => return ctx.unable(Unable::Cgroup, errno),
    };
    path.cut_at_last(b'/');
    path.push(b"/").push(dest.as_bytes()).push(b"/cgroup.procs");
    let procs = match path.open(libc::O_WRONLY) {
        Ok(procs) => procs,
        Err(errno) => return ctx.unable(Unable::Dest, errno),
    };
    if *reap == ReapMode::SigIgn {
        // SAFETY: no handler is involved.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    let mut unreaped = 0u32;
    while let Some(pid) = churn::child(ctx) {
        let mut number = Text::of(b"");
        number.number(pid as u64);
        ctx.count_units(1);
        // A child that has already exited is fine: this race is the purpose of the work type.
        if text::write(procs, number.bytes()).is_ok() {
            ctx.count_units(1);
        }
        unreaped = unreaped.wrapping_add(1);
        match reap {
            ReapMode::Waitpid => gone(pid),
            // With SIGCHLD ignored, this waits until there are no children left.
            ReapMode::SigIgn if unreaped.is_multiple_of(UNREAPED) => gone(-1),
            ReapMode::SigIgn => {}
        }
        ctx.iteration();
        ctx.checkpoint();
    }
    if *reap == ReapMode::SigIgn {
        gone(-1);
    }
}

/// Waits for a child, or with -1 for all children while SIGCHLD is ignored.
fn gone(pid: i32) {
    let mut status = 0;
    // SAFETY: waits for our own children, which are about to exit.
    while unsafe { libc::waitpid(pid, &mut status, 0) } < 0 && sys::errno() == libc::EINTR {}
}
