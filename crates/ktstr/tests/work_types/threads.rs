//! Tests of workers that are threads of one process.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Result, ensure};
use ktstr::prelude::*;

use super::watch::{Seen, of, watch, watch_handle};

/// Reports as its iterations how many of three properties hold: the name of the process is that of its leader `herder`, and the
/// thread has its own name and its cgroup.
fn looks(ctx: &WorkerCtx) -> WorkerReport {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let facts = [
        read("self/comm").trim() == "herder",
        read("thread-self/comm").trim() == "sheep",
        read("thread-self/cgroup").trim().ends_with("/fold"),
    ];
    let report = WorkerReport {
        iterations: facts.iter().filter(|fact| **fact).count() as u64,
        ..WorkerReport::default()
    };
    while !ctx.stop().load(Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    report
}

pub fn all(ctx: &Ctx) -> Result<AssertResult> {
    let one_process = |all: &[Seen]| {
        let first = all.first().map_or(0, |seen| seen.task.tgid);
        let tids: std::collections::BTreeSet<_> = all.iter().map(|s| s.report.tid).collect();
        first > 0
            && tids.len() == all.len()
            && all.iter().all(|seen| seen.task.tgid == first)
            && !tids.contains(&first)
    };
    let forked = watch(ctx, &of(WorkType::pipe_io(16), 2), 30)?;
    ensure!(
        forked.iter().all(|seen| seen.task.tgid == seen.report.tid),
        "{forked:?}"
    );
    // The stop has to wake each of the threads that block, and each thread must have counters of its own.
    let config = of(WorkType::pipe_io(16), 4)
        .clone_mode(CloneMode::Thread)
        .push_composed(WorkSpec::new(WorkType::SpinWait).workers(1));
    let threads = watch(ctx, &config, 60)?;
    ensure!(one_process(&threads), "{threads:?}");
    ensure!(threads[..4].iter().all(Seen::woken), "{threads:?}");
    ensure!(
        !threads[4].woken() && threads[4].report.schedstat_cpu_time_ns > 0,
        "{threads:?}"
    );
    for seen in &threads {
        let wall = seen.report.wall_time_ns;
        // The stop was in time, and the CPU time is that of this thread alone.
        ensure!(
            seen.report.cpu_time_ns <= wall && wall < 5_000_000_000,
            "{seen:?}"
        );
    }
    // Policy, affinity and nice value are set per thread.
    let mut config = of(WorkType::SpinWait, 1).clone_mode(CloneMode::Thread);
    config.affinity = AffinityIntent::exact([2]);
    let config = config.push_composed(
        WorkSpec::new(WorkType::SpinWait)
            .workers(1)
            .sched_policy(SchedPolicy::Batch),
    );
    let two = watch(ctx, &config, 20)?;
    ensure!(one_process(&two), "{two:?}");
    ensure!(
        two[0].task.allowed == [2] && two[0].task.policy == 0,
        "{two:?}"
    );
    ensure!(
        two[1].task.allowed.len() == 4 && two[1].task.policy == 3,
        "{two:?}"
    );

    let led = WorkloadHandle::spawn_pcomm_cgroup("herder", &of(WorkType::SpinWait, 3))?;
    let procs = led.worker_pids_for_cgroup_procs()?;
    ctx.cgroups.create_cgroup("led")?;
    for pid in &procs {
        ctx.cgroups.place_task_during_handshake("led", *pid)?;
    }
    let led = watch_handle(led, 20)?;
    ensure!(procs.len() == 1 && one_process(&led), "{procs:?}: {led:?}");
    ensure!(
        led.iter().all(|s| s.task.cgroup.ends_with("/led")),
        "{led:?}"
    );
    ctx.cgroups.remove_cgroup("led")?;

    let fold = CgroupDef::named("fold")
        .pcomm("herder")
        .comm("sheep")
        .workers(2)
        .work_type(WorkType::custom("looks", looks));
    let result = execute_defs(ctx, vec![fold])?;
    let cgroup = result.stats.cgroups.first().map(|c| c.total_iterations);
    ensure!(cgroup == Some(6), "{cgroup:?}");
    Ok(result)
}
