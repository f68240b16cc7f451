//! Requests between the members of a group of workers: a member sends a request to another one, and sleeps until that one
//! answers. Each member has a word and a stamp. A requester's word is 1 while it waits. Its stamp is the time of its request
//! while it waits, and the time of the answer afterwards. A server's word counts the requests.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::super::ctx::WorkerCtx;
use super::super::sys;

/// The value of a requester's word while it waits.
const WAITS: u32 = 1;

/// Sends a request to the member `keeper` and sleeps until that member answers. Returns the time of the answer. Returns
/// `None` when the worker is told to stop, and also if the members share no words or the group has no such member.
pub(super) fn ask(ctx: &mut WorkerCtx<'_>, keeper: usize) -> Option<u64> {
    let (bell, _) = ctx.shared_futex(keeper)?;
    let (own, stamp) = ctx.shared_futex(ctx.member)?;
    stamp.store(sys::now_ns(), Relaxed);
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
    let answered = stamp.load(Relaxed);
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
    let Some((bell, _)) = ctx.shared_futex(ctx.member) else {
        return;
    };
    while !ctx.stopped() {
        let (seen, mut idle) = (bell.load(Acquire), true);
        for asker in askers.clone() {
            let Some((word, stamp)) = ctx.shared_futex(asker) else {
                return;
            };
            if word.load(Acquire) != WAITS {
                continue;
            }
            if !serve(ctx, asker) {
                return;
            }
            stamp.store(sys::now_ns(), Relaxed);
            word.store(0, Release);
            sys::futex_wake(word, 1);
            ctx.iteration();
            idle = false;
        }
        ctx.checkpoint();
        if idle {
            sys::futex_wait(bell, seen);
            // The worker was idle until the first request, or until now if there is none or it was told to stop. The time
            // after the first request is a gap: the scheduler gave the worker no CPU, although it had work.
            let requests = askers.clone().filter_map(|asker| ctx.shared_futex(asker));
            let first = first_request(requests).filter(|_| !ctx.stopped());
            ctx.idle_until(first.unwrap_or(u64::MAX));
        }
    }
}

/// Returns the time of the first request that is not answered yet, or `None` if there is none. `members` are the words and
/// stamps of the members that may have sent one.
fn first_request<'a>(members: impl Iterator<Item = (&'a AtomicU32, &'a AtomicU64)>) -> Option<u64> {
    let waiting = members.filter(|(word, _)| word.load(Acquire) == WAITS);
    waiting.map(|(_, stamp)| stamp.load(Relaxed)).min()
}

/// Sleeps until `due`, unless that has passed. Returns `false` when the worker is told to stop.
pub(super) fn wait_for(ctx: &mut WorkerCtx<'_>, due: u64) -> bool {
    match due.saturating_sub(sys::now_ns()) {
        0 => true,
        early => ctx.nap(early).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that gets no CPU for 10 s after a request starved for 10 s, also if another request came in the meantime.
    #[test]
    fn the_first_request_ends_the_idle_time_of_a_server() {
        let member = |word, ns| (AtomicU32::new(word), AtomicU64::new(ns));
        let members = [
            member(WAITS, 9_900),
            member(WAITS, 100),
            member(0, 50),
            member(WAITS, 5_000),
        ];
        let of = |some: &[(AtomicU32, AtomicU64)]| first_request(some.iter().map(|(w, s)| (w, s)));
        assert_eq!(of(&members), Some(100));
        assert_eq!(of(&members[2..3]), None);
        assert_eq!(of(&[]), None);
    }
}
