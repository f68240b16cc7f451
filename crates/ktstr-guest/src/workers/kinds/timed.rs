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

/// Wakes up at deadlines that are a fixed interval apart, as cyclictest does, and measures each delay from the deadline. If each
/// iteration takes longer than the interval, the worker never sleeps. Parameter: interval in ns, at least 1000.
pub(super) fn timer_latency(ctx: &mut WorkerCtx<'_>) {
    exact_timers();
    ctx.samples_are(SampleKind::Timer);
    let interval = ctx.params[0].max(1000);
    let mut deadline = sys::now_ns();
    while !ctx.stopped() {
        deadline = deadline.saturating_add(interval);
        let Some(late) = ctx.sleep_until(deadline) else {
            break;
        };
        deadline = last_passed(deadline, late, interval);
        ctx.count_units(1);
        ctx.iteration();
    }
}

/// Returns the last deadline that had passed when the delay `late` of `deadline` was measured. The deadlines after
/// `deadline`, up to the returned one, get no samples of their own, because the delay covers them. A later deadline gets one.
fn last_passed(deadline: u64, late: u64, interval: u64) -> u64 {
    deadline.saturating_add(late / interval * interval)
}

/// Makes the timers of the calling thread exact: sets the smallest timer slack.
pub(super) fn exact_timers() {
    // SAFETY: plain integers; 1 ns is the smallest slack, 0 would mean the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1u64, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_a_late_wakeup_covers_are_skipped_and_later_ones_are_not() {
        assert_eq!(last_passed(1_000, 0, 100), 1_000);
        assert_eq!(last_passed(1_000, 99, 100), 1_000);
        // The wakeup for 1,000 came at 1,350, so 1,100 to 1,300 have passed, and 1,400 is next.
        assert_eq!(last_passed(1_000, 350, 100) + 100, 1_400);
    }
}
