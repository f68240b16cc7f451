//! Work with clocks: bursts and sleeps. The lateness of each wake-up is a sample.

use super::super::ctx::WorkerCtx;
use super::super::sys;

/// Knobs: burst and sleep in nanoseconds, exact timers.
pub(super) fn bursty(ctx: &mut WorkerCtx<'_>) {
    exact_timers();
    idle_churn(ctx);
}

/// The same with the process's default timer slack.
pub(super) fn idle_churn(ctx: &mut WorkerCtx<'_>) {
    let [burst, sleep, ..] = ctx.knobs;
    while !ctx.stopped() {
        ctx.work_until(sys::now_ns().saturating_add(burst));
        ctx.iteration();
        if sleep > 0 && !ctx.stopped() {
            ctx.sleep(sleep);
        }
    }
}

/// As cyclictest does: sleeps to a grid of absolute deadlines, knob nanoseconds apart.
pub(super) fn timer_latency(ctx: &mut WorkerCtx<'_>) {
    exact_timers();
    ctx.samples_are_timer_latencies();
    let interval = ctx.knobs[0].max(1000);
    let mut deadline = sys::now_ns();
    while !ctx.stopped() {
        let now = sys::now_ns();
        // Deadlines already missed are passed over; the lateness that missed them is sampled.
        let missed = now.saturating_sub(deadline) / interval;
        deadline = deadline.wrapping_add(interval.wrapping_mul(missed.wrapping_add(1)));
        ctx.sleep(deadline.saturating_sub(now));
        ctx.count_units(1);
        ctx.iteration();
    }
}

fn exact_timers() {
    // SAFETY: plain integers; 1 ns is the smallest slack, 0 would mean the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1u64, 0, 0, 0) };
}
