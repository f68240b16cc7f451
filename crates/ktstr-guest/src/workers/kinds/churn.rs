//! Work that keeps changing what the scheduler knows about a task: forks, nice values, affinity,
//! policy.

use super::super::ctx::WorkerCtx;
use super::super::sys;
use super::super::text::{self, Text};
use super::super::unable::Unable;

/// Maximum number of NUMA nodes to consider.
const MAX_NODES: usize = 16;

/// Forks a child that exits at once, and waits for it.
pub(super) fn fork_exit(ctx: &mut WorkerCtx<'_>) {
    while let Some(pid) = child(ctx) {
        let mut status = 0;
        // SAFETY: waits for our own child. The wait continues when the stop signal arrives, because the child is about to exit
        // and must be reaped.
        while unsafe { libc::waitpid(pid, &mut status, 0) } < 0 && sys::errno() == libc::EINTR {}
        ctx.iteration();
        ctx.count_units(1);
        ctx.checkpoint();
    }
}

/// Forks a child that exits at once, and returns its process id. Returns `None` if the worker is told to stop, or gives up
/// because the kernel refuses to fork.
pub(super) fn child(ctx: &WorkerCtx<'_>) -> Option<i32> {
    if ctx.stopped() {
        return None;
    }
    // SAFETY: the child calls only `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: ends the child and never returns.
        unsafe { libc::_exit(0) };
    }
    if pid < 0 {
        ctx.unable(Unable::Fork, sys::errno());
        return None;
    }
    Some(pid)
}

/// Does 512 units at each nice value from -20 to 19. If the kernel does not permit a value, the previous value stays in
/// effect for these units.
pub(super) fn nice_sweep(ctx: &mut WorkerCtx<'_>) {
    let mut nice = -20;
    while !ctx.stopped() {
        // SAFETY: plain integers; 0 is the caller.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
        nice = if nice >= 19 {
            -20
        } else {
            nice.wrapping_add(1)
        };
        ctx.work(512);
        ctx.iteration();
    }
}

/// Pins itself to a random one of its allowed CPUs after each piece of work. Parameter: units per piece.
pub(super) fn affinity_churn(ctx: &mut WorkerCtx<'_>) {
    let cpus = sys::mask_len(&ctx.allowed);
    while !ctx.stopped() {
        ctx.work(ctx.params[0]);
        let pick = ctx.rng.below(u64::from(cpus)) as u32;
        if let Some(cpu) = sys::mask_nth(&ctx.allowed, pick) {
            // If the cpuset has shrunk in the meantime, this choice may have no effect.
            let _ = sys::set_affinity(0, &sys::mask_of(cpu));
        }
        ctx.iteration();
        ctx.checkpoint();
    }
}

/// After each piece of work, pins a random worker of the same handle, which may be the caller, to a
/// random one of the CPUs that the caller may use. Parameter: units per piece.
pub(super) fn cross_affinity_churn(ctx: &mut WorkerCtx<'_>) {
    let cpus = sys::mask_len(&ctx.allowed);
    let workers = ctx.workers();
    while !ctx.stopped() {
        ctx.work(ctx.params[0]);
        let other = ctx.rng.below(u64::from(workers)) as usize;
        let sibling = ctx.tid_of(other);
        let pick = ctx.rng.below(u64::from(cpus)) as u32;
        if let (Some(cpu), true) = (sys::mask_nth(&ctx.allowed, pick), sibling > 0) {
            // This has no effect if the CPU is outside of the sibling's cpuset, or if the sibling
            // has exited.
            let _ = sys::set_affinity(sibling, &sys::mask_of(cpu));
        }
        ctx.iteration();
        ctx.checkpoint();
    }
}

/// Restricts itself to the CPUs of one NUMA node after the other, and works there. Parameter: ns per
/// node.
pub(super) fn numa_migration_churn(ctx: &mut WorkerCtx<'_>) {
    let mut nodes = [[0; sys::MASK_WORDS]; MAX_NODES];
    let mut count = 0usize;
    for node in 0..MAX_NODES as u64 {
        let mut path = Text::of(b"/sys/devices/system/node/node");
        path.number(node).push(b"/cpulist");
        let Ok(list) = path.read() else { continue };
        let cpus = sys::mask_and(&text::cpulist(list.bytes()), &ctx.allowed);
        if let (Some(place), true) = (nodes.get_mut(count), sys::mask_len(&cpus) > 0) {
            *place = cpus;
            count += 1;
        }
    }
    if count < 2 {
        return ctx.unable(Unable::Nodes, 0);
    }
    let mut at = ctx.base.wrapping_add(ctx.member);
    while !ctx.stopped() {
        if let Some(cpus) = nodes.get(at % count) {
            // If the cpuset has shrunk in the meantime, this may have no effect.
            let _ = sys::set_affinity(0, cpus);
        }
        at = at.wrapping_add(1);
        ctx.work_until(sys::now_ns().saturating_add(ctx.params[0]));
        ctx.iteration();
        ctx.checkpoint();
    }
}

/// Cycles through `SCHED_OTHER`, `SCHED_BATCH` and `SCHED_IDLE`. Parameter: units between two changes.
pub(super) fn policy_churn(ctx: &mut WorkerCtx<'_>) {
    let mut at = 0usize;
    let policies = [libc::SCHED_BATCH, libc::SCHED_IDLE, libc::SCHED_OTHER];
    while !ctx.stopped() {
        ctx.work(ctx.params[0]);
        let param = libc::sched_param { sched_priority: 0 };
        if let Some(policy) = policies.get(at % 3) {
            // SAFETY: `param` is a valid sched_param; 0 is the caller.
            unsafe { libc::sched_setscheduler(0, *policy, &param) };
        }
        at = at.wrapping_add(1);
        ctx.iteration();
        ctx.checkpoint();
    }
}
