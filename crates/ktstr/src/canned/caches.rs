//! Scenarios whose workers stress the caches, and one in which workers compute after each wakeup.

use anyhow::Result;
use ktstr_assert::{Assert, AssertResult};
use ktstr_guest::engine::{execute_defs, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{HoldSpec, Step};
use ktstr_scenario::workload::WorkType;

use super::expect::Expect;
use super::{ANY, LOADED, device_io, group, needs_cpus, spinners, spread};

/// Runs workers that compute, and twice as many workers that walk through 256 KiB. The workers of a cgroup should do about
/// the same amount of work per CPU-second, so by default the coefficient of variation of these rates must be at most 1.
/// For two workers, the coefficient is 1 if one of them does all the work.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cache_pressure_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    if cpus < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let work = WorkType::cache_pressure(256, 64);
    let defs = vec![spinners("spin", cpus), group("cache", work, 2 * cpus)];
    let checks = Assert {
        max_throughput_cv: ctx.assert.max_throughput_cv.or(Some(1.0)),
        ..ctx.assert
    };
    let names = ["spin", "cache"];
    let steps = vec![Step::with_defs(defs, HoldSpec::FULL)];
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&checks))?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// Runs workers that walk through 32 KiB and yield, one for each CPU, next to pairs that wake each other on futexes.
/// The kernel tends to pull the partner of a pair to the waker's cache.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cache_yield_wake_affine(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    if cpus < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let defs = vec![
        group("cache", WorkType::cache_yield(32, 64), cpus),
        group("pairs", WorkType::futex_ping_pong(1024), cpus / 2 * 2),
    ];
    let names = ["cache", "pairs"];
    let steps = vec![Step::with_defs(defs, HoldSpec::FULL)];
    // A worker that yields to a pair gets less CPU time than one that does not, so any spread is accepted.
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .wakes(0, "pairs", LOADED);
    Ok(expect.result())
}

/// Runs for each CPU a pair of workers that keep 32 KiB hot and wake each other through pipes, a worker that waits for a
/// device, and a worker that computes. The computing workers could use every CPU all the time; the workers that wait for a
/// device need little CPU time, but need it promptly.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_cache_pipe_io_compute_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        group("cache_pipe", WorkType::cache_pipe(32, 1024), 2 * cpus),
        group("io", device_io(), cpus),
        spinners("compute", cpus),
    ];
    let names = ["cache_pipe", "io", "compute"];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .wakes(0, "cache_pipe", LOADED)
        // An I/O worker asks for 0.2 ms of CPU time between sleeps of 2 ms. If it also had to wait for a 20 ms slice of
        // a computing worker each time, it would get 0.2 of 22.2 ms. There is one I/O worker for each CPU, so together
        // they would get 0.009 of the CPU time. At least half of that is required.
        .share(0, "io", &names, 0.0045);
    Ok(expect.result())
}

/// Runs groups of five workers: one wakes the other four, and each of these computes for some tenths of a millisecond. There
/// is one group for every four CPUs.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_fan_out_compute(ctx: &Ctx) -> Result<AssertResult> {
    let work = WorkType::futex_fan_out(4, 16_384);
    let workers = 5 * ctx.topo.total_cpus().div_ceil(4);
    let mut expect = Expect::of(execute_defs(ctx, vec![group("fan_out", work, workers)])?);
    expect.wakes(0, "fan_out", LOADED);
    Ok(expect.result())
}
