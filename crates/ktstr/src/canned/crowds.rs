//! Scenarios with many cgroups, many queues or many changes.

use anyhow::Result;
use ktstr_assert::{Assert, AssertResult};
use ktstr_guest::engine::{
    execute_defs, execute_scenario, execute_scenario_with, execute_steps_with,
};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::WorkType;

use super::cpusets::{NAMES, change, confined, hold};
use super::expect::Expect;
use super::{ANY, exactly, group, ms, spinners, spread};

/// Runs one cgroup for each CPU, at most 64 of them. Each has two workers and is confined to its CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn custom_cgroup_per_cpu(ctx: &Ctx) -> Result<AssertResult> {
    let cgroups = ctx.topo.all_cpus().iter().take(64);
    let cgroups: Vec<_> = cgroups
        .map(|cpu| (format!("cpu_{cpu}"), [*cpu].into()))
        .collect();
    let defs = cgroups
        .iter()
        .map(|(name, cpu)| spinners(name, 2).cpuset(exactly(cpu)));
    let mut expect = Expect::of(execute_defs(ctx, defs.collect())?);
    for (name, cpu) in &cgroups {
        expect
            .work_conserving(0, &[name], cpu)
            .confined_to(0, name, cpu);
    }
    Ok(expect.result())
}

/// Creates and removes sixteen cgroups three times, next to a busy one. Each of the sixteen has one worker, which sleeps
/// most of the time. A scheduler that allocates something for each cgroup has to free it again.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_exhaust_reuse(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names: Vec<String> = (0..16).map(|at| format!("cg_{at}")).collect();
    let asleep = WorkType::idle_churn(ms(1), ms(20), false);
    let step = || {
        let defs = names.iter().map(|name| group(name, asleep.clone(), 1));
        Step::with_defs(defs.collect(), HoldSpec::frac(0.33))
    };
    let backdrop = Backdrop::new().push_cgroup(spinners("busy", cpus));
    let steps = (0..3).map(|_| step()).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("busy");
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    for step in 0..3 {
        expect.work_conserving(step, &all, &ctx.topo.all_cpuset());
        for name in &names {
            // Each worker asks for 1 ms of CPU time between sleeps of 20 ms. In the worst case all sixteen are on one
            // CPU with a spinner. A cycle of a worker then takes 56 ms: its sleep, the spinner's slice of 20 ms, and 1 ms
            // of each of the sixteen. So it would get 1/56 of the time of one of `cpus` CPUs. Half of that is required.
            expect.share(step, name, &all, 1.0 / 56.0 / 2.0 / cpus as f64);
        }
    }
    Ok(expect.result())
}

/// Runs eight cgroups, each with one worker for each CPU. Each worker yields after each piece of work, so that all CPUs
/// contend for the scheduler's queues all the time. Unless the test has a `max_gap_ms`, the longest gap between two
/// iterations of a worker may be 1.5 s.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cgroup_dsq_contention(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names: Vec<String> = (0..8).map(|at| format!("cg_{at}")).collect();
    let defs = names
        .iter()
        .map(|name| group(name, WorkType::Mixed, cpus))
        .collect();
    // With slices of 20 ms, a round of eight workers for each CPU takes 160 ms.
    let checks = Assert {
        max_gap_ms: ctx.assert.max_gap_ms.or(Some(1500)),
        ..ctx.assert
    };
    let steps = vec![Step::with_defs(defs, HoldSpec::FULL)];
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&checks))?);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// Two cgroups, each confined to one LLC, swap their LLCs six times in quick succession.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_cross_llc_race(ctx: &Ctx) -> Result<AssertResult> {
    let llcs = ctx.topo.num_llcs();
    if llcs < 2 {
        return Ok(AssertResult::skip(format!(
            "the scenario needs 2 LLCs, the machine has {llcs}"
        )));
    }
    let parts = [0, 1].map(|llc| ctx.topo.llc_aligned_cpuset(llc));
    let workers = 2 * parts[0].len().max(parts[1].len());
    let defs = NAMES.iter().zip(&parts);
    let backdrop = Backdrop::from_cgroups(
        defs.map(|(name, llc)| spinners(name, workers).cpuset(exactly(llc))),
    );
    let swap = || Op::swap_cpusets(NAMES[0], NAMES[1]);
    let mut steps = vec![hold(0.2)];
    steps.extend((0..5).map(|_| Step::with_op(swap(), HoldSpec::frac(0.06))));
    steps.extend([change(vec![swap()]), hold(0.4)]);
    // Each swap moves workers onto CPUs where others run, so any spread is accepted.
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    // After six swaps each cgroup is back where it started.
    confined(&mut expect, 0, &parts);
    confined(&mut expect, 7, &parts);
    Ok(expect.result())
}
