//! Tests of work that changes cgroups, and of swappable cgroups.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ktstr::cgroup::Controller;
use ktstr::prelude::*;

use super::watch::{Task, each, of, refusal, watch_handle};

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    ctx.cgroups.setup(&BTreeSet::from([Controller::Cpu]))?;
    each(
        ctx,
        &[("CgroupChurn", churn), ("CgroupAttachStorm", attach)],
    )
}

fn in_cgroup(ctx: &Ctx, name: &str, work: WorkType, workers: usize) -> Result<WorkloadHandle> {
    ctx.cgroups.create_cgroup(name)?;
    let handle = WorkloadHandle::spawn_seeded(&of(work, workers), ctx.seed)?;
    for pid in handle.worker_pids_for_cgroup_procs()? {
        ctx.cgroups.place_task_during_handshake(name, pid)?;
    }
    Ok(handle)
}

fn churn(ctx: &Ctx) -> Result<()> {
    let mut handle = in_cgroup(ctx, "churner", WorkType::cgroup_churn(3, 4), 2)?;
    handle.start();
    let mut met = BTreeSet::new();
    // The interval varies, because a fixed one can be in step with the worker's cycle of 12 ms and miss a cgroup each time.
    for look in 0..400 {
        std::thread::sleep(Duration::from_millis(1 + look % 7));
        let places = handle.worker_pids().into_iter().map(Task::of);
        let places = places.map(|task| task.cgroup);
        // The workers start in the cgroup above those that they create.
        met.extend(places.filter(|path| !path.ends_with("/churner")));
        if met.len() == 3 && look > 40 {
            break;
        }
    }
    let ends: Vec<_> = met
        .iter()
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    ensure!(ends == ["churn_0", "churn_1", "churn_2"], "{met:?}");
    let above = ctx.cgroups.parent_path().join("churner");
    let on = std::fs::read_to_string(above.join("cgroup.subtree_control"))?;
    ensure!(on.split_whitespace().any(|word| word == "cpu"), "{on:?}");
    for report in handle.stop_and_collect() {
        ensure!(report.completed && report.iterations > 10, "{report:?}");
    }
    // The workers have removed the cgroups that they created below this one, so it can be removed.
    ctx.cgroups.remove_cgroup("churner")?;

    // If workers left their cgroups behind in a declared cgroup, the teardown of the step would report it.
    let def = CgroupDef::named("declared").work_type(WorkType::cgroup_churn(2, 5));
    let result = execute_defs(ctx, vec![def])?;
    ensure!(result.is_pass(), "{:?}", result.outcomes);
    ensure!(
        !format!("{result:?}").contains("teardown of cgroup"),
        "{result:?}"
    );
    Ok(())
}

fn attach(ctx: &Ctx) -> Result<()> {
    for (name, reap) in [("waits", ReapMode::Waitpid), ("ignores", ReapMode::SigIgn)] {
        let dest = format!("dest_{name}");
        ctx.cgroups.create_cgroup(&dest)?;
        let work = WorkType::cgroup_attach_storm(dest.clone(), reap);
        let seen = watch_handle(in_cgroup(ctx, name, work, 1)?, 60)?;
        let report = &seen[0].report;
        let children = report.iterations;
        let moved = report.work_units.saturating_sub(children);
        println!("{name}: {children} children, {moved} of them moved");
        ensure!(
            children > 5 && (1..=children).contains(&moved),
            "{report:?}"
        );
        ctx.cgroups.remove_cgroup(name)?;
        ctx.cgroups.remove_cgroup(&dest)?;
    }
    let why = refusal(
        ctx,
        WorkType::cgroup_attach_storm("nowhere", ReapMode::Waitpid),
        1,
    )?;
    ensure!(why.contains("`dest`"), "{why}");
    Ok(())
}

/// The verdict names what a worker needs and does not find, and what keeps it from doing its work as declared.
pub fn lacking(ctx: &Ctx) -> Result<AssertResult> {
    let one = |name: &'static str, work| CgroupDef::named(name).workers(1).work_type(work);
    let storm = WorkType::cgroup_attach_storm("nodes", ReapMode::Waitpid);
    let faults = WorkType::page_fault_churn(16 << 10, 4096, 64);
    let defs = vec![
        one("nodes", WorkType::numa_migration_churn(5)),
        one("forks", WorkType::ForkExit).pids_max(1),
        one("storm", storm).pids_max(1),
        one("pinned", WorkType::SpinWait).affinity(AffinityIntent::exact([3])),
        one("memory", faults).memory_max(3 << 20),
    ];
    let step = Step {
        setup: defs.into(),
        ops: vec![Op::cpu_offline(3)],
        hold: HoldSpec::FULL,
    };
    execute_steps(ctx, vec![step])
}

pub fn swapped(ctx: &Ctx) -> Result<AssertResult> {
    let mut ctx = ctx.clone();
    ctx.work_type_override = Some(WorkType::timer_latency(1000));
    let defs = vec![
        CgroupDef::named("kept").workers(1),
        CgroupDef::named("swapped").workers(1).swappable(true),
    ];
    let result = execute_defs(&ctx, defs)?;
    let busy = |name: &str| {
        let cgroup = result.stats.cgroups.iter().find(|c| c.cgroup_name == name);
        cgroup.map(|c| c.total_iterations)
    };
    let [kept, swapped] = ["kept", "swapped"].map(busy);
    // The work type that is swapped in has one deadline per millisecond, and the window lasts for a second.
    ensure!(
        swapped.is_some_and(|n| n > 100 && n <= 1100) && kept.is_some_and(|n| n > 1100),
        "{kept:?} and {swapped:?} iterations"
    );
    Ok(result)
}
