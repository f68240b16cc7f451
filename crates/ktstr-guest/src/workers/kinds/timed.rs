//! Timed work: bursts and sleeps. The delay of each wakeup is recorded as a sample.

use ktstr_assert::SampleKind;

use super::super::ctx::WorkerCtx;
use super::super::sys;

/// Alternates bursts and sleeps, with exact timers. Parameters: burst in ns, sleep in ns.
pub(super) fn bursty(ctx: &mut WorkerCtx<'_>) {
    exact_timers();
    bursts(ctx);
}

/// Works like [`bursty`], but with exact timers only on request: the default timer slack lets the kernel delay a wakeup.
/// Parameters: burst in ns, sleep in ns, 1 for exact timers.
pub(super) fn idle_churn(ctx: &mut WorkerCtx<'_>) {
    if ctx.params[2] == 1 {
        exact_timers();
    }
    bursts(ctx);
}

fn bursts(ctx: &mut WorkerCtx<'_>) {
    let [burst, sleep, ..] = ctx.params;
    while !ctx.stopped() {
        ctx.work_until(sys::now_ns().saturating_add(burst));
        ctx.iteration();
        if sleep > 0 && !ctx.stopped() {
            ctx.sleep(sleep);
        }
    }
}

/// Wakes up at deadlines that are a fixed interval apart, much as cyclictest does. The length of each sleep is computed from a
/// new reading of the clock. Parameter: interval in ns, at least 1000.
pub(super) fn timer_latency(ctx: &mut WorkerCtx<'_>) {
    exact_timers();
    ctx.samples_are(SampleKind::Timer);
    let interval = ctx.params[0].max(1000);
    let mut deadline = sys::now_ns();
    while !ctx.stopped() {
        let now = sys::now_ns();
        // Skip the deadlines that have passed already. They get no samples of their own, because the sample of the late wakeup
        // before them includes their time.
        let missed = now.saturating_sub(deadline) / interval;
        deadline = deadline.wrapping_add(interval.wrapping_mul(missed.wrapping_add(1)));
        ctx.sleep(deadline.saturating_sub(now));
        ctx.count_units(1);
        ctx.iteration();
    }
}

/// Makes the timers of the calling thread exact: sets the smallest timer slack.
pub(super) fn exact_timers() {
    // SAFETY: plain integers; 1 ns is the smallest slack, 0 would mean the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1u64, 0, 0, 0) };
}
