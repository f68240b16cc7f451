//! Work of members with different scheduling classes, which compete for a CPU or a lock, or wake each other.

use ktstr_scenario::workload::{FutexLockMode, SchedClass, WorkType};

use super::super::attrs::SchedAttr;
use super::super::ctx::{CHECKPOINT_UNITS, WorkerCtx};
use super::super::sys;
use super::super::unable::Unable;
use super::{futex_group, wake};

/// The `SCHED_FIFO` priority of the high-priority members of [`priority_inversion`].
const HIGH: u32 = 40;
/// The `SCHED_FIFO` priority of the medium-priority members.
const MEDIUM: u32 = 20;
/// Time in ns for which the high- and medium-priority members sleep between two pieces of work.
const PAUSE_NS: u64 = 1_000_000;
/// The `SCHED_FIFO` priority of the preempting worker of [`preempt_storm`].
const PREEMPTOR: u32 = 50;

/// Some members are `SCHED_FIFO` and never sleep; the others do the same work with their own policy. Parameters:
/// number of `SCHED_FIFO` members, their priority, units per iteration.
pub(super) fn rt_starvation(ctx: &mut WorkerCtx<'_>) {
    let [rt_workers, priority, units, _] = ctx.params;
    if (ctx.member as u64) < rt_workers {
        ctx.become_policy(SchedAttr::fifo(priority as u32));
    }
    while !ctx.stopped() {
        ctx.work(units);
        ctx.iteration();
    }
}

/// Member 0 is `SCHED_FIFO`; it works and sleeps, while the others spin. Parameters: units, ns of sleep.
pub(super) fn preempt_storm(ctx: &mut WorkerCtx<'_>) {
    let [units, sleep, ..] = ctx.params;
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

/// A pair of members of two classes that wake each other with futexes. Parameter: units of work after each wakeup.
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

/// Members of three priorities contend for one lock. Parameters: number of high-priority members, number of medium-priority
/// members, units of work with the lock, and units without it.
pub(super) fn priority_inversion(ctx: &mut WorkerCtx<'_>) {
    let WorkType::PriorityInversion { pi_mode, .. } = ctx.work_type else {
        return;
    };
    let [high, medium, hold, work] = ctx.params;
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
            // Work for much longer than the lock is held, so that a preempted holder of the lock is delayed for long.
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

/// Takes the lock, works, and releases it. Returns `false` when the worker is told to stop, or when the lock cannot be used.
/// If `asked` is the time at which the lock was requested, the wait for the lock is recorded as a sample.
fn locked(ctx: &mut WorkerCtx<'_>, mode: FutexLockMode, units: u64, asked: Option<u64>) -> bool {
    let Some((lock, _)) = ctx.shared_futex(0) else {
        return false;
    };
    let taken = match mode {
        FutexLockMode::Plain => futex_group::take(ctx, lock).is_some(),
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
        FutexLockMode::Plain => futex_group::give(lock),
        FutexLockMode::Pi => sys::unlock_pi(lock),
    }
    !ctx.stopped()
}
