//! Pairs of workers that send each other signals.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::super::ctx::WorkerCtx;

std::thread_local! {
    /// The number of signals that arrived in this thread. `tkill` sends a signal to one thread, in which the handler then runs,
    /// so the counter is thread-local.
    static ARRIVED: AtomicU64 = const { AtomicU64::new(0) };
}

/// The handler of `SIGUSR2`. Every worker installs it before the gate opens, because its partner may
/// be released first.
pub(in super::super) extern "C" fn on_signal(_: libc::c_int) {
    ARRIVED.with(|arrived| arrived.fetch_add(1, Relaxed));
}

/// In each iteration, sends a number of signals to the partner and then does units of work. A signal that arrives counts as a
/// unit of work, too. Fewer may arrive than were sent: the kernel drops a signal while an earlier one is still pending.
/// Parameters: the number of signals, and the number of units of work.
pub(super) fn signal_storm(ctx: &mut WorkerCtx<'_>) {
    let [signals, units, ..] = ctx.params;
    let partner = ctx.tid_of(ctx.base.wrapping_add(1).wrapping_sub(ctx.member));
    let arrived = || ARRIVED.with(|arrived| arrived.load(Relaxed));
    let mut seen = arrived();
    while !ctx.stopped() {
        for _ in 0..signals {
            // SAFETY: plain integers. The partner is not reaped before all workers are told to
            // stop.
            unsafe { libc::syscall(libc::SYS_tkill, partner, libc::SIGUSR2) };
        }
        ctx.work(units);
        let now = arrived();
        ctx.count_units(now.wrapping_sub(seen));
        seen = now;
        ctx.iteration();
        ctx.checkpoint();
    }
}
