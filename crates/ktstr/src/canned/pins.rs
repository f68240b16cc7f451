//! Workers that are pinned to some CPUs, each to others.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_scenario_with, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, CgroupDef, HoldSpec, Op, Step};
use ktstr_scenario::workload::{AffinityIntent, WorkSpec};

use super::cpusets::NAMES;
use super::expect::Expect;
use super::{ANY, cut, exactly, needs_cpus, spinners, spread};

/// Most spread of workers with the same two CPUs, percentage points: one could have the first of them to itself while the
/// other shares the second with three, which is a quarter for it.
const PINNED: f64 = 75.0;

/// The affinity of each worker of two cgroups is drawn anew four times, half of the CPUs for each.
///
/// # Errors
/// As [`execute_scenario_with`].
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
    // Who has drawn the same CPUs as many others gets less.
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    for step in 1..5 {
        for name in NAMES {
            // Were all 2 n workers on the same n / 2 CPUs, each would get a quarter of one: n workers a quarter of what n
            // CPUs have. Queues of CPUs may be unequal by a factor of two.
            expect.share(step, name, &NAMES, 0.25 / 2.0);
        }
    }
    Ok(expect.result())
}

/// A cgroup whose workers are pinned to two neighbouring CPUs of `cpus` each, in a ring: two for every pair.
fn ring(name: &str, cpus: &[usize]) -> CgroupDef {
    let next = |at: usize| cpus[(at + 1) % cpus.len()];
    let pairs = cpus.iter().enumerate().map(|(at, cpu)| [*cpu, next(at)]);
    pairs.fold(CgroupDef::named(name), |def, pair| {
        let pin = AffinityIntent::exact(pair);
        def.work(WorkSpec::default().workers(2).affinity(pin))
    })
}

/// Two cgroups with two workers for each two neighbouring CPUs, pinned to them.
///
/// # Errors
/// As [`execute_steps_with`].
pub fn custom_cgroup_multicpu_pin(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.all_cpus();
    if cpus.len() < 2 {
        return Ok(needs_cpus(ctx, 2));
    }
    let defs = NAMES.map(|name| ring(name, cpus));
    let steps = vec![Step::with_defs(defs.into(), HoldSpec::FULL)];
    let checks = spread(ctx, PINNED);
    let mut expect = Expect::of(execute_steps_with(ctx, steps, Some(&checks))?);
    expect.fair(0, &NAMES);
    // Pins across LLCs are too much for EEVDF, which compares LLCs by their sums: see `cpuset_resize`.
    if ctx.topo.num_llcs() == 1 {
        expect.busy(0, &NAMES, &ctx.topo.all_cpuset());
    }
    Ok(expect.result())
}

/// The same with a cpuset of one half of the machine for each cgroup.
///
/// # Errors
/// As [`execute_steps_with`].
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
        expect.within(0, name, half);
        // The same: a half is within an LLC if there are two at most.
        if ctx.topo.num_llcs() <= 2 {
            expect.busy(0, &[name], half);
        }
    }
    Ok(expect.result())
}
