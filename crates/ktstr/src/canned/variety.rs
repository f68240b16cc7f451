//! Scenarios that combine five kinds of work: computing, bursts, waiting for a device, computing with yields, and only
//! yielding.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_scenario_with, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, CgroupDef, HoldSpec, Step};
use ktstr_scenario::workload::WorkType;

use super::expect::Expect;
use super::{ANY, LOADED, cut, device_io, exactly, group, ms, needs_cpus, spread};

const KINDS: [&str; 5] = ["spin", "bursty", "io", "mixed", "yield"];

fn kind(name: &str, workers: usize) -> CgroupDef {
    let work = match name {
        "bursty" => WorkType::bursty(ms(5), ms(20)),
        "io" => device_io(),
        "mixed" => WorkType::Mixed,
        "yield" => WorkType::YieldHeavy,
        _ => WorkType::SpinWait,
    };
    group(name, work, workers)
}

/// Runs a cgroup of each kind with one worker for each CPU.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cgroup_workload_variety(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let defs = KINDS.map(|name| kind(name, cpus));
    let steps = vec![Step::with_defs(defs.into(), HoldSpec::FULL)];
    // The workers that happen to share a CPU with a yielding one get more CPU time, so any spread is accepted.
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?);
    expect
        .work_conserving(0, &KINDS, &ctx.topo.all_cpuset())
        .wakes(0, "bursty", LOADED)
        .wakes(0, "io", LOADED);
    Ok(expect.result())
}

/// Like [`custom_cgroup_workload_variety`], but the two cgroups that compute (`spin` and `mixed`) have one half of the
/// machine, and the other three cgroups have the other half.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cgroup_cpuset_workload_variety(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let parts: [&[&str]; 2] = [&["spin", "mixed"], &["bursty", "io", "yield"]];
    let defs = parts.iter().zip(&halves).flat_map(|(names, half)| {
        let confined = |name: &&str| kind(name, half.len()).cpuset(exactly(half));
        names.iter().map(confined)
    });
    let steps = vec![Step::with_defs(defs.collect(), HoldSpec::FULL)];
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?);
    for (names, half) in parts.iter().zip(&halves) {
        expect.work_conserving(0, names, half);
        for name in *names {
            expect.confined_to(0, name, half);
        }
    }
    expect.wakes(0, "bursty", LOADED).wakes(0, "io", LOADED);
    Ok(expect.result())
}

/// Runs a computing cgroup throughout, next to cgroups of the other kinds that change from step to step.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
pub fn custom_cgroup_dynamic_workload_variety(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::new().push_cgroup(kind("spin", cpus));
    let parts: [&[&str]; 3] = [&["bursty"], &["mixed", "yield"], &["io", "mixed"]];
    let steps = parts.map(|names| {
        let defs = names.iter().map(|name| kind(name, cpus));
        Step::with_defs(defs.collect(), HoldSpec::frac(0.33))
    });
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(
        ctx,
        backdrop,
        steps.into(),
        Some(&checks),
    )?);
    for (step, names) in (0..).zip(parts) {
        let all: Vec<&str> = names.iter().copied().chain(["spin"]).collect();
        expect.work_conserving(step, &all, &ctx.topo.all_cpuset());
    }
    expect.wakes(0, "bursty", LOADED).wakes(2, "io", LOADED);
    Ok(expect.result())
}
