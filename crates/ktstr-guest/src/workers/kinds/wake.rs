//! Rings of workers that wake each other: one token goes round, its holder works, wakes the
//! next and blocks. A pair is a ring of two.

use super::super::ctx::WorkerCtx;
use super::super::pure;
use super::super::sys;
use super::super::unable::Unable;

/// Knob: work units a turn.
pub(super) fn ring_units(ctx: &mut WorkerCtx<'_>) {
    let units = ctx.knobs[0];
    ring(ctx, |ctx| ctx.work(units));
}

/// Knob: nanoseconds a turn.
pub(super) fn ring_timed(ctx: &mut WorkerCtx<'_>) {
    let ns = ctx.knobs[0];
    ring(ctx, |ctx| ctx.work_until(sys::now_ns().saturating_add(ns)));
}

/// Knobs: work units a turn, and KiB of a buffer that each turn goes through once, a cache line after
/// the other.
pub(super) fn ring_cached(ctx: &mut WorkerCtx<'_>) {
    let [units, kib, ..] = ctx.knobs;
    let Some(buffer) = super::cpu::buffer(kib) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    ring(ctx, |ctx| {
        ctx.count_units(pure::touch(buffer, 64));
        ctx.work(units);
    });
}

fn ring(ctx: &mut WorkerCtx<'_>, mut turn: impl FnMut(&mut WorkerCtx<'_>)) {
    let mut has_token = ctx.member == 0;
    while !ctx.stopped() {
        if has_token || ctx.wait_turn() {
            has_token = false;
            turn(ctx);
            // An iteration is a turn that was taken and handed on.
            ctx.iteration();
            ctx.wake_next();
        } else if !ctx.stopped() {
            // The ring is broken: its partner is gone.
            return;
        }
    }
}
