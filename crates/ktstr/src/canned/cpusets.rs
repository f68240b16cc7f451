//! Scenarios in which cpusets are set, cleared, moved and swapped while workers run. Each change is a separate step.
//! The expectations are checked in the step after it, when the change has been in effect for a while.

use std::collections::BTreeSet;

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_scenario, execute_scenario_with};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};

use super::expect::Expect;
use super::{ANY, exactly, needs_cpus, spinners, split, spread};

pub(super) const NAMES: [&str; 2] = ["cg_0", "cg_1"];
/// The fraction of the window for which a step that only makes a change is held.
const CHANGE: f64 = 0.1;

pub(super) fn hold(frac: f64) -> Step {
    Step::hold(HoldSpec::frac(frac))
}

pub(super) fn change(ops: Vec<Op>) -> Step {
    Step::new(ops, HoldSpec::frac(CHANGE))
}

/// Returns the operations that confine each of the two cgroups to its part.
fn confine(parts: &[BTreeSet<usize>; 2]) -> Vec<Op> {
    NAMES
        .iter()
        .zip(parts)
        .map(|(name, cpus)| Op::set_cpuset(*name, exactly(cpus)))
        .collect()
}

/// Expects that each cgroup keeps its own CPUs busy during a step, and stays on them.
pub(super) fn confined(expect: &mut Expect, step: u16, parts: &[BTreeSet<usize>; 2]) {
    for (name, cpus) in NAMES.iter().zip(parts) {
        expect
            .work_conserving(step, &[name], cpus)
            .confined_to(step, name, cpus);
    }
}

/// Two cgroups share the machine, then each of them is confined to one half.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn cpuset_apply(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = split(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus.len())));
    let steps = vec![hold(0.4), change(confine(&halves)), hold(0.5)];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    expect
        .work_conserving(0, &NAMES, &cpus)
        .equal_time(0, &NAMES);
    confined(&mut expect, 2, &halves);
    Ok(expect.result())
}

/// The reverse of [`cpuset_apply`]: each cgroup has one half, then both get the whole machine.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn cpuset_clear(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = split(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let backdrop = Backdrop::from_cgroups(
        NAMES
            .iter()
            .zip(&halves)
            .map(|(name, half)| spinners(name, cpus.len()).cpuset(exactly(half))),
    );
    let clear = NAMES.map(Op::clear_cpuset);
    let steps = vec![hold(0.4), change(clear.into()), hold(0.5)];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    confined(&mut expect, 0, &halves);
    expect
        .work_conserving(2, &NAMES, &cpus)
        .equal_time(2, &NAMES);
    Ok(expect.result())
}

/// Two cgroups with half of the machine each are resized to a quarter and three quarters, then to three quarters and a
/// quarter.
///
/// EEVDF fails this scenario if the parts split an LLC. It balances LLCs by their total load, so it leaves a CPU idle
/// if the CPU's neighbours have many tasks that are not allowed to run on it. This is the "group imbalance" of Lozi
/// et al., The Linux Scheduler: a Decade of Wasted Cores, EuroSys 2016; it was seen on Linux 7.3 with four CPUs in two LLCs.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn cpuset_resize(ctx: &Ctx) -> Result<AssertResult> {
    let shares = [0.5, 0.25, 0.75].map(|share| split(ctx, share, 4));
    let [Some(half), Some(less), Some(more)] = shares else {
        return Ok(needs_cpus(ctx, 4));
    };
    // If the number of CPUs is a multiple of four, these workers divide evenly among the CPUs of a half, of a quarter
    // and of three quarters.
    let workers = 3 * half[0].len();
    let backdrop = Backdrop::from_cgroups(
        NAMES
            .iter()
            .zip(&half)
            .map(|(name, cpus)| spinners(name, workers).cpuset(exactly(cpus))),
    );
    let steps = vec![
        hold(0.2),
        change(confine(&less)),
        hold(0.25),
        change(confine(&more)),
        hold(0.35),
    ];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    confined(&mut expect, 0, &half);
    confined(&mut expect, 2, &less);
    confined(&mut expect, 4, &more);
    Ok(expect.result())
}

/// Two cgroups with half of the machine each swap their halves, twice.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_cpuset_swap_disjoint(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = split(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let [a, b] = halves.clone();
    let workers = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups(
        NAMES
            .iter()
            .zip(&halves)
            .map(|(name, half)| spinners(name, workers).cpuset(exactly(half))),
    );
    let swap = || change(vec![Op::swap_cpusets(NAMES[0], NAMES[1])]);
    let steps = vec![hold(0.2), swap(), hold(0.3), swap(), hold(0.3)];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    confined(&mut expect, 0, &halves);
    confined(&mut expect, 2, &[b, a]);
    confined(&mut expect, 4, &halves);
    Ok(expect.result())
}

/// A cgroup with two workers for each CPU is confined to one half of the machine, then gets the whole machine.
///
/// # Errors
/// The same errors as [`execute_scenario`].
pub fn custom_cgroup_cpuset_widen(ctx: &Ctx) -> Result<AssertResult> {
    let Some([half, _]) = split(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let backdrop =
        Backdrop::new().push_cgroup(spinners("cg_0", 2 * cpus.len()).cpuset(exactly(&half)));
    let steps = vec![hold(0.3), change(vec![Op::clear_cpuset("cg_0")]), hold(0.6)];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    expect
        .work_conserving(0, &["cg_0"], &half)
        .confined_to(0, "cg_0", &half)
        .work_conserving(2, &["cg_0"], &cpus);
    Ok(expect.result())
}

/// Two cgroups have half of the machine each, and one has twice as many workers as the other. Then the smaller one is
/// moved to the CPUs of the larger one.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_merge(ctx: &Ctx) -> Result<AssertResult> {
    let Some([crowded, other]) = split(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups([
        spinners(NAMES[0], 2 * cpus).cpuset(exactly(&crowded)),
        spinners(NAMES[1], cpus).cpuset(exactly(&other)),
    ]);
    let join = Op::set_cpuset(NAMES[1], exactly(&crowded));
    let steps = vec![hold(0.4), change(vec![join]), hold(0.5)];
    // Before the change, the workers of the two cgroups got different amounts of CPU time, so any spread is accepted.
    let result = execute_scenario_with(ctx, backdrop, steps, Some(&spread(ctx, ANY)))?;
    let mut expect = Expect::of(result);
    confined(&mut expect, 0, &[crowded.clone(), other]);
    expect
        .work_conserving(2, &NAMES, &crowded)
        .equal_time(2, &NAMES)
        .confined_to(2, NAMES[1], &crowded);
    Ok(expect.result())
}
