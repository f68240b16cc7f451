//! Scenarios with a high rate of events: bursts, forks, yields, and CPUs that go idle and wake up.

use std::time::Duration;

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{HoldSpec, Step};
use ktstr_scenario::workload::WorkType;

use super::expect::Expect;
use super::{ANY, LOADED, SPARE, group, spinners, spread};

/// Runs bursts of 5 ms every 20 ms, with twice as many workers as CPUs, next to a spinner for each CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_bursts(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let bursts = WorkType::Bursty {
        burst_duration: Duration::from_millis(5),
        sleep_duration: Duration::from_millis(15),
    };
    let defs = vec![spinners("spin", cpus), group("bursts", bursts, 2 * cpus)];
    let names = ["spin", "bursts"];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .wakes(0, "bursts", LOADED);
    Ok(expect.result())
}

/// Runs bursts of 40 ms between sleeps of 20 ms, with one worker for each CPU and nothing else, so that a worker that
/// wakes up always finds an idle CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_bursts_spare(ctx: &Ctx) -> Result<AssertResult> {
    let bursts = WorkType::Bursty {
        burst_duration: Duration::from_millis(40),
        sleep_duration: Duration::from_millis(20),
    };
    let defs = vec![group("bursts", bursts, ctx.topo.total_cpus())];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect.wakes(0, "bursts", SPARE);
    Ok(expect.result())
}

/// Runs one worker for each CPU that forks short-lived children, next to one spinner for each CPU.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_fork_storm(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        spinners("spin", cpus),
        group("forks", WorkType::ForkExit, cpus),
    ];
    // The CPU on which a child is placed is arbitrary, so any spread is accepted.
    let steps = vec![Step::with_defs(defs, HoldSpec::FULL)];
    let result = execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?;
    let mut expect = Expect::of(result);
    expect.share(0, "spin", &["spin", "forks"], 0.2);
    Ok(expect.result())
}

/// Runs one worker for each CPU and nothing else. The workers compute in short bursts between short sleeps, so CPUs go idle
/// and wake up all the time.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_idle_churn(ctx: &Ctx) -> Result<AssertResult> {
    let churn = WorkType::IdleChurn {
        burst_duration: Duration::from_micros(500),
        sleep_duration: Duration::from_millis(2),
        precise_timing: true,
    };
    let defs = vec![group("churn", churn, ctx.topo.total_cpus())];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect.wakes(0, "churn", SPARE);
    Ok(expect.result())
}

/// Runs a yielding worker for each CPU, next to spinners.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_yield_storm(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["spin", "yield"];
    let defs = vec![
        spinners("spin", cpus),
        group("yield", WorkType::YieldHeavy, cpus),
    ];
    let steps = vec![Step::with_defs(defs, HoldSpec::FULL)];
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .share(0, "spin", &names, 0.3);
    Ok(expect.result())
}
