//! Scenarios in which cgroups are added, removed, recreated, nested, and emptied by moving their tasks.

use std::time::Duration;

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_scenario, execute_steps};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::WorkType;

use super::expect::Expect;
use super::{group, spinners};

/// Runs two busy cgroups, then adds a third.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn cgroup_add(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(["cg_0", "cg_1"].map(|name| spinners(name, cpus)));
    let steps = vec![
        Step::hold(HoldSpec::frac(0.5)),
        Step::with_defs(vec![spinners("cg_2", cpus)], HoldSpec::frac(0.5)),
    ];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    let three = ["cg_0", "cg_1", "cg_2"];
    expect
        .work_conserving(0, &three[..2], &all)
        .equal_share(0, &three[..2])
        .work_conserving(1, &three, &all)
        .equal_share(1, &three[..2])
        .served(1, "cg_2", 100.0 / 3.0);
    Ok(expect.result())
}

/// Runs two busy cgroups, then removes one; the other gets the whole machine.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn cgroup_remove(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::new().push_cgroup(spinners("cg_0", cpus));
    let steps = vec![
        Step::with_defs(vec![spinners("cg_1", cpus)], HoldSpec::frac(0.5)),
        Step::hold(HoldSpec::frac(0.5)),
    ];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .work_conserving(0, &["cg_0", "cg_1"], &all)
        .served(0, "cg_1", 100.0 / 2.0)
        .work_conserving(1, &["cg_0"], &all);
    Ok(expect.result())
}

/// Runs a busy cgroup next to two cgroups that are created and removed, together with their workers, five times. One of
/// the two is busy, and the workers of the other sleep most of the time.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_rapid_churn(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::new().push_cgroup(spinners("cg_0", cpus));
    let asleep = WorkType::IdleChurn {
        burst_duration: Duration::from_millis(1),
        sleep_duration: Duration::from_millis(10),
        precise_timing: false,
    };
    let step = || {
        let defs = vec![
            spinners("busy", cpus),
            group("asleep", asleep.clone(), cpus),
        ];
        Step::with_defs(defs, HoldSpec::frac(0.2))
    };
    let steps = (0..5).map(|_| step()).collect();
    // Two workers for each CPU are always runnable. The workers that sleep for 10 of 11 ms take at most a tenth of a
    // CPU each.
    let fair_pct = 100.0 * (1.0 - 0.1) / 2.0;
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    for step in 0..5 {
        let names = ["cg_0", "busy", "asleep"];
        expect.work_conserving(step, &names, &ctx.topo.all_cpuset());
    }
    expect.served_over(0..5, "busy", fair_pct);
    Ok(expect.result())
}

/// Runs four busy cgroups, nested one to three levels deep.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn nested_steady(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["a/x", "a/y/z", "b/x", "c"];
    let step = Step {
        ops: ["a", "a/y", "b"].map(Op::add_cgroup).into(),
        setup: names.map(|name| spinners(name, cpus)).to_vec().into(),
        hold: HoldSpec::FULL,
    };
    let mut expect = Expect::of(execute_steps(ctx, vec![step])?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// Moves workers to a sibling cgroup, then to a cgroup of another parent, and back.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn nested_task_move(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::new().extend_ops([
        Op::add_cgroup("a"),
        Op::add_cgroup("b"),
        Op::add_cgroup("a/y"),
        Op::add_cgroup("b/x"),
        Op::add_cgroup_def(spinners("a/x", cpus)),
        Op::add_cgroup_def(spinners("b/y", cpus)),
    ]);
    let step = |from, to| Step::with_op(Op::move_all_tasks(from, to), HoldSpec::frac(0.25));
    let steps = vec![
        Step::hold(HoldSpec::frac(0.25)),
        step("a/x", "a/y"),
        step("a/y", "b/x"),
        step("b/x", "a/x"),
    ];
    // The workers are counted in the cgroup where they end up.
    let names = ["a/x", "b/y"];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    for step in 0..4 {
        expect.work_conserving(step, &names, &ctx.topo.all_cpuset());
    }
    expect.equal_share_over(0..4, &names);
    Ok(expect.result())
}
