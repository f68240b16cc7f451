//! Scenarios with cgroups that have no CPU controller, so that each task counts on its own no matter how many share
//! its cgroup; and scenarios that mix kinds of work.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_scenario};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::{WorkSpec, WorkType};

use super::cpusets::{NAMES, change, hold};
use super::expect::Expect;
use super::{LOADED, cut, device_io, exactly, group, ms, needs_cpus, spinners};

/// Moves the workers of a cgroup to another one and back, next to a cgroup that stays in place.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_no_ctrl_task_migration(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus)))
        .push_op(Op::add_cgroup("cg_2"));
    let step = |from, to| Step::with_op(Op::move_all_tasks(from, to), HoldSpec::frac(0.3));
    let steps = vec![hold(0.4), step(NAMES[0], "cg_2"), step("cg_2", NAMES[0])];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    // The workers are counted in the cgroup where they end up.
    for step in 0..3 {
        expect.work_conserving(step, &NAMES, &ctx.topo.all_cpuset());
    }
    expect.equal_time_over(0..3, &NAMES);
    Ok(expect.result())
}

/// Runs six workers for each CPU in one cgroup and one for each CPU in another.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_cgroup_no_ctrl_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![spinners(NAMES[0], 6 * cpus), spinners(NAMES[1], cpus)];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .work_conserving(0, &NAMES, &ctx.topo.all_cpuset())
        .equal_share(0, &NAMES);
    Ok(expect.result())
}

/// Moves one of two cgroups from one half of the machine to the other; the second cgroup may use all CPUs.
///
/// # Errors
/// The same errors as [`execute_scenario`].
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
            .work_conserving(step, &NAMES, &cpus)
            .confined_to(step, NAMES[0], half);
    }
    Ok(expect.result())
}

/// Runs four workers for each CPU in one cgroup and one for each CPU in another, then adds workers until both are
/// equal.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_no_ctrl_load_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups([spinners(NAMES[0], 4 * cpus), spinners(NAMES[1], cpus)]);
    let join = Op::spawn_workers(NAMES[1], WorkSpec::default().workers(3 * cpus));
    let steps = vec![hold(0.4), Step::with_op(join, HoldSpec::frac(0.6))];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    let all = ctx.topo.all_cpuset();
    expect
        .work_conserving(0, &NAMES, &all)
        .equal_time(0, &NAMES)
        .work_conserving(1, &NAMES, &all)
        // The fair share is a half. The lengths of the CPUs' runqueues may differ by a factor of two.
        .share(1, NAMES[1], &NAMES, 0.5 / 2.0);
    Ok(expect.result())
}

/// Runs three cgroups with one worker for each CPU: one computes, one works in bursts, one waits for a device most of
/// the time.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_cgroup_imbalance_mixed_workload(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        spinners("spin", cpus),
        group("bursty", WorkType::bursty(ms(5), ms(20)), cpus),
        group("io", device_io(), cpus),
    ];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .work_conserving(0, &["spin", "bursty", "io"], &ctx.topo.all_cpuset())
        .wakes(0, "bursty", LOADED)
        .wakes(0, "io", LOADED);
    Ok(expect.result())
}

/// Runs four computing workers for each CPU, next to workers that wait for a device most of the time, two for each CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_cgroup_io_compute_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = vec![
        spinners("compute", 4 * cpus),
        group("io", device_io(), 2 * cpus),
    ];
    let names = ["compute", "io"];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        // An I/O worker asks for 0.2 ms of CPU time between sleeps of 2 ms. If it also had to wait for a 20 ms slice of
        // each of four computing workers each time, it would get 0.2 of 82.2 ms. There are two I/O workers for each CPU,
        // so together they would get 0.005 of the CPU time. At least half of that is required.
        .share(0, "io", &names, 0.0025);
    Ok(expect.result())
}
