//! Cgroups and workers that come and go beside others, of equal and of unequal load.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::execute_scenario;
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::WorkSpec;

use super::cpusets::{NAMES, hold};
use super::expect::Expect;
use super::{cut, exactly, needs_cpus, spinners};

/// Two busy cgroups are joined by two more at once.
///
/// # Errors
/// As [`execute_scenario`].
pub fn custom_cgroup_add_midrun(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus)));
    let new = ["cg_2", "cg_3"];
    let defs = new.map(|name| spinners(name, cpus)).into();
    let steps = vec![hold(0.4), Step::with_defs(defs, HoldSpec::frac(0.6))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect.busy(0, &NAMES, &all).fair(0, &NAMES);
    expect.busy(1, &["cg_0", "cg_1", "cg_2", "cg_3"], &all);
    for name in new {
        // Four workers for each CPU.
        expect.served(1, name, 100.0 / 4.0);
    }
    Ok(expect.result())
}

/// Of three busy cgroups two are removed while they work; the one that is left gets the whole machine.
///
/// # Errors
/// As [`execute_scenario`].
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
        .busy(0, &names, &all)
        .even(0, &names)
        .busy(1, &names[..1], &all);
    Ok(expect.result())
}

/// Beside a busy cgroup one comes that is confined to a half of the machine, and goes.
///
/// # Errors
/// As [`execute_scenario`].
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
    // Two of them for each CPU of the half is less than the machine has for each CPU, so they can get what all get.
    let fair_pct = 100.0 * cpus.len() as f64 / (stays + comes) as f64;
    expect
        .busy(0, &NAMES[..1], &cpus)
        .busy(1, &NAMES, &cpus)
        .within(1, NAMES[1], &half)
        .served(1, NAMES[1], fair_pct)
        .busy(2, &NAMES[..1], &cpus);
    Ok(expect.result())
}

/// Two cgroups with four workers and one for each CPU are joined by a third, with one.
///
/// # Errors
/// As [`execute_scenario`].
pub fn custom_cgroup_add_during_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups([spinners(NAMES[0], 4 * cpus), spinners(NAMES[1], cpus)]);
    let defs = vec![spinners("cg_2", cpus)];
    let steps = vec![hold(0.5), Step::with_defs(defs, HoldSpec::frac(0.5))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .busy(0, &NAMES, &all)
        .fair(0, &NAMES)
        .busy(1, &[NAMES[0], NAMES[1], "cg_2"], &all)
        // Six workers for each CPU.
        .served(1, "cg_2", 100.0 / 6.0);
    Ok(expect.result())
}

/// Sixteen workers join one of two equal cgroups.
///
/// # Errors
/// As [`execute_scenario`].
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
        .busy(0, &NAMES, &all)
        .even(0, &NAMES)
        .busy(1, &NAMES, &all)
        // Queues of CPUs may be unequal by a factor of two.
        .share(1, NAMES[0], &NAMES, fair / 2.0);
    Ok(expect.result())
}
