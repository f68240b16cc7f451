//! Work that never blocks: integer work, yields, cache traffic.

use super::super::arch;
use super::super::ctx::{CHECKPOINT_UNITS, WorkerCtx};
use super::super::sys;
use super::super::unable::Unable;

/// Spins: 1024 units per iteration.
pub(super) fn spin_wait(ctx: &mut WorkerCtx<'_>) {
    while !ctx.stopped() {
        ctx.work(CHECKPOINT_UNITS);
        ctx.iteration();
    }
}

/// Does 16 units and a yield per iteration.
pub(super) fn yield_heavy(ctx: &mut WorkerCtx<'_>) {
    while !ctx.stopped() {
        ctx.work(16);
        sched_yield();
        ctx.iteration();
    }
}

/// Does 1024 units and a yield per iteration.
pub(super) fn mixed(ctx: &mut WorkerCtx<'_>) {
    while !ctx.stopped() {
        ctx.work(CHECKPOINT_UNITS);
        sched_yield();
        ctx.iteration();
    }
}

/// Does a strided read-modify-write over a buffer. Parameters: size in KiB, stride in bytes.
pub(super) fn cache_pressure(ctx: &mut WorkerCtx<'_>) {
    sweep(ctx, false);
}

/// Works like [`cache_pressure`], with a yield after each sweep.
pub(super) fn cache_yield(ctx: &mut WorkerCtx<'_>) {
    sweep(ctx, true);
}

/// Yields the CPU by `sched_yield(2)`.
pub(super) fn sched_yield() {
    // SAFETY: no arguments, cannot fail on Linux.
    unsafe { libc::sched_yield() };
}

fn sweep(ctx: &mut WorkerCtx<'_>, yields: bool) {
    let [kib, stride, ..] = ctx.params;
    let Some(buffer) = buffer(kib) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    let stride = (stride.max(1) as usize).min(buffer.len());
    while !ctx.stopped() {
        let touched = arch::touch(buffer, stride);
        ctx.count_units(touched);
        ctx.iteration();
        if yields {
            sched_yield();
        }
    }
}

/// Maps a buffer of `kib` KiB, but of at least 1 KiB and at most 1 GiB. Returns `None` if the kernel does not have enough
/// memory.
pub(super) fn buffer(kib: u64) -> Option<&'static mut [u8]> {
    sys::map((kib.clamp(1, 1 << 20) as usize).wrapping_mul(1024))
}
