//! Rings of workers that wake each other: one token goes round, its holder works, wakes the
//! next and blocks. A pair is a ring of two.

use super::super::ctx::WorkerCtx;
use super::super::sys;

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
