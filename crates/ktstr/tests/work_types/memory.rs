//! Tests of work on memory and of memory policies, on a machine of two nodes with two CPUs each.

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

use super::watch::{Seen, each, of, on, one, refusal, watch};

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    each(
        ctx,
        &[
            ("PageFaultChurn", faults),
            ("NumaWorkingSetSweep", sweep),
            ("NumaMigrationChurn", migration),
        ],
    )
}

fn faults(ctx: &Ctx) -> Result<()> {
    let seen = one(ctx, WorkType::page_fault_churn(256, 32, 4), 50)?;
    let cycles = seen.report.iterations;
    // The kernel's count was read before the worker was stopped, so it may lack the faults of the last cycles.
    ensure!(
        cycles > 3 && seen.task.faults >= 32 * cycles / 2,
        "{seen:?}"
    );
    Ok(())
}

fn migrated_pages() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/vmstat")?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("pgmigrate_success "));
    Ok(line
        .context("/proc/vmstat has no line pgmigrate_success")?
        .parse()?)
}

/// The working set of 1 MiB has 256 pages.
fn sweep(ctx: &Ctx) -> Result<()> {
    let swept = |nodes: &[usize]| -> Result<Seen> {
        let work = WorkType::numa_working_set_sweep(1024, 5, nodes.to_vec());
        let mut all = watch(ctx, &on(work, 1, &[0]), 60)?;
        all.pop().context("the only worker has no report")
    };
    let local = swept(&[])?;
    let far = swept(&[1])?;
    for seen in [&local, &far] {
        ensure!(seen.woken(), "{seen:?}");
        ensure!(seen.one_each(5000), "{seen:?}");
    }
    ensure!(
        local.buffer_pages(0) >= 256 && local.buffer_pages(1) == 0,
        "{}",
        local.task.numa_maps
    );
    ensure!(far.buffer_pages(1) >= 256, "{}", far.task.numa_maps);
    let before = migrated_pages()?;
    let both = swept(&[0, 1])?;
    let moved = migrated_pages()? - before;
    ensure!(
        both.report.iterations > 2 && moved >= 256,
        "{moved} pages moved: {both:?}"
    );
    let why = refusal(ctx, WorkType::numa_working_set_sweep(4, 1, vec![7]), 1)?;
    ensure!(why.contains("memory policy"), "{why}");
    Ok(())
}

fn migration(ctx: &Ctx) -> Result<()> {
    let seen = one(ctx, WorkType::numa_migration_churn(5), 60)?;
    let cpus = &seen.report.cpus_used;
    ensure!(
        cpus.iter().any(|cpu| *cpu < 2) && cpus.iter().any(|cpu| *cpu >= 2),
        "{seen:?}"
    );
    ensure!(
        seen.report.migration_count >= 3 && seen.task.allowed.len() == 2,
        "{seen:?}"
    );
    let mut handle = WorkloadHandle::spawn(&on(WorkType::numa_migration_churn(5), 1, &[0, 1]))?;
    handle.start();
    std::thread::sleep(std::time::Duration::from_millis(10));
    let why = format!("{:?}", handle.stop_and_collect()[0].exit_info);
    ensure!(why.contains("CPUs of two NUMA nodes"), "{why}");
    Ok(())
}

/// Runs one worker with a private buffer of 1 MiB, in the configuration that `config` completes.
fn placed(ctx: &Ctx, config: impl Fn(WorkloadConfig) -> WorkloadConfig) -> Result<Seen> {
    let cache = of(WorkType::cache_pressure(1024, 64), 1);
    let mut all = watch(ctx, &config(cache), 60)?;
    all.pop().context("the only worker has no report")
}

pub fn policies(ctx: &Ctx) -> Result<AssertResult> {
    let on_cpu_0 = |config: WorkloadConfig| config.affinity(AffinityIntent::exact([0]));
    let with = |policy: MemPolicy, flags| {
        placed(ctx, move |c| {
            on_cpu_0(c).mem_policy(policy.clone()).mpol_flags(flags)
        })
    };
    let none = MpolFlags::NONE;
    let base = placed(ctx, on_cpu_0)?;
    ensure!(base.buffer_pages(0) >= 256, "{}", base.task.numa_maps);
    ensure!(base.buffer_pages(1) == 0, "{}", base.task.numa_maps);
    for (policy, all) in [
        (MemPolicy::bind([1]), true),
        (MemPolicy::preferred(1), true),
        (MemPolicy::preferred_many([1]), true),
        (MemPolicy::interleave([0, 1]), false),
        (MemPolicy::weighted_interleave([0, 1]), false),
    ] {
        let name = policy.name();
        let seen = with(policy, none)?;
        let [near, far] = [0, 1].map(|node| seen.buffer_pages(node));
        println!("{name}: {near} pages on node 0, {far} on node 1");
        let placed = match all {
            true => far >= 256 && near <= 8,
            false => far.abs_diff(near) <= 8 && far + near >= 256,
        };
        ensure!(placed, "{name}: {}", seen.task.numa_maps);
        let counted = seen.report.numa_pages.get(&1).copied().unwrap_or(0);
        ensure!(counted >= far, "{name}: {counted} pages in the report");
    }
    let local = with(MemPolicy::Local, none)?;
    ensure!(local.buffer_pages(1) == 0, "{}", local.task.numa_maps);
    ensure!(
        local.task.numa_maps.contains(" local "),
        "{}",
        local.task.numa_maps
    );
    for (flag, printed) in [
        (MpolFlags::STATIC_NODES, "bind=static:1"),
        (MpolFlags::RELATIVE_NODES, "bind=relative:1"),
    ] {
        let maps = with(MemPolicy::bind([1]), flag)?.task.numa_maps;
        ensure!(maps.contains(printed), "no {printed} in {maps}");
    }
    let own = placed(ctx, |config| config.numa_node(1))?;
    ensure!(own.task.allowed == [2, 3], "{:?}", own.task.allowed);
    ensure!(own.buffer_pages(1) >= 256, "{}", own.task.numa_maps);

    // The same policy in a cgroup: a node that is not in its cpuset is refused before anything runs.
    let bound = CgroupDef::named("bound").cpuset(CpusetSpec::exact([0, 1]));
    let bound = bound.mem_policy(MemPolicy::bind([1]));
    let refused = execute_defs(ctx, vec![bound.clone()])?;
    let why: Vec<_> = refused.failure_details().map(|d| &d.message).collect();
    ensure!(
        why.len() == 1 && why[0].contains("node 1 is not among {0}"),
        "{why:?}"
    );
    let allowed = bound.cpuset_mems([1].into());
    let placed = execute_defs(ctx, vec![allowed])?;
    ensure!(placed.is_pass(), "{:?}", placed.outcomes);
    Ok(AssertResult::pass())
}
