//! Scenarios with cgroups nested up to three levels deep.

use std::collections::BTreeSet;

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_scenario, execute_scenario_with, execute_steps};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::{WorkSpec, WorkType};

use super::cpusets::{change, hold};
use super::expect::Expect;
use super::{ANY, cut, exactly, group, ms, needs_cpus, spinners, spread};

/// Runs four equal cgroups: one at the first level, one at the second and two at the third.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn custom_nested_cgroup_steady(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["top", "a/x", "a/y/p", "a/y/q"];
    let step = Step {
        ops: ["a", "a/y"].map(Op::add_cgroup).into(),
        setup: names.map(|name| spinners(name, cpus)).to_vec().into(),
        hold: HoldSpec::FULL,
    };
    let mut expect = Expect::of(execute_steps(ctx, vec![step])?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names)
        .few_switches(0, &names);
    Ok(expect.result())
}

/// Moves workers from the third level to the first, to the second and back, next to a cgroup that stays in place.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_nested_cgroup_task_move(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::new().extend_ops([
        Op::add_cgroup("a"),
        Op::add_cgroup("a/y"),
        Op::add_cgroup("top"),
        Op::add_cgroup("a/x"),
        Op::add_cgroup_def(spinners("a/y/z", cpus)),
        Op::add_cgroup_def(spinners("stays", cpus)),
    ]);
    let step = |from, to| Step::with_op(Op::move_all_tasks(from, to), HoldSpec::frac(0.25));
    let steps = vec![
        hold(0.25),
        step("a/y/z", "top"),
        step("top", "a/x"),
        step("a/x", "a/y/z"),
    ];
    // The workers are counted in the cgroup where they end up.
    let names = ["a/y/z", "stays"];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    for step in 0..4 {
        expect.work_conserving(step, &names, &ctx.topo.all_cpuset());
    }
    expect.equal_time_over(0..4, &names);
    Ok(expect.result())
}

/// Runs a busy cgroup next to a small tree that is created and removed four times. One leaf of the tree is busy, and the
/// workers of the other sleep most of the time.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_nested_cgroup_rapid_churn(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::new().push_cgroup(spinners("stays", cpus));
    let step = || Step {
        ops: ["p", "p/q"].map(Op::add_cgroup).into(),
        setup: vec![
            spinners("p/q/busy", cpus),
            group("p/asleep", WorkType::idle_churn(ms(1), ms(10), false), cpus),
        ]
        .into(),
        hold: HoldSpec::frac(0.25),
    };
    let steps = (0..4).map(|_| step()).collect();
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    // Two workers for each CPU are always runnable. The workers that sleep for 10 of 11 ms take at most a tenth of a
    // CPU each.
    let fair_pct = 100.0 * (1.0 - 0.1) / 2.0;
    for step in 0..4 {
        let names = ["stays", "p/q/busy", "p/asleep"];
        expect.work_conserving(step, &names, &ctx.topo.all_cpuset());
    }
    expect.served_over(0..4, "p/q/busy", fair_pct);
    Ok(expect.result())
}

/// Two cgroups each have one half of the machine, and then swap the halves. Their workers are in child cgroups, which have no
/// cpuset of their own and inherit their parents' CPUs.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_nested_cgroup_cpuset(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.total_cpus();
    let leaves = ["a/x", "b/x"];
    let backdrop = Backdrop::new().extend_ops([
        Op::add_cgroup("a"),
        Op::add_cgroup("b"),
        Op::set_cpuset("a", exactly(&halves[0])),
        Op::set_cpuset("b", exactly(&halves[1])),
        Op::add_cgroup_def(spinners(leaves[0], cpus)),
        Op::add_cgroup_def(spinners(leaves[1], cpus)),
    ]);
    let steps = vec![
        hold(0.4),
        change(vec![Op::swap_cpusets("a", "b")]),
        hold(0.5),
    ];
    // The halves may differ by a CPU or by an LLC, as in `custom_cgroup_cpuset_change_imbalance`, so any spread is accepted.
    let checks = spread(ctx, ANY);
    let run = execute_scenario_with(ctx, backdrop, steps, Some(&checks))?;
    let mut expect = Expect::of(run);
    let mut keeps_to = |step, leaf: &str, half: &BTreeSet<usize>| {
        expect
            .work_conserving(step, &[leaf], half)
            .confined_to(step, leaf, half);
    };
    for (at, leaf) in leaves.iter().enumerate() {
        keeps_to(0, leaf, &halves[at]);
        keeps_to(2, leaf, &halves[1 - at]);
    }
    Ok(expect.result())
}

/// Runs four workers for each CPU at the second level, and one for each CPU at the third and at the first level.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn custom_nested_cgroup_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["a/x", "a/y/z", "top"];
    let each = [4, 1, 1];
    let defs = names.iter().zip(each);
    let step = Step {
        ops: ["a", "a/y"].map(Op::add_cgroup).into(),
        setup: defs
            .map(|(name, each)| spinners(name, each * cpus))
            .collect::<Vec<_>>()
            .into(),
        hold: HoldSpec::FULL,
    };
    let mut expect = Expect::of(execute_steps(ctx, vec![step])?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// A tree without CPU controllers has two equal leaves. Workers are added to one leaf until it has three times as many as
/// the other. Each task counts on its own, whatever the shape of the tree.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_nested_cgroup_no_ctrl(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["a/x", "a/y/z"];
    let backdrop = Backdrop::new().extend_ops([
        Op::add_cgroup("a"),
        Op::add_cgroup("a/y"),
        Op::add_cgroup_def(spinners(names[0], cpus)),
        Op::add_cgroup_def(spinners(names[1], cpus)),
    ]);
    let join = Op::spawn_workers(names[1], WorkSpec::default().workers(2 * cpus));
    let steps = vec![hold(0.4), Step::with_op(join, HoldSpec::frac(0.6))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .work_conserving(0, &names, &all)
        .equal_time(0, &names)
        .work_conserving(1, &names, &all)
        // The fair shares are a quarter and three quarters. The lengths of the CPUs' runqueues may differ by a
        // factor of two.
        .share(1, names[0], &names, 0.25 / 2.0)
        .share(1, names[1], &names, 0.75 / 2.0);
    Ok(expect.result())
}
