//! Scenarios whose workers are pinned, or whose CPU affinity changes while they run.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_scenario, execute_steps_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::{AffinityIntent, WorkType};

use super::expect::Expect;
use super::{ANY, group, needs_cpus, spinners, split, spread};

const NAMES: [&str; 2] = ["cg_0", "cg_1"];

/// Pins the running workers of two cgroups to opposite halves of the machine, and then swaps the halves three times.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn affinity_change(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = split(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus)));
    let half = |name: usize, round: usize| &halves[(name + round) % 2];
    let mut steps = vec![Step::hold(HoldSpec::frac(0.4))];
    for round in 0..4 {
        let pin = |at: usize| {
            let to = AffinityIntent::exact(half(at, round).iter().copied());
            Op::set_affinity(NAMES[at], to)
        };
        steps.push(Step::new(vec![pin(0), pin(1)], HoldSpec::frac(0.03)));
        steps.push(Step::hold(HoldSpec::frac(0.12)));
    }
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    expect
        .work_conserving(0, &NAMES, &ctx.topo.all_cpuset())
        .equal_share(0, &NAMES);
    for round in 0..4 {
        let step = 2 + 2 * round as u16;
        for (at, name) in NAMES.iter().enumerate() {
            let cpus = half(at, round);
            expect
                .work_conserving(step, &[name], cpus)
                .confined_to(step, name, cpus);
        }
    }
    Ok(expect.result())
}

/// Runs two cgroups whose workers are pinned from the start, each to one half of the machine.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn affinity_pinned(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = split(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let defs = NAMES.iter().zip(&halves).map(|(name, half)| {
        spinners(name, 2 * half.len()).affinity(AffinityIntent::exact(half.iter().copied()))
    });
    let mut expect = Expect::of(execute_defs(ctx, defs.collect())?);
    for (name, half) in NAMES.iter().zip(&halves) {
        expect
            .work_conserving(0, &[name], half)
            .confined_to(0, name, half);
    }
    Ok(expect.result())
}

/// Runs workers that pin themselves to a random CPU after each piece of work, next to spinners.
///
/// # Errors
/// The same errors as [`execute_steps_with`].
pub fn custom_affinity_churn(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let churn = WorkType::AffinityChurn { spin_iters: 4096 };
    let defs = vec![spinners("spin", cpus), group("churn", churn, cpus)];
    // It is random which workers share a CPU, so any spread is accepted.
    let steps = vec![Step::with_defs(defs, HoldSpec::FULL)];
    let result = execute_steps_with(ctx, steps, Some(&spread(ctx, ANY)))?;
    let mut expect = Expect::of(result);
    expect
        .work_conserving(0, &["spin", "churn"], &ctx.topo.all_cpuset())
        .share(0, "churn", &["spin", "churn"], 0.1);
    Ok(expect.result())
}
