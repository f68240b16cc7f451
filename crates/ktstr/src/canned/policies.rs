//! Simple loads that test scheduling policies and the harness's own cgroup, and a light load for tests in which the
//! scheduler crashes.

use std::time::Duration;

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_steps, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{CgroupDef, HoldSpec, Op, Step};
use ktstr_scenario::workload::{SchedPolicy, WorkSpec, WorkType};

use super::cpusets::NAMES;
use super::expect::Expect;
use super::{ANY, spinners, spread};

/// Runs two spinning workers for each CPU in the harness's own cgroup, and one for each CPU in two other cgroups.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn custom_host_cgroup_contention(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let step = Step {
        setup: NAMES.map(|name| spinners(name, cpus)).to_vec().into(),
        ops: vec![Op::spawn_host(WorkSpec::default().workers(2 * cpus))],
        hold: HoldSpec::FULL,
    };
    let names = ["(runner)", NAMES[0], NAMES[1]];
    let mut expect = Expect::of(execute_steps(ctx, vec![step])?);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// Runs two equal cgroups with workers of four policies: normal and batch tasks that work in bursts, idle tasks that
/// use the CPU time left over, and a FIFO task that runs for 1 of 10 ms.
///
/// On n CPUs, with n of 2 or more, no idle task has to starve. At most n + 1 normal and n + 1 batch tasks run for 5 of
/// 25 ms each, which takes 0.4 (n + 1) CPUs. Together with the two FIFO tasks (0.2 CPUs) that is at most 0.7 n CPUs, so
/// 0.3 n CPUs are left for the 2 n idle tasks.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_sched_mixed(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    if cpus < 2 {
        // The bursts and the FIFO tasks may take all of the only CPU. The idle tasks then starve, which is not a fault of
        // the scheduler.
        return Ok(AssertResult::skip(
            "the scenario needs 2 CPUs, but the machine has 1",
        ));
    }
    let bursts = |burst, sleep| {
        let ms = Duration::from_millis;
        WorkSpec::new(WorkType::bursty(ms(burst), ms(sleep)))
    };
    let def = |name: &str| {
        let half = cpus.div_ceil(2);
        let batch = bursts(5, 20).sched_policy(SchedPolicy::Batch);
        let idle = WorkSpec::default().sched_policy(SchedPolicy::Idle);
        let fifo = bursts(1, 9).sched_policy(SchedPolicy::fifo(1));
        CgroupDef::named(name)
            .work(bursts(5, 20).workers(half))
            .work(batch.workers(half))
            .work(idle.workers(cpus))
            .work(fifo.workers(1))
    };
    let steps = vec![Step::with_defs(NAMES.map(def).into(), HoldSpec::FULL)];
    // It is random how much CPU time is left over on an idle task's CPU, so any spread is accepted. The load balancer hardly
    // sees idle tasks, whose weight is small, so most of those of one cgroup can share a CPU for long. The claim about the
    // cgroups' shares only excludes that those of one cgroup get next to nothing: they must get a quarter of their fair share in
    // addition to what the other workers of the cgroup need.
    let others = (0.2 * 2.0 * cpus.div_ceil(2) as f64 + 0.1) / cpus as f64;
    let least = others + (0.5 - others) / 4.0;
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?);
    expect
        .work_conserving(0, &NAMES, &ctx.topo.all_cpuset())
        .share(0, NAMES[0], &NAMES, least)
        .share(0, NAMES[1], &NAMES, least);
    Ok(expect.result())
}

/// Runs one spinning worker in each of two cgroups, and claims nothing. This is a light load for tests in which the
/// scheduler crashes and only its exit is judged.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_crash_light(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, NAMES.map(|name| spinners(name, 1)).into())
}
