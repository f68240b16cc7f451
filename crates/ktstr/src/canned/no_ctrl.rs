//! Cgroups in which no controller of CPU time is enabled: each task counts for itself, however many share its cgroup. And
//! unequal kinds of work.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_scenario};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::{WorkSpec, WorkType};

use super::cpusets::{NAMES, change, hold};
use super::expect::Expect;
use super::{LOADED, cut, device_io, exactly, group, ms, needs_cpus, spinners};

/// The workers of a cgroup move to another and back, beside a cgroup that stays.
///
/// # Errors
/// As [`execute_scenario`].
pub fn custom_cgroup_no_ctrl_task_migration(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus)))
        .push_op(Op::add_cgroup("cg_2"));
    let step = |from, to| Step::with_op(Op::move_all_tasks(from, to), HoldSpec::frac(0.3));
    let steps = vec![hold(0.4), step(NAMES[0], "cg_2"), step("cg_2", NAMES[0])];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    // Workers are counted where they ended up.
    for step in 0..3 {
        expect.busy(step, &NAMES, &ctx.topo.all_cpuset());
    }
    expect.even_over(0..3, &NAMES);
    Ok(expect.result())
}

/// Six workers for each CPU in a cgroup, one in another.
///
/// # Errors
/// As [`execute_defs`].
pub fn custom_cgroup_no_ctrl_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![spinners(NAMES[0], 6 * cpus), spinners(NAMES[1], cpus)];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .busy(0, &NAMES, &ctx.topo.all_cpuset())
        .fair(0, &NAMES);
    Ok(expect.result())
}

/// Of two cgroups one is sent from one half of the machine to the other; its neighbour may use all CPUs.
///
/// # Errors
/// As [`execute_scenario`].
pub fn custom_cgroup_no_ctrl_cpuset_change(ctx: &Ctx) -> Result<AssertResult> {
    let Some([a, b]) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let backdrop = Backdrop::from_cgroups([
        spinners(NAMES[0], cpus.len()).cpuset(exactly(&a)),
        spinners(NAMES[1], 2 * cpus.len()),
    ]);
    let send = Op::set_cpuset(NAMES[0], exactly(&b));
    let steps = vec![hold(0.4), change(vec![send]), hold(0.5)];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    for (step, half) in [(0, &a), (2, &b)] {
        expect
            .busy(step, &NAMES, &cpus)
            .within(step, NAMES[0], half);
    }
    Ok(expect.result())
}

/// Four workers for each CPU in a cgroup, one in another, which then catches up.
///
/// # Errors
/// As [`execute_scenario`].
pub fn custom_cgroup_no_ctrl_load_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups([spinners(NAMES[0], 4 * cpus), spinners(NAMES[1], cpus)]);
    let join = Op::spawn_workers(NAMES[1], WorkSpec::default().workers(3 * cpus));
    let steps = vec![hold(0.4), Step::with_op(join, HoldSpec::frac(0.6))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .busy(0, &NAMES, &all)
        .even(0, &NAMES)
        .busy(1, &NAMES, &all)
        // A half is fair; queues of CPUs may be unequal by a factor of two.
        .share(1, NAMES[1], &NAMES, 0.5 / 2.0);
    Ok(expect.result())
}

/// Three cgroups with a worker for each CPU: one computes, one works in bursts, one waits for a device most of its time.
///
/// # Errors
/// As [`execute_defs`].
pub fn custom_cgroup_imbalance_mixed_workload(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        spinners("spin", cpus),
        group("bursty", WorkType::bursty(ms(5), ms(20)), cpus),
        group("io", device_io(), cpus),
    ];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .busy(0, &["spin", "bursty", "io"], &ctx.topo.all_cpuset())
        .wakes(0, "bursty", LOADED)
        .wakes(0, "io", LOADED);
    Ok(expect.result())
}

/// Four workers for each CPU that compute, beside two that wait for a device most of their time.
///
/// # Errors
/// As [`execute_defs`].
pub fn custom_cgroup_io_compute_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        spinners("compute", 4 * cpus),
        group("io", device_io(), 2 * cpus),
    ];
    let names = ["compute", "io"];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .busy(0, &names, &ctx.topo.all_cpuset())
        // They ask for 0.2 of 2.2 ms. In a queue in which each of four others gets 20 ms in turn they would get 0.2 of 82 ms,
        // two for each CPU: 0.005 of it, and a half of that at least.
        .share(0, "io", &names, 0.0025);
    Ok(expect.result())
}
