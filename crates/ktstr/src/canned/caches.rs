//! Workers that go through memory, and a crowd that computes each time it is woken.

use anyhow::Result;
use ktstr_assert::{Assert, AssertResult};
use ktstr_guest::engine::{execute_defs, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{HoldSpec, Step};
use ktstr_scenario::workload::WorkType;

use super::expect::Expect;
use super::{ANY, LOADED, device_io, group, needs_cpus, spinners, spread};

/// Twice as many workers that go through 256 KiB as workers that compute. For equal CPU time the members of a cgroup get
/// about equal work done: the coefficient of variation of their rates is 1 at most, which means that one of them has it all
/// to itself where they are two.
///
/// # Errors
/// As [`execute_steps_with`].
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
        .busy(0, &names, &ctx.topo.all_cpuset())
        .fair(0, &names);
    Ok(expect.result())
}

/// Workers that go through 32 KiB and yield, one for each CPU, beside pairs on futexes, whose partners the kernel likes to
/// pull to the waker's cache.
///
/// # Errors
/// As [`execute_steps_with`].
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
    // Who yields to a pair gets less than who does not.
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?);
    expect
        .busy(0, &names, &ctx.topo.all_cpuset())
        .wakes(0, "pairs", LOADED);
    Ok(expect.result())
}

/// Pairs that keep 32 KiB hot and wake each other through pipes, one for each CPU, beside workers that wait for a device and
/// workers that compute, one of each for each CPU. Who computes could have every CPU all the time, the others want little, and
/// at once.
///
/// # Errors
/// As [`execute_defs`].
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
        .busy(0, &names, &ctx.topo.all_cpuset())
        .wakes(0, "cache_pipe", LOADED)
        // They ask for 0.2 of 2.2 ms. In a queue in which one that computes gets 20 ms in turn they would get 0.2 of some
        // 21 ms, one for each CPU: 0.0095 of it, and a half of that at least.
        .share(0, "io", &names, 0.0045);
    Ok(expect.result())
}

/// One that wakes four, each of whom computes for some tenths of a millisecond; a group of five for every four CPUs.
///
/// # Errors
/// As [`execute_defs`].
pub fn custom_fan_out_compute(ctx: &Ctx) -> Result<AssertResult> {
    let work = WorkType::futex_fan_out(4, 16_384);
    let workers = 5 * ctx.topo.total_cpus().div_ceil(4);
    let mut expect = Expect::of(execute_defs(ctx, vec![group("fan_out", work, workers)])?);
    expect.wakes(0, "fan_out", LOADED);
    Ok(expect.result())
}
