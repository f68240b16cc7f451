//! Scenarios in which the cpuset of one cgroup changes, or in which cgroups with unequal loads have cpusets.

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_scenario, execute_scenario_with, execute_steps};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Backdrop, HoldSpec, Op, Step};
use ktstr_scenario::workload::{WorkSpec, WorkType};

use super::cpusets::{NAMES, change, confined, hold};
use super::expect::Expect;
use super::{ANY, SPARE, cut, exactly, group, ms, needs_cpus, spinners, split, spread};

/// Two cgroups share the machine, then one of them is confined to half of it. The other may still use the whole
/// machine.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_apply_midrun(ctx: &Ctx) -> Result<AssertResult> {
    let Some([half, _]) = cut(ctx, 0.5, 2) else {
        return Ok(needs_cpus(ctx, 2));
    };
    let cpus = ctx.topo.all_cpuset();
    let backdrop = Backdrop::from_cgroups(NAMES.map(|name| spinners(name, cpus.len())));
    let apply = Op::set_cpuset(NAMES[0], exactly(&half));
    let steps = vec![hold(0.4), change(vec![apply]), hold(0.5)];
    // Once the first cgroup is confined, it is random which workers share a CPU, so any spread is accepted.
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    expect
        .work_conserving(0, &NAMES, &cpus)
        .equal_time(0, &NAMES)
        .work_conserving(2, &NAMES, &cpus)
        .confined_to(2, NAMES[0], &half);
    Ok(expect.result())
}

/// The reverse of [`custom_cgroup_cpuset_apply_midrun`]: one of two cgroups is confined from the start, then may use
/// the whole machine.
///
/// # Errors
/// The same errors as [`execute_scenario`].
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
        .work_conserving(0, &NAMES, &cpus)
        .confined_to(0, NAMES[0], &half)
        .work_conserving(2, &NAMES, &cpus)
        .equal_time(2, &NAMES);
    Ok(expect.result())
}

/// A cgroup with two workers for each CPU gets half of the machine, then a quarter, then the whole machine. A second
/// cgroup has one worker for each CPU and may use all CPUs throughout.
///
/// The second cgroup keeps all CPUs busy. Without it, CPUs would be idle next to tasks that are not allowed to use
/// them, and EEVDF would try to balance ever more rarely, down to once in 512 ms (`MAX_PINNED_INTERVAL`:
/// kernel/sched/fair.c). After the last change, a CPU could then stay idle for a large part of the last step,
/// if the window is short.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_resize(ctx: &Ctx) -> Result<AssertResult> {
    let (Some([half, _]), Some([quarter, _])) = (cut(ctx, 0.5, 4), cut(ctx, 0.25, 4)) else {
        return Ok(needs_cpus(ctx, 4));
    };
    if half == quarter {
        return Ok(AssertResult::skip(
            "the scenario needs a half and a quarter of the machine in whole LLCs; with two LLCs, both are one LLC",
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
    // It is random which workers share a CPU, so any spread is accepted.
    let checks = spread(ctx, ANY);
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    for step in [0, 2, 4] {
        expect.work_conserving(step, &NAMES, &cpus);
    }
    expect
        .confined_to(0, NAMES[0], &half)
        .confined_to(2, NAMES[0], &quarter);
    Ok(expect.result())
}

/// One half of the machine has four spinning workers for each of its CPUs. The other half has one worker for each of its
/// CPUs, and each of these workers computes for 2 of 12 ms.
///
/// # Errors
/// The same errors as [`execute_defs`].
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
        .work_conserving(0, &NAMES[..1], &full)
        .confined_to(0, NAMES[0], &full)
        .confined_to(0, NAMES[1], &spare)
        // There is one worker for each CPU of this half, so a worker that wakes up always finds an idle CPU.
        .wakes(0, NAMES[1], SPARE);
    Ok(expect.result())
}

/// Two cgroups, one with three times as many workers as the other, swap their halves of the machine.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
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
    // If the number of CPUs or of LLCs is odd, the halves differ, and a cgroup's workers do not divide evenly among its CPUs: of
    // 5 workers on 2 CPUs, and later on 3, one can get up to 37 percentage points more CPU time than another.
    let checks = spread(ctx, ANY);
    let run = execute_scenario_with(ctx, backdrop, steps, Some(&checks))?;
    let mut expect = Expect::of(run);
    confined(&mut expect, 0, &halves);
    confined(&mut expect, 2, &[b, a]);
    Ok(expect.result())
}

/// Two cgroups have half of the machine each. First one of them has six workers for each of its CPUs and the other has
/// two, then the reverse. Each step creates both cgroups again.
///
/// # Errors
/// The same errors as [`execute_steps`].
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

/// Two cgroups have half of the machine each and unequal loads; then the number of workers of the lighter one doubles.
///
/// # Errors
/// The same errors as [`execute_scenario`].
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

/// A cgroup with four workers for each CPU has the first three quarters of the machine, and one with a single worker
/// for each CPU has the last three quarters. They share the middle.
///
/// # Errors
/// The same errors as [`execute_scenario_with`].
pub fn custom_cgroup_cpuset_overlap_imbalance_combined(ctx: &Ctx) -> Result<AssertResult> {
    let (Some([left, _]), Some([_, right])) = (split(ctx, 0.75, 4), split(ctx, 0.25, 4)) else {
        return Ok(needs_cpus(ctx, 4));
    };
    let cpus = ctx.topo.total_cpus();
    let backdrop = Backdrop::from_cgroups([
        spinners(NAMES[0], 4 * cpus).cpuset(exactly(&left)),
        spinners(NAMES[1], cpus).cpuset(exactly(&right)),
    ]);
    // Some CPUs have fewer workers than the rest, so the workers of the large cgroup get unequal shares: any spread is accepted.
    let checks = spread(ctx, ANY);
    let steps = vec![hold(1.0)];
    let mut expect = Expect::of(execute_scenario_with(ctx, backdrop, steps, Some(&checks))?);
    expect
        .confined_to(0, NAMES[0], &left)
        .confined_to(0, NAMES[1], &right)
        // On n CPUs there are 5 n workers. If all of them were on the 3 n / 4 CPUs of one cgroup, the n workers of the
        // smaller cgroup would get a fifth of those CPUs: 0.15 of the machine. The lengths of the CPUs' runqueues may
        // differ by a factor of two.
        .share(0, NAMES[1], &NAMES, 0.15 / 2.0);
    // On a machine with several LLCs EEVDF fails the next claim if a cpuset splits one of them: see `cpusets::cpuset_resize`.
    if ctx.topo.num_llcs() == 1 {
        expect.work_conserving(0, &NAMES, &ctx.topo.all_cpuset());
    }
    Ok(expect.result())
}
