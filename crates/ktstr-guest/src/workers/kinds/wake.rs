//! Rings of workers that wake each other. One token circulates, and the turn of a member lasts while it has the token: the member
//! works, wakes the next member and blocks. A pair is a ring of two.

use super::super::arch;
use super::super::ctx::WorkerCtx;
use super::super::sys;
use super::super::unable::Unable;

/// Does a number of work units per turn. Parameter: units.
pub(super) fn ring_units(ctx: &mut WorkerCtx<'_>) {
    let units = ctx.params[0];
    ring(ctx, |ctx| ctx.work(units));
}

/// Works for a fixed time per turn. Parameter: ns.
pub(super) fn ring_timed(ctx: &mut WorkerCtx<'_>) {
    let ns = ctx.params[0];
    ring(ctx, |ctx| ctx.work_until(sys::now_ns().saturating_add(ns)));
}

/// Walks through a buffer once per turn, cache line by cache line, then works. Parameters: work units per turn, KiB
/// of the buffer.
pub(super) fn ring_cached(ctx: &mut WorkerCtx<'_>) {
    let [units, kib, ..] = ctx.params;
    let Some(buffer) = super::cpu::buffer(kib) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    ring(ctx, |ctx| {
        ctx.count_units(arch::touch(buffer, 64));
        ctx.work(units);
    });
}

fn ring(ctx: &mut WorkerCtx<'_>, mut turn: impl FnMut(&mut WorkerCtx<'_>)) {
    let mut has_token = ctx.member == 0;
    while !ctx.stopped() {
        if has_token || ctx.wait_turn() {
            has_token = false;
            turn(ctx);
            // An iteration is the work of one turn. It counts before the token is passed on.
            ctx.iteration();
            ctx.wake_next();
        } else if !ctx.stopped() {
            // The ring is broken, because the partner has exited.
            return;
        }
    }
}
