//! Groups around one futex: one who wakes all, and many who want the same lock. The first word of
//! the group is the futex; the second counts answers.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::super::ctx::{CHECKPOINT_UNITS, WorkerCtx};
use super::super::sys;

/// One wakes all others and waits until each has taken its turn (knob: work units a turn).
pub(super) fn fan_out(ctx: &mut WorkerCtx<'_>) {
    let (Some((call, stamp)), Some((answers, _))) = (ctx.word(0), ctx.word(1)) else {
        return;
    };
    let receivers = ctx.group.saturating_sub(1) as u32;
    let units = ctx.knobs[0];
    if ctx.member > 0 {
        wait_for_calls(ctx, |ctx| {
            ctx.work(units);
            if answers.fetch_add(1, AcqRel).wrapping_add(1) >= receivers {
                sys::futex_wake(answers, 1);
            }
        });
        return;
    }
    ctx.only_wakes_others();
    while !ctx.stopped() {
        ctx.work(units);
        answers.store(0, Release);
        stamp.store(sys::now_ns(), Relaxed);
        call.fetch_add(1, AcqRel);
        sys::futex_wake(call, i32::MAX);
        ctx.iteration();
        loop {
            let seen = answers.load(Acquire);
            if seen >= receivers || ctx.stopped() {
                break;
            }
            sys::futex_wait(answers, seen);
        }
        ctx.checkpoint();
    }
}

/// One releases all others at once, sleeps (knob: ns), and does it again. The woken do 1024 units.
pub(super) fn herd(ctx: &mut WorkerCtx<'_>) {
    let Some((call, stamp)) = ctx.word(0) else {
        return;
    };
    if ctx.member > 0 {
        wait_for_calls(ctx, |ctx| ctx.work(CHECKPOINT_UNITS));
        return;
    }
    ctx.only_wakes_others();
    let pause = ctx.knobs[0];
    while !ctx.stopped() {
        ctx.work(64);
        stamp.store(sys::now_ns(), Relaxed);
        call.fetch_add(1, AcqRel);
        sys::futex_wake(call, i32::MAX);
        ctx.iteration();
        if !ctx.stopped() {
            ctx.sleep(pause);
        }
    }
}

/// Blocks until the next call, again and again; each wake-up is a sample.
fn wait_for_calls(ctx: &mut WorkerCtx<'_>, mut turn: impl FnMut(&mut WorkerCtx<'_>)) {
    let Some((call, stamp)) = ctx.word(0) else {
        return;
    };
    let mut answered = 0;
    while !ctx.stopped() {
        let now = call.load(Acquire);
        if now == answered {
            sys::futex_wait(call, now);
            continue;
        }
        answered = now;
        ctx.sample(sys::now_ns().saturating_sub(stamp.load(Relaxed)));
        ctx.checkpoint();
        turn(ctx);
        ctx.iteration();
    }
}

/// Works with the lock (knob: units), then without (knob: units). 0 is free, 1 held, 2 held and
/// wanted.
pub(super) fn mutex(ctx: &mut WorkerCtx<'_>) {
    let Some((lock, stamp)) = ctx.word(0) else {
        return;
    };
    let [hold, work] = ctx.knobs;
    while !ctx.stopped() {
        if !take(ctx, lock) {
            return;
        }
        ctx.work(hold);
        if lock.swap(0, Release) == 2 {
            stamp.store(sys::now_ns(), Relaxed);
            sys::futex_wake(lock, 1);
        }
        ctx.work(work);
        ctx.iteration();
    }
}

/// Takes the lock; `false` when told to stop first. How long after the release a sleeper has it is
/// a sample.
fn take(ctx: &mut WorkerCtx<'_>, lock: &AtomicU32) -> bool {
    if lock.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
        return true;
    }
    let mut slept = false;
    while lock.swap(2, Acquire) != 0 {
        if ctx.stopped() {
            return false;
        }
        sys::futex_wait(lock, 2);
        slept = true;
    }
    if let (true, Some((_, stamp))) = (slept, ctx.word(0)) {
        let released = stamp.load(Relaxed);
        if released > 0 {
            ctx.sample(sys::now_ns().saturating_sub(released));
        }
        ctx.checkpoint();
    }
    true
}
