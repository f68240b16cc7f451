//! Work that never blocks: integer work, yields, cache traffic.

use super::super::ctx::{CHECKPOINT_UNITS, WorkerCtx};
use super::super::pure;

/// Pure CPU: 1024 units an iteration.
pub(super) fn spin_wait(ctx: &mut WorkerCtx<'_>) {
    while !ctx.stopped() {
        ctx.work(CHECKPOINT_UNITS);
        ctx.iteration();
    }
}

/// 16 units and a yield an iteration.
pub(super) fn yield_heavy(ctx: &mut WorkerCtx<'_>) {
    while !ctx.stopped() {
        ctx.work(16);
        sched_yield();
        ctx.iteration();
    }
}

/// 1024 units and a yield an iteration.
pub(super) fn mixed(ctx: &mut WorkerCtx<'_>) {
    while !ctx.stopped() {
        ctx.work(CHECKPOINT_UNITS);
        sched_yield();
        ctx.iteration();
    }
}

/// Strided read-modify-write over a buffer: knobs are its size in KiB and the stride in bytes.
pub(super) fn cache_pressure(ctx: &mut WorkerCtx<'_>) {
    sweep(ctx, false);
}

/// The same with a yield after each sweep.
pub(super) fn cache_yield(ctx: &mut WorkerCtx<'_>) {
    sweep(ctx, true);
}

fn sched_yield() {
    // SAFETY: no arguments, cannot fail on Linux.
    unsafe { libc::sched_yield() };
}

fn sweep(ctx: &mut WorkerCtx<'_>, yields: bool) {
    let len = (ctx.knobs[0].clamp(1, 1 << 20) as usize).wrapping_mul(1024);
    let stride = (ctx.knobs[1].max(1) as usize).min(len);
    // SAFETY: a fresh private mapping of `len` bytes; unmapped when the process ends.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return;
    }
    // SAFETY: the mapping made above, which only this process has, and only here.
    let buffer = unsafe { std::slice::from_raw_parts_mut(at.cast::<u8>(), len) };
    while !ctx.stopped() {
        let touched = pure::touch(buffer, stride);
        ctx.count_units(touched);
        ctx.iteration();
        if yields {
            sched_yield();
        }
    }
}
