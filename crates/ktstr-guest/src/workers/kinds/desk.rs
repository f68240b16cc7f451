//! Members of a group who ask another member and sleep until it answers. Each member has a word and a stamp: of who asks, whether
//! it waits, and when it was answered; of who is asked, how often it was, and when last.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::super::ctx::WorkerCtx;
use super::super::sys;

/// The word of a member who waits.
const WAITS: u32 = 1;

/// Asks a member and sleeps until it answers: when it did, or `None` when told to stop.
pub(super) fn ask(ctx: &mut WorkerCtx<'_>, keeper: usize) -> Option<u64> {
    let (bell, asked) = ctx.word(keeper)?;
    let (own, answered) = ctx.word(ctx.member)?;
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

/// Answers those of `askers` who wait, after `serve`, and sleeps while none does. Returns when told to stop, or when `serve`
/// answers `false`. Each answer is an iteration.
pub(super) fn keep(
    ctx: &mut WorkerCtx<'_>,
    askers: impl Iterator<Item = usize> + Clone,
    mut serve: impl FnMut(&mut WorkerCtx<'_>) -> bool,
) {
    let Some((bell, asked)) = ctx.word(ctx.member) else {
        return;
    };
    while !ctx.stopped() {
        let (seen, mut idle) = (bell.load(Acquire), true);
        for asker in askers.clone() {
            let Some((word, answered)) = ctx.word(asker) else {
                return;
            };
            if word.load(Acquire) != WAITS {
                continue;
            }
            if !serve(ctx) {
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
            // Told to stop, it has waited until now.
            let until = asked.load(Relaxed);
            ctx.idle_until(if ctx.stopped() { u64::MAX } else { until });
        }
    }
}

/// Sleeps until `due`, if that is still to come; `false` when told to stop.
pub(super) fn wait_for(ctx: &mut WorkerCtx<'_>, due: u64) -> bool {
    match due.saturating_sub(sys::now_ns()) {
        0 => true,
        early => ctx.nap(early).is_some(),
    }
}
