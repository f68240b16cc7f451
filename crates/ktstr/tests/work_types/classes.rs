//! Tests of work in several scheduling classes. Workers that starve others are pinned to CPU 1, so that the test's own thread can
//! run on another CPU.

use anyhow::{Result, ensure};
use ktstr::prelude::*;

use super::watch::{Seen, each, of, on, watch};

const OTHER: u64 = libc::SCHED_OTHER as u64;
const FIFO: u64 = libc::SCHED_FIFO as u64;
const BATCH: u64 = libc::SCHED_BATCH as u64;
const IDLE: u64 = libc::SCHED_IDLE as u64;
const DEADLINE: u64 = libc::SCHED_DEADLINE as u64;

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("RtStarvation", starvation),
            ("PreemptStorm", preemption),
            ("AsymmetricWaker", pairs),
        ],
    )
}

fn policies(all: &[Seen]) -> Vec<u64> {
    all.iter().map(|seen| seen.task.policy).collect()
}

fn starvation(ctx: &Ctx) -> Result<()> {
    let all = watch(
        ctx,
        &on(WorkType::rt_starvation(1, 1, 10, 1024), 2, &[1]),
        200,
    )?;
    ensure!(policies(&all) == [FIFO, OTHER], "{all:?}");
    ensure!(
        all[0].report.cpu_time_ns > 5 * all[1].report.cpu_time_ns,
        "{all:?}"
    );
    ensure!(all[0].report.realtime && !all[1].report.realtime, "{all:?}");
    // The workers have different entitlements, so the checks do not compare them with each other.
    ensure!(
        all[0].report.entitlement != all[1].report.entitlement,
        "{all:?}"
    );
    Ok(())
}

fn preemption(ctx: &Ctx) -> Result<()> {
    let all = watch(ctx, &on(WorkType::preempt_storm(1, 256, 500), 2, &[1]), 100)?;
    ensure!(policies(&all) == [FIFO, OTHER], "{all:?}");
    let wakes = all[0].report.iterations;
    ensure!(all[0].woken() && wakes > 20, "{all:?}");
    // A wake-up preempts the other worker only if that worker is running at the time, so not every wake-up does; at least half
    // of them must have done so. The kernel's count was read before the worker was stopped, so it may lack the preemptions of
    // the last wake-ups.
    ensure!(all[1].task.preempted + 5 >= wakes / 2, "{all:?}");
    Ok(())
}

fn pairs(ctx: &Ctx) -> Result<()> {
    for (waker, wakee, expected) in [
        (SchedClass::Rt, SchedClass::Idle, [FIFO, IDLE]),
        (SchedClass::Cfs, SchedClass::Deadline, [OTHER, DEADLINE]),
    ] {
        let all = watch(
            ctx,
            &of(WorkType::asymmetric_waker(waker, wakee, 64), 2),
            50,
        )?;
        ensure!(policies(&all) == expected, "{all:?}");
        ensure!(all.iter().all(Seen::woken), "{all:?}");
    }
    // The work type does not change the declared nice value.
    let nice = of(
        WorkType::asymmetric_waker(SchedClass::Cfs, SchedClass::Batch, 64),
        2,
    )
    .nice(7);
    let all = watch(ctx, &nice, 20)?;
    ensure!(policies(&all) == [OTHER, BATCH], "{all:?}");
    ensure!(all.iter().all(|seen| seen.task.nice == 7), "{all:?}");
    Ok(())
}

/// The worker of high priority waits for a lock that the worker of low priority holds. The work type makes the worker of medium
/// priority work for eight times as long as the lock is held (ktstr-guest/src/workers/kinds/classes.rs). During that time the
/// holder cannot run on the same CPU, unless it inherits the high priority.
pub fn inversion(ctx: &Ctx) -> Result<AssertResult> {
    let longest = |mode| -> Result<(u64, u64)> {
        let work = WorkType::PriorityInversion {
            high_count: 1,
            medium_count: 1,
            low_count: 1,
            hold_iters: 2048,
            work_iters: 64,
            pi_mode: mode,
        };
        let all = watch(ctx, &on(work, 3, &[1]), 500)?;
        ensure!(policies(&all)[..2] == [FIFO, FIFO], "{all:?}");
        let high = &all[0].report;
        ensure!(high.wake_sample_total > 10, "{high:?}");
        let medium = &all[1].report;
        let hold = medium.cpu_time_ns * 2048 / medium.work_units.max(1);
        Ok((
            high.wake_latencies_ns.iter().copied().max().unwrap_or(0),
            hold,
        ))
    };
    let (plain, hold) = longest(FutexLockMode::Plain)?;
    let (inherited, _) = longest(FutexLockMode::Pi)?;
    println!("longest wait {plain} ns plain, {inherited} ns with inheritance; held for {hold} ns");
    ensure!(
        plain > 4 * hold && inherited < 4 * hold,
        "longest wait {plain} ns plain, {inherited} ns with inheritance; held for {hold} ns"
    );
    Ok(AssertResult::pass())
}
