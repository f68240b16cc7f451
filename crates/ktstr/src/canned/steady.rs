//! Scenarios whose load does not change.

use std::time::Duration;

use anyhow::Result;
use ktstr_assert::AssertResult;
use ktstr_guest::engine::{execute_defs, execute_steps};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{CpusetSpec, HoldSpec, Op, Step};
use ktstr_scenario::workload::{WorkSpec, WorkType};

use super::expect::Expect;
use super::{LOADED, group, spinners};

/// Runs two cgroups, each with a spinning worker for every CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn steady(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let names = ["cg_0", "cg_1"];
    let result = execute_defs(ctx, names.map(|name| spinners(name, cpus)).into())?;
    let mut expect = Expect::of(result);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names)
        .few_switches(0, &names);
    Ok(expect.result())
}

/// Runs one cgroup for each LLC. The cgroup is confined to its LLC, and has two spinning workers for each of the LLC's CPUs.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn steady_llc(ctx: &Ctx) -> Result<AssertResult> {
    let llcs = ctx.topo.num_llcs();
    if llcs < 2 {
        return Ok(AssertResult::skip(format!(
            "the scenario needs 2 LLCs, the machine has {llcs}"
        )));
    }
    let name = |llc: usize| format!("cg_{llc}");
    let defs = (0..llcs)
        .map(|llc| {
            spinners(&name(llc), 2 * ctx.topo.cpus_in_llc(llc).len()).cpuset(CpusetSpec::llc(llc))
        })
        .collect();
    let result = execute_defs(ctx, defs)?;
    let mut expect = Expect::of(result);
    for llc in 0..llcs {
        let cpus = ctx.topo.llc_aligned_cpuset(llc);
        expect
            .work_conserving(0, &[&name(llc)], &cpus)
            .confined_to(0, &name(llc), &cpus);
    }
    Ok(expect.result())
}

/// Runs two cgroups of the same size, whose workers alternate between spinning and yielding. Each cgroup has eight workers for
/// each CPU, up to a total of 32 workers. On a machine with more than 32 CPUs, each cgroup has one worker for each CPU.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn oversubscribed(ctx: &Ctx) -> Result<AssertResult> {
    let workers = crowd(ctx.topo.total_cpus());
    let names = ["cg_0", "cg_1"];
    let defs = names.map(|name| group(name, WorkType::Mixed, workers));
    let result = execute_defs(ctx, defs.into())?;
    let mut expect = Expect::of(result);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// Returns the number of workers of each of the two cgroups, which is at least one for each CPU.
fn crowd(cpus: usize) -> usize {
    (8 * cpus).min(cpus.max(32))
}

/// Runs a spinning worker for each CPU in the harness's own cgroup, next to two cgroups with as many workers each.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn host_contention(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let step = Step {
        setup: vec![spinners("cg_0", cpus), spinners("cg_1", cpus)].into(),
        ops: vec![Op::spawn_host(WorkSpec::default().workers(cpus))],
        hold: HoldSpec::FULL,
    };
    let result = execute_steps(ctx, vec![step])?;
    let names = ["(runner)", "cg_0", "cg_1"];
    let mut expect = Expect::of(result);
    expect
        .work_conserving(0, &names, &ctx.topo.all_cpuset())
        .equal_share(0, &names);
    Ok(expect.result())
}

/// Runs four cgroups: spinners, workers that spin and yield, workers that compute in short bursts, and pairs of workers that
/// wake each other through pipes.
///
/// # Errors
/// The same errors as [`execute_defs`].
pub fn mixed_workloads(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let bursts = WorkType::Bursty {
        burst_duration: Duration::from_millis(2),
        sleep_duration: Duration::from_millis(10),
    };
    let defs = vec![
        spinners("spin", cpus),
        group("mixed", WorkType::Mixed, cpus),
        group("bursty", bursts, cpus),
        group("pipes", WorkType::PipeIo { burst_iters: 64 }, 2 * cpus),
    ];
    let result = execute_defs(ctx, defs)?;
    let mut expect = Expect::of(result);
    expect
        .work_conserving(
            0,
            &["spin", "mixed", "bursty", "pipes"],
            &ctx.topo.all_cpuset(),
        )
        .wakes(0, "bursty", LOADED);
    Ok(expect.result())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_of_a_large_machine_has_a_worker_of_each_cgroup() {
        assert_eq!([1, 2, 4, 32].map(crowd), [8, 16, 32, 32]);
        for preset in ktstr_scenario::topology::PRESETS {
            let cpus = preset.topology.total_cpus() as usize;
            assert!(crowd(cpus) >= cpus, "{}", preset.name);
        }
    }
}
