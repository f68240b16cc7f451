//! Groups that use shared futex words: one member wakes all others, or many members contend for a lock. Word 0
//! (`shared_futex(0)`) is the word on which the members sleep. In `fan_out` and `fan_out_compute`, word 1 counts the members
//! that have finished their turn in this round, and member 0 sleeps on it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::super::ctx::{CHECKPOINT_UNITS, WorkerCtx};
use super::super::sys;
use super::super::unable::Unable;
use super::matrix::Matrices;

/// In each round, one member works and wakes all others, then waits until each of them has worked, too. Parameter: units of work
/// of each member in a round.
pub(super) fn fan_out(ctx: &mut WorkerCtx<'_>) {
    let units = ctx.params[0];
    fan(ctx, units, |ctx| ctx.work(units));
}

/// Works like [`fan_out`], but a woken member sleeps and then multiplies matrices. Parameters: total size of the three matrices
/// in KiB, multiplications of each woken member in a round, ns of sleep.
pub(super) fn fan_out_compute(ctx: &mut WorkerCtx<'_>) {
    let [kib, operations, thought, _] = ctx.params;
    let Some(matrices) = Matrices::map(kib) else {
        return ctx.unable(Unable::Memory, sys::errno());
    };
    fan(ctx, 64, |ctx| {
        ctx.count_units(1);
        if thought > 0 && ctx.nap(thought).is_none() {
            return;
        }
        for _ in 0..operations {
            if !matrices.multiply(ctx) {
                return;
            }
        }
    });
}

/// Member 0 does `units` units of work, wakes all others, and waits until the last of them has called `turn`.
fn fan(ctx: &mut WorkerCtx<'_>, units: u64, mut turn: impl FnMut(&mut WorkerCtx<'_>)) {
    let (Some((call, stamp)), Some((answers, _))) = (ctx.shared_futex(0), ctx.shared_futex(1))
    else {
        return;
    };
    let receivers = ctx.group.saturating_sub(1) as u32;
    if ctx.member > 0 {
        let posted = |_| stamp.load(Relaxed);
        wait_for_calls(ctx, u64::MAX, posted, |ctx| {
            turn(ctx);
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

/// One member calls all others, and then sleeps. It repeats both a given number of times. A call wakes all members that wait,
/// with a single futex wake. A woken member does 1024 units. Parameters: ns of sleep, number of calls.
pub(super) fn herd(ctx: &mut WorkerCtx<'_>) {
    let Some((call, _)) = ctx.shared_futex(0) else {
        return;
    };
    // Each waiter has a stamp of its own: the time of the first call that the waiter has not answered yet. The latency of a
    // waiter that missed calls is therefore counted from the first call that it missed.
    if ctx.member > 0 {
        let Some((_, own)) = ctx.shared_futex(ctx.member) else {
            return;
        };
        // A call that comes while this member works does not wake the member, so there is no latency to record.
        let posted = |slept| Some(own.swap(0, Relaxed)).filter(|_| slept).unwrap_or(0);
        wait_for_calls(ctx, ctx.params[1], posted, |ctx| ctx.work(CHECKPOINT_UNITS));
        return;
    }
    ctx.only_wakes_others();
    let [pause, calls, ..] = ctx.params;
    for _ in 0..calls {
        if ctx.stopped() {
            return;
        }
        ctx.work(64);
        let now = sys::now_ns();
        for (_, stamp) in (1..ctx.group).filter_map(|member| ctx.shared_futex(member)) {
            let _ = stamp.compare_exchange(0, now, Relaxed, Relaxed);
        }
        call.fetch_add(1, AcqRel);
        sys::futex_wake(call, i32::MAX);
        ctx.iteration();
        if !ctx.stopped() {
            ctx.sleep(pause);
        }
    }
    ctx.park();
}

/// Repeatedly blocks until the next call of member 0, and then runs `turn`. `posted` returns the time from which the latency of
/// the wakeup is counted, or 0 if no sample shall be recorded; its argument says whether the worker slept before the call. After
/// the last of `calls` calls, the worker parks.
fn wait_for_calls(
    ctx: &mut WorkerCtx<'_>,
    calls: u64,
    posted: impl Fn(bool) -> u64,
    mut turn: impl FnMut(&mut WorkerCtx<'_>),
) {
    let Some((call, _)) = ctx.shared_futex(0) else {
        return;
    };
    let mut answered = 0;
    let mut slept = false;
    while !ctx.stopped() {
        let now = call.load(Acquire);
        if now == answered {
            sys::futex_wait(call, now);
            slept = true;
            continue;
        }
        answered = now;
        let posted = posted(slept);
        if posted > 0 {
            ctx.sample(sys::now_ns().saturating_sub(posted));
        }
        slept = false;
        ctx.checkpoint();
        turn(ctx);
        ctx.iteration();
        if u64::from(answered) >= calls {
            ctx.park();
        }
    }
}

/// Works with the lock held, then without it. The lock's word is 0 when free, 1 when held, and 2
/// when held and contended. Parameters: units with the lock, units without it.
pub(super) fn mutex(ctx: &mut WorkerCtx<'_>) {
    let Some((lock, stamp)) = ctx.shared_futex(0) else {
        return;
    };
    let [hold, work, ..] = ctx.params;
    while !ctx.stopped() {
        match take(ctx, lock) {
            None => return,
            Some(false) => {}
            // Record how long after the release a sleeping member got the lock.
            Some(true) => {
                let released = stamp.load(Relaxed);
                if released > 0 {
                    ctx.sample(sys::now_ns().saturating_sub(released));
                }
                ctx.checkpoint();
            }
        }
        ctx.work(hold);
        // Store this before the release: a member that takes the lock at once must not read an
        // older stamp.
        stamp.store(sys::now_ns(), Relaxed);
        give(lock);
        ctx.work(work);
        ctx.iteration();
    }
}

/// Takes the lock. Returns whether the worker had to wait for the lock, or `None` when the worker is
/// told to stop first.
pub(super) fn take(ctx: &WorkerCtx<'_>, lock: &AtomicU32) -> Option<bool> {
    if lock.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
        return Some(false);
    }
    let mut slept = false;
    while lock.swap(2, Acquire) != 0 {
        if ctx.stopped() {
            return None;
        }
        sys::futex_wait(lock, 2);
        slept = true;
    }
    Some(slept)
}

/// Releases the lock and wakes a waiting member.
pub(super) fn give(lock: &AtomicU32) {
    if lock.swap(0, Release) == 2 {
        sys::futex_wake(lock, 1);
    }
}
