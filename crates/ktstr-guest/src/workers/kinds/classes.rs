//! Work of members of different scheduling classes: they take each other's CPU, lock or wake-up.

use ktstr_scenario::workload::{FutexLockMode, SchedClass, WorkType};

use super::super::attrs::SchedAttr;
use super::super::ctx::{CHECKPOINT_UNITS, WorkerCtx};
use super::super::sys;
use super::super::unable::Unable;
use super::{crowd, wake};

/// Priorities of `SCHED_FIFO` around the one lock.
const HIGH: u32 = 40;
const MEDIUM: u32 = 20;
/// How long those two sleep between their turns.
const PAUSE_NS: u64 = 1_000_000;
/// The priority of the worker that preempts.
const PREEMPTOR: u32 = 50;

/// Members up to the first knob are `SCHED_FIFO` of the priority of the second and never sleep; the
/// others do the same work as they are. The third knob is units of an iteration.
pub(super) fn rt_starvation(ctx: &mut WorkerCtx<'_>) {
    let [rt_workers, priority, units, _] = ctx.knobs;
    if (ctx.member as u64) < rt_workers {
        ctx.become_policy(SchedAttr::fifo(priority as u32));
    }
    while !ctx.stopped() {
        ctx.work(units);
        ctx.iteration();
    }
}

/// Member 0 is `SCHED_FIFO`: it works (knob: units) and sleeps (knob: ns). The others spin.
pub(super) fn preempt_storm(ctx: &mut WorkerCtx<'_>) {
    let [units, sleep, ..] = ctx.knobs;
    if ctx.member > 0 {
        while !ctx.stopped() {
            ctx.work(CHECKPOINT_UNITS);
            ctx.iteration();
        }
        return;
    }
    ctx.become_policy(SchedAttr::fifo(PREEMPTOR));
    while !ctx.stopped() {
        ctx.work(units);
        ctx.iteration();
        if !ctx.stopped() {
            ctx.sleep(sleep);
        }
    }
}

/// A pair of two classes around a futex each. Knob: units of a turn.
pub(super) fn asymmetric_waker(ctx: &mut WorkerCtx<'_>) {
    let WorkType::AsymmetricWaker {
        waker_class,
        wakee_class,
        ..
    } = ctx.work_type
    else {
        return;
    };
    let class: SchedClass = if ctx.member == 0 {
        *waker_class
    } else {
        *wakee_class
    };
    ctx.become_policy(SchedAttr::of_class(class));
    wake::ring_units(ctx);
}

/// Three priorities around one lock. Knobs: how many are high, how many medium, units with the lock,
/// units without.
pub(super) fn priority_inversion(ctx: &mut WorkerCtx<'_>) {
    let WorkType::PriorityInversion { pi_mode, .. } = ctx.work_type else {
        return;
    };
    let [high, medium, hold, work] = ctx.knobs;
    let member = ctx.member as u64;
    if member < high {
        ctx.become_policy(SchedAttr::fifo(HIGH));
        while !ctx.stopped() {
            if ctx.nap(PAUSE_NS).is_none() {
                return;
            }
            let asked = sys::now_ns();
            if !locked(ctx, *pi_mode, hold, Some(asked)) {
                return;
            }
            ctx.work(work);
            ctx.iteration();
            ctx.checkpoint();
        }
    } else if member < high.saturating_add(medium) {
        ctx.become_policy(SchedAttr::fifo(MEDIUM));
        while !ctx.stopped() {
            // Long beside the time for which the lock is held.
            ctx.work(hold.saturating_mul(8).max(CHECKPOINT_UNITS));
            ctx.iteration();
            if ctx.nap(PAUSE_NS).is_none() {
                return;
            }
            ctx.checkpoint();
        }
    } else {
        while locked(ctx, *pi_mode, hold, None) {
            ctx.work(work);
            ctx.iteration();
            ctx.checkpoint();
        }
    }
}

/// Takes the lock, works, gives it back; `false` when told to stop. With the time at which it was
/// asked for, how long that took is a sample.
fn locked(ctx: &mut WorkerCtx<'_>, mode: FutexLockMode, units: u64, asked: Option<u64>) -> bool {
    let Some((lock, _)) = ctx.word(0) else {
        return false;
    };
    let taken = match mode {
        FutexLockMode::Plain => crowd::take(ctx, lock).is_some(),
        FutexLockMode::Pi => match sys::lock_pi(lock, || ctx.stopped()) {
            Ok(taken) => taken,
            Err(errno) => {
                ctx.unable(Unable::PiLock, errno);
                false
            }
        },
    };
    if !taken {
        return false;
    }
    if let Some(asked) = asked {
        ctx.sample(sys::now_ns().saturating_sub(asked));
    }
    ctx.work(units);
    match mode {
        FutexLockMode::Plain => crowd::give(lock),
        FutexLockMode::Pi => sys::unlock_pi(lock),
    }
    !ctx.stopped()
}
