//! Cpusets that change for one cgroup alone, or for cgroups of unequal load.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_scenario, execute_scenario_with, execute_steps};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::{WorkSpec, WorkType};

use super::cpusets::{NAMES, change, confined, hold};
use super::expect::Expect;
use super::{ANY, SPARE, cut, exactly, group, ms, needs_cpus, spinners, split, spread};

/// Of two cgroups that share the machine one is confined to a half of it; the other may still use the whole.
///
/// # Errors
/// As [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_apply_midrun(ctx: &Ctx) -> Result<AssertResult> {
    let Some([half, _]) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus.len())));
    let apply = Op::set_cpuset(NAMES[0], exactly(&half));
    let steps = vec![hold(0.4), change(vec![apply]), hold(0.5)];
    // Whom a worker of the other cgroup shares its CPU with is by chance once the first one is confined.
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    expect
        .busy(0, &NAMES, &cpus)
        .even(0, &NAMES)
        .busy(2, &NAMES, &cpus)
        .within(2, NAMES[0], &half);
    Ok(expect.result())
}

/// The same the other way round: one of two cgroups is confined from the start, then may use the whole machine.
///
/// # Errors
/// As [`execute_scenario`].
pub fn custom_cgroup_cpuset_clear_midrun(ctx: &Ctx) -> Result<AssertResult> {
    let Some([half, _]) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let backdrop = Backdrop::from_cgroups([
        spinners(NAMES[0], cpus.len()).cpuset(exactly(&half)),
        spinners(NAMES[1], cpus.len()),
    ]);
    let clear = Op::clear_cpuset(NAMES[0]);
    let steps = vec![hold(0.4), change(vec![clear]), hold(0.5)];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    expect
        .busy(0, &NAMES, &cpus)
        .within(0, NAMES[0], &half)
        .busy(2, &NAMES, &cpus)
        .even(2, &NAMES);
    Ok(expect.result())
}

/// A cgroup with two workers for each CPU has a half of the machine, then a quarter, then the whole, beside one with a worker
/// for each CPU that may use all of them.
///
/// Without the other one CPUs would be idle beside tasks that may not use them, and EEVDF would look for such tasks ever more
/// seldom, up to every 512 ms (`MAX_PINNED_INTERVAL`: kernel/sched/fair.c): after the last change CPUs idle for longer than
/// a step.
///
/// # Errors
/// As [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_resize(ctx: &Ctx) -> Result<AssertResult> {
    let (Some([half, _]), Some([quarter, _])) = (cut(ctx, 0.5, 4), cut(ctx, 0.25, 4)) else {
        return Ok(needs_cpus(ctx, 4));
    };
    if half == quarter {
        return Ok(AssertResult::skip(
            "the scenario needs a half and a quarter of the machine that differ and do not cut an LLC: any number of LLCs but 2",
        ));
    }
    let cpus = ctx.topo.all_cpuset();
    let backdrop = Backdrop::from_cgroups([
        spinners(NAMES[0], 2 * cpus.len()).cpuset(exactly(&half)),
        spinners(NAMES[1], cpus.len()),
    ]);
    let steps = vec![
        hold(0.2),
        change(vec![Op::set_cpuset(NAMES[0], exactly(&quarter))]),
        hold(0.2),
        change(vec![Op::clear_cpuset(NAMES[0])]),
        hold(0.4),
    ];
    // Whom a worker shares its CPU with is by chance.
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    for step in [0, 2, 4] {
        expect.busy(step, &NAMES, &cpus);
    }
    expect
        .within(0, NAMES[0], &half)
        .within(2, NAMES[0], &quarter);
    Ok(expect.result())
}

/// One half of the machine has four spinning workers for each of its CPUs, the other one that works for 2 ms of 12.
///
/// # Errors
/// As [`execute_defs`].
pub fn custom_cgroup_cpuset_workload_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let Some([full, spare]) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let bursts = WorkType::bursty(ms(2), ms(10));
    let defs = vec![
        spinners(NAMES[0], 4 * full.len()).cpuset(exactly(&full)),
        group(NAMES[1], bursts, spare.len()).cpuset(exactly(&spare)),
    ];
    let mut expect = Expect::of(execute_defs(ctx, defs)?);
    expect
        .busy(0, &NAMES[..1], &full)
        .within(0, NAMES[0], &full)
        .within(0, NAMES[1], &spare)
        // One worker for each CPU of its half: whoever wakes up finds one free.
        .wakes(0, NAMES[1], SPARE);
    Ok(expect.result())
}

/// A cgroup with three times as many workers as another exchanges its half of the machine with it.
///
/// # Errors
/// As [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_change_imbalance(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.total_cpus();
    let [a, b] = halves.clone();
    let backdrop = Backdrop::from_cgroups([
        spinners(NAMES[0], 3 * cpus).cpuset(exactly(&a)),
        spinners(NAMES[1], cpus).cpuset(exactly(&b)),
    ]);
    let swap = Op::swap_cpusets(NAMES[0], NAMES[1]);
    let steps = vec![hold(0.4), change(vec![swap]), hold(0.5)];
    // The halves of an odd number of CPUs cannot be shared evenly: 5 workers on 2 CPUs and then on 3 come 37 points apart.
    let checks = spread(ctx, ANY);
    let run = execute_scenario_with(ctx, backdrop, steps, Some(&checks))?;
    let mut expect = Expect::of(run);
    confined(&mut expect, 0, &halves);
    confined(&mut expect, 2, &[b, a]);
    Ok(expect.result())
}

/// Two cgroups with half of the machine each; first the one, then the other has six workers for each CPU, its neighbour
/// two. Each step makes them anew.
///
/// # Errors
/// As [`execute_steps`].
pub fn custom_cgroup_cpuset_load_shift(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let step = |each: [usize; 2]| {
        let defs = NAMES.iter().zip(&halves).zip(each);
        let defs = defs
            .map(|((name, half), each)| spinners(name, each * half.len()).cpuset(exactly(half)));
        Step::with_defs(defs.collect(), HoldSpec::frac(0.5))
    };
    let mut expect = Expect::of(execute_steps(ctx, vec![step([6, 2]), step([2, 6])])?);
    for step in 0..2 {
        confined(&mut expect, step, &halves);
    }
    Ok(expect.result())
}

/// Two cgroups with half of the machine each and an unequal load; the one with less of it is joined by as many workers
/// again.
///
/// # Errors
/// As [`execute_scenario`].
pub fn custom_cgroup_cpuset_imbalance_combined(ctx: &Ctx) -> Result<AssertResult> {
    let Some(halves) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let each = [4, 2];
    let defs = NAMES.iter().zip(&halves).zip(each);
    let backdrop = Backdrop::from_cgroups(
        defs.map(|((name, half), each)| spinners(name, each * half.len()).cpuset(exactly(half))),
    );
    let join = WorkSpec::default().workers(2 * halves[1].len());
    let steps = vec![
        hold(0.4),
        change(vec![Op::spawn_workers(NAMES[1], join)]),
        hold(0.5),
    ];
    let mut expect = Expect::of(execute_scenario(ctx, backdrop, steps)?);
    confined(&mut expect, 0, &halves);
    confined(&mut expect, 2, &halves);
    Ok(expect.result())
}

/// The first three quarters of the machine belong to a cgroup with four workers for each CPU, the last three quarters to one
/// with a single worker for each CPU: they share the middle.
///
/// # Errors
/// As [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_overlap_imbalance_combined(ctx: &Ctx) -> Result<AssertResult> {
    let (Some([left, _]), Some([_, right])) = (split(ctx, 0.75, 4), split(ctx, 0.25, 4)) else {
        return Ok(needs_cpus(ctx, 4));
    };
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups([
        spinners(NAMES[0], 4 * cpus).cpuset(exactly(&left)),
        spinners(NAMES[1], cpus).cpuset(exactly(&right)),
    ]);
    // Who is on the last CPUs shares them with the few.
    let checks = spread(ctx, ANY);
    let steps = vec![hold(1.0)];
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    expect
        .within(0, NAMES[0], &left)
        .within(0, NAMES[1], &right)
        // If all 5 n workers were on the 3 n / 4 CPUs of one cgroup, the n of the smaller one would get a fifth of
        // them: 0.15 of the machine. Queues of CPUs may be unequal by a factor of two.
        .share(0, NAMES[1], &NAMES, 0.15 / 2.0);
    // A cut through an LLC is too much for EEVDF: see `cpuset_resize`.
    if ctx.topo.num_llcs() == 1 {
        expect.busy(0, &NAMES, &ctx.topo.all_cpuset());
    }
    Ok(expect.result())
}
