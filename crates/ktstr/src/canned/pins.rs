//! Scenarios whose workers are pinned to random halves of the CPUs, or to pairs of neighbouring CPUs.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_scenario_with, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, CgroupDef, HoldSpec, Op, Step};
use ktstr_scenario::workload::{AffinityIntent, WorkSpec};

use super::cpusets::NAMES;
use super::expect::Expect;
use super::{ANY, cut, exactly, needs_cpus, spinners, spread};

/// The maximum spread, in percentage points, of workers that are pinned to pairs of CPUs. Of two workers on the same pair, one
/// could have the first CPU to itself while the other shares the second CPU with three more workers and gets a quarter.
const PINNED: f64 = 75.0;

/// Draws a random half of the CPUs as the affinity of each worker of two cgroups, four times.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
pub fn custom_cgroup_affinity_change(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    if cpus < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let half = AffinityIntent::random_subset(ctx.topo.all_cpuset(), cpus.div_ceil(2));
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus)));
    let draw = || {
        NAMES
            .map(|name| Op::set_affinity(name, half.clone()))
            .into()
    };
    let mut steps = vec![Step::hold(HoldSpec::frac(0.2))];
    steps.extend((0..4).map(|_| Step::new(draw(), HoldSpec::frac(0.2))));
    // A worker whose CPUs were also drawn by many others gets less, so any spread is accepted.
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    for step in 1..5 {
        for name in NAMES {
            // In the worst case all 2 n workers of a machine with n CPUs are on the same n / 2 CPUs. A cgroup then gets a
            // quarter of the time of n CPUs, and both cgroups together never get more than that whole time. The bound is
            // half of the quarter, because the lengths of the CPUs' runqueues may differ by a factor of two.
            expect.share(step, name, &NAMES, 0.25 / 2.0);
        }
    }
    Ok(expect.result())
}

/// Declares a cgroup with two workers for each pair of neighbouring CPUs in the ring of `cpus`, pinned to that pair.
fn ring(name: &str, cpus: &[usize]) -> CgroupDef {
    let next = |at: usize| cpus[(at + 1) % cpus.len()];
    let pairs = cpus.iter().enumerate().map(|(at, cpu)| [*cpu, next(at)]);
    pairs.fold(CgroupDef::named(name), |def, pair| {
        let pin = AffinityIntent::exact(pair);
        def.work(WorkSpec::default().workers(2).affinity(pin))
    })
}

/// Runs two cgroups with two workers for each pair of neighbouring CPUs, pinned to that pair.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cgroup_multicpu_pin(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.all_cpus();
    if cpus.len() < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let defs = NAMES.map(|name| ring(name, cpus));
    let steps = vec![Step::with_defs(defs.into(), HoldSpec::FULL)];
    let checks = spread(ctx, PINNED);
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&checks))?);
    expect.equal_share(0, &NAMES);
    // EEVDF fails with pins across LLCs, because it balances LLCs by their total load: see `cpuset_resize`.
    if ctx.topo.num_llcs() == 1 {
        expect.work_conserving(0, &NAMES, &ctx.topo.all_cpuset());
    }
    Ok(expect.result())
}

/// Like [`custom_cgroup_multicpu_pin`], with a cpuset of one half of the machine for each cgroup.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_cgroup_cpuset_multicpu_pin(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = cut(ctx, 0.5, 4) else {
        return Ok(needs_cpus(ctx, 4));
    };
    let defs = NAMES.iter().zip(&halves).map(|(name, half)| {
        let cpus: Vec<usize> = half.iter().copied().collect();
        ring(name, &cpus).cpuset(exactly(half))
    });
    let steps = vec![Step::with_defs(defs.collect(), HoldSpec::FULL)];
    let checks = spread(ctx, PINNED);
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&checks))?);
    for (name, half) in NAMES.iter().zip(&halves) {
        expect.confined_to(0, name, half);
        // EEVDF passes if each half lies within one LLC, which is the case with at most two LLCs.
        if ctx.topo.num_llcs() <= 2 {
            expect.work_conserving(0, &[name], half);
        }
    }
    Ok(expect.result())
}
