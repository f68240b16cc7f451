//! Scenarios with unequal loads: between cgroups, over time, or by nice value.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{HoldSpec, Step};
use ktstr_scenario::workload::WorkType;

use super::expect::Expect;
use super::{ANY, group, spinners, spread};

/// Runs four cgroups with four, one, two and one worker for each CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_cgroup_4way_load_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["cg_0", "cg_1", "cg_2", "cg_3"];
    let defs = names
        .iter()
        .zip([4, 1, 2, 1])
        .map(|(name, each)| spinners(name, each * cpus));
    let mut expect = Expect::of(execute_defs(ctx, defs.collect())?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// Runs four steps in which two cgroups alternate between a heavy and a light load.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cgroup_load_oscillation(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["cg_0", "cg_1"];
    let steps = (0..4).map(|step| {
        let load = |at: usize| {
            if (step + at).is_multiple_of(2) {
                4 * cpus
            } else {
                cpus
            }
        };
        let defs = vec![spinners(names[0], load(0)), spinners(names[1], load(1))];
        Step::with_defs(defs, HoldSpec::frac(0.25))
    });
    // A quarter of the window is too short for a load balancer to even out every worker, so any
    // spread is accepted.
    let checks = spread(ctx, ANY);
    let result = execute_steps_with(ctx, steps.collect(), Some(&checks))?;
    let mut expect = Expect::of(result);
    for step in 0..4 {
        expect.work_conserving(step, &names, &ctx.topo.all_cpuset());
    }
    expect.equal_share_over(0..4, &names);
    Ok(expect.result())
}

/// Runs three cgroups of spinners at nice -5, 0 and 5 (weights 3121, 1024 and 335:
/// kernel/sched/core.c). No cgroup has a CPU controller, so each worker counts with its own weight.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_nice_mix(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["nice_minus_5", "nice_0", "nice_plus_5"];
    let defs = names
        .iter()
        .zip([-5, 0, 5])
        .map(|(name, nice)| spinners(name, cpus).nice(nice));
    let mut expect = Expect::of(execute_defs(ctx, defs.collect())?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .weighted_share(0, names[0], names[1], 1.5)
        .weighted_share(0, names[1], names[2], 1.5)
        // The weights give the workers at nice 5 a share of 0.075. A third of that is required.
        .share(0, names[2], &names, 0.025);
    Ok(expect.result())
}

/// Runs workers that step through all nice values, next to spinners.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_nice_sweep(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        spinners("spin", cpus),
        group("sweep", WorkType::NiceSweep, cpus),
    ];
    let names = ["spin", "sweep"];
    let steps = vec![Step::with_defs(defs, HoldSpec::FULL)];
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .share(0, "spin", &names, 0.05)
        .share(0, "sweep", &names, 0.05);
    Ok(expect.result())
}
