//! Members that send a request to another member and sleep until it answers. Each member has a word and a stamp. A
//! requester's word is 1 while it waits, and its stamp is the time of the answer. A server's word counts the requests, and
//! its stamp is the time of the last request.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::super::ctx::WorkerCtx;
use super::super::sys;

/// The value of a requester's word while it waits.
const WAITS: u32 = 1;

/// Sends a request to the member `keeper` and sleeps until that member answers. Returns the time of the answer, or `None` when
/// the worker is told to stop.
pub(super) fn ask(ctx: &mut WorkerCtx<'_>, keeper: usize) -> Option<u64> {
    let (bell, asked) = ctx.shared_futex(keeper)?;
    let (own, answered) = ctx.shared_futex(ctx.member)?;
    asked.store(sys::now_ns(), Relaxed);
    own.store(WAITS, Release);
    bell.fetch_add(1, AcqRel);
    sys::futex_wake(bell, 1);
    while own.load(Acquire) == WAITS {
        if ctx.stopped() {
            ctx.idle_until(u64::MAX);
            return None;
        }
        sys::futex_wait(own, WAITS);
    }
    let answered = answered.load(Relaxed);
    ctx.idle_until(answered);
    Some(answered)
}

/// Answers the waiting members among `askers`, each after a call of `serve` with its index, and sleeps while none of them
/// waits. Each answer is an iteration. Returns when the worker is told to stop, or when `serve` returns `false`.
pub(super) fn keep(
    ctx: &mut WorkerCtx<'_>,
    askers: impl Iterator<Item = usize> + Clone,
    mut serve: impl FnMut(&mut WorkerCtx<'_>, usize) -> bool,
) {
    let Some((bell, asked)) = ctx.shared_futex(ctx.member) else {
        return;
    };
    while !ctx.stopped() {
        let (seen, mut idle) = (bell.load(Acquire), true);
        for asker in askers.clone() {
            let Some((word, answered)) = ctx.shared_futex(asker) else {
                return;
            };
            if word.load(Acquire) != WAITS {
                continue;
            }
            if !serve(ctx, asker) {
                return;
            }
            answered.store(sys::now_ns(), Relaxed);
            word.store(0, Release);
            sys::futex_wake(word, 1);
            ctx.iteration();
            idle = false;
        }
        ctx.checkpoint();
        if idle {
            sys::futex_wait(bell, seen);
            // If the worker was told to stop, it was idle until now. Otherwise it was idle until the last request.
            let until = asked.load(Relaxed);
            ctx.idle_until(if ctx.stopped() { u64::MAX } else { until });
        }
    }
}

/// Sleeps until `due`, unless that has passed. Returns `false` when the worker is told to stop.
pub(super) fn wait_for(ctx: &mut WorkerCtx<'_>, due: u64) -> bool {
    match due.saturating_sub(sys::now_ns()) {
        0 => true,
        early => ctx.nap(early).is_some(),
    }
}
