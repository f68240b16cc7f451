//! Scenarios whose workers wake each other, with idle CPUs and without.

use std::time::Duration;

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::execute_defs;
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::CgroupDef;
use ktstr_scenario::workload::{WakeMechanism, WorkType};

use super::expect::Expect;
use super::{LOADED, SPARE, WakeBounds, group, needs_cpus, spinners};

fn chain(wake: WakeMechanism) -> WorkType {
    WorkType::WakeChain {
        depth: 4,
        wake,
        work_per_hop: Duration::from_micros(100),
    }
}

fn run(
    ctx: &Ctx,
    defs: Vec<CgroupDef>,
    wakers: &[&str],
    bound: WakeBounds,
) -> Result<AssertResult> {
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    for name in wakers {
        expect.wakes(0, name, bound);
    }
    Ok(expect.result())
}

/// Runs pairs of workers that wake each other through pipes, one pair for every two CPUs.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_cgroup_pipe_io(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    if cpus < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let work = WorkType::PipeIo { burst_iters: 256 };
    let defs = vec![group("pipes", work, cpus / 2 * 2)];
    run(ctx, defs, &["pipes"], SPARE)
}

/// Runs pairs of workers that wake each other through futexes, one pair for every two CPUs.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_futex_ping_pong(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    if cpus < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let work = WorkType::FutexPingPong { spin_iters: 256 };
    let defs = vec![group("futexes", work, cpus / 2 * 2)];
    run(ctx, defs, &["futexes"], SPARE)
}

/// Runs rings of four workers that wake each other through pipes or through futexes. There is one ring of each kind for
/// every two CPUs, and only one worker of a ring is awake at a time.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_wake_chain(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    if cpus < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let defs = vec![
        group("by_pipe", chain(WakeMechanism::Pipe), cpus / 2 * 4),
        group("by_futex", chain(WakeMechanism::Futex), cpus / 2 * 4),
    ];
    run(ctx, defs, &["by_pipe", "by_futex"], SPARE)
}

/// Runs a group of five workers for every four CPUs: one worker wakes the other four, which answer.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_fan_out_wake(ctx: &Ctx) -> Result<AssertResult> {
    let work = WorkType::FutexFanOut {
        fan_out: 4,
        spin_iters: 256,
    };
    let defs = vec![group(
        "fan_out",
        work,
        5 * ctx.topo.total_cpus().div_ceil(4),
    )];
    run(ctx, defs, &["fan_out"], LOADED)
}

/// Runs two workers for each CPU that sleep, and one more worker that wakes all of them at once with a broadcast.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_thundering_herd(ctx: &Ctx) -> Result<AssertResult> {
    let waiters = 2 * ctx.topo.total_cpus();
    let work = WorkType::ThunderingHerd {
        waiters,
        batches: 1000,
        inter_batch_ms: 20,
    };
    run(
        ctx,
        vec![group("herd", work, waiters + 1)],
        &["herd"],
        LOADED,
    )
}

/// Runs twice as many workers as CPUs, rounded up to groups of four that contend for a lock. A worker holds the lock for
/// a fifth of its work. The scenario makes no claims of its own, so only the checks of the test apply.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_lock_convoy(ctx: &Ctx) -> Result<AssertResult> {
    let work = WorkType::MutexContention {
        contenders: 4,
        hold_iters: 256,
        work_iters: 1024,
    };
    let workers = 4 * (2 * ctx.topo.total_cpus()).div_ceil(4);
    run(ctx, vec![group("convoy", work, workers)], &[], LOADED)
}

/// Runs rings like those of [`custom_wake_chain`] next to a spinner for each CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_wake_under_load(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        spinners("spin", cpus),
        group("by_pipe", chain(WakeMechanism::Pipe), 4 * cpus.div_ceil(2)),
        group(
            "by_futex",
            chain(WakeMechanism::Futex),
            4 * cpus.div_ceil(2),
        ),
    ];
    run(ctx, defs, &["by_pipe", "by_futex"], LOADED)
}
