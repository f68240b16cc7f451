//! Scenarios in which cgroups and workers arrive or leave while others run, with equal and unequal loads.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::execute_scenario;
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::WorkSpec;

use super::cpusets::{NAMES, hold};
use super::expect::Expect;
use super::{cut, exactly, needs_cpus, spinners};

/// Runs two busy cgroups, then adds two more at once.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_add_midrun(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus)));
    let new = ["cg_2", "cg_3"];
    let defs = new.map(|name| spinners(name, cpus)).into();
    let steps = vec![hold(0.4), Step::with_defs(defs, HoldSpec::frac(0.6))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .work_conserving(0, &NAMES, &all)
        .equal_share(0, &NAMES);
    expect.work_conserving(1, &["cg_0", "cg_1", "cg_2", "cg_3"], &all);
    for name in new {
        // There are four workers for each CPU.
        expect.served(1, name, 100.0 / 4.0);
    }
    Ok(expect.result())
}

/// Runs three busy cgroups, then removes two of them; the remaining one gets the whole machine.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_remove_midrun(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["cg_0", "cg_1", "cg_2"];
    let backdrop = Backdrop::from_cgroups([
        spinners(names[0], 2 * cpus),
        spinners(names[1], cpus),
        spinners(names[2], cpus),
    ]);
    let remove = [names[1], names[2]].map(Op::remove_cgroup);
    let steps = vec![hold(0.5), Step::new(remove.into(), HoldSpec::frac(0.5))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .work_conserving(0, &names, &all)
        .equal_time(0, &names)
        .work_conserving(1, &names[..1], &all);
    Ok(expect.result())
}

/// Runs a busy cgroup, adds one that is confined to half of the machine, and removes it again.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_cpuset_add_remove(ctx: &Ctx) -> Result<AssertResult> {
    let Some([half, _]) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let (stays, comes) = (2 * cpus.len(), 2 * half.len());
    let backdrop = Backdrop::new().push_cgroup(spinners(NAMES[0], stays));
    let def = spinners(NAMES[1], comes).cpuset(exactly(&half));
    let steps = vec![
        hold(0.25),
        Step::with_defs(vec![def], HoldSpec::frac(0.4)),
        hold(0.35),
    ];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    // The new cgroup has two workers for each CPU of its half, and the machine as a whole has more than two workers for each
    // CPU. So the half has room for the new cgroup's whole fair share.
    let fair_pct = 100.0 * cpus.len() as f64 / (stays + comes) as f64;
    expect
        .work_conserving(0, &NAMES[..1], &cpus)
        .work_conserving(1, &NAMES, &cpus)
        .confined_to(1, NAMES[1], &half)
        .served(1, NAMES[1], fair_pct)
        .work_conserving(2, &NAMES[..1], &cpus);
    Ok(expect.result())
}

/// Runs a cgroup with four workers for each CPU and another with one worker for each CPU, then adds a third with one
/// worker for each CPU.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_add_during_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups([spinners(NAMES[0], 4 * cpus), spinners(NAMES[1], cpus)]);
    let defs = vec![spinners("cg_2", cpus)];
    let steps = vec![hold(0.5), Step::with_defs(defs, HoldSpec::frac(0.5))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .work_conserving(0, &NAMES, &all)
        .equal_share(0, &NAMES)
        .work_conserving(1, &[NAMES[0], NAMES[1], "cg_2"], &all)
        // There are six workers for each CPU.
        .served(1, "cg_2", 100.0 / 6.0);
    Ok(expect.result())
}

/// Runs two equal cgroups, then adds sixteen workers to one of them.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_add_load_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    const MORE: usize = 16;
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus)));
    let join = Op::spawn_workers(NAMES[1], WorkSpec::default().workers(MORE));
    let steps = vec![hold(0.4), Step::with_op(join, HoldSpec::frac(0.6))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    let fair = cpus as f64 / (2 * cpus + MORE) as f64;
    expect
        .work_conserving(0, &NAMES, &all)
        .equal_time(0, &NAMES)
        .work_conserving(1, &NAMES, &all)
        // The lengths of the CPUs' runqueues may differ by a factor of two.
        .share(1, NAMES[0], &NAMES, fair / 2.0);
    Ok(expect.result())
}
