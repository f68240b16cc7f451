//! Pairs that send each other signals.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::super::ctx::WorkerCtx;

/// Signals that arrived in this process. Every worker has the handler from before the gate on: a
/// partner may be let go first.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// The handler of `SIGUSR2`.
pub(in super::super) extern "C" fn on_signal(_: libc::c_int) {
    ARRIVED.fetch_add(1, Relaxed);
}

/// Sends the partner a volley and works. Knobs: signals of a volley, units of work. A signal that
/// arrived is a unit of work, too: those that come while one is pending are one.
pub(super) fn signal_storm(ctx: &mut WorkerCtx<'_>) {
    let [signals, units, ..] = ctx.knobs;
    let partner = ctx.tid_of(ctx.base.wrapping_add(1).wrapping_sub(ctx.member));
    let mut seen = ARRIVED.load(Relaxed);
    while !ctx.stopped() {
        for _ in 0..signals {
            // SAFETY: plain integers. The partner is not reaped before all are told to stop.
            unsafe { libc::syscall(libc::SYS_tkill, partner, libc::SIGUSR2) };
        }
        ctx.work(units);
        let now = ARRIVED.load(Relaxed);
        ctx.count_units(now.wrapping_sub(seen));
        seen = now;
        ctx.iteration();
        ctx.checkpoint();
    }
}
