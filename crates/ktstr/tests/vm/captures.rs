//! Tests of what a capture contains: the tasks' storage, the dispatch queues in which tasks wait, and the pressure of cgroups.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use ktstr::prelude::*;

const SCHED: Scheduler = Scheduler::named("ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

const SPINNERS: usize = 8;
const COMM: &str = "spinner";

/// Eight tasks that are always runnable, on two CPUs.
#[ktstr_test(scheduler = SCHED, cores = 2, duration_s = 1, num_snapshots = 4, post_vm = seen_from_outside)]
fn a_capture_has_every_task_in_its_storage_and_in_its_queue(ctx: &Ctx) -> Result<AssertResult> {
    let spinners = CgroupDef::named("spinners").workers(SPINNERS).comm(COMM);
    let steps = vec![Step::with_defs(
        vec![spinners],
        HoldSpec::Fixed(Duration::from_secs(1)),
    )];
    execute_steps(ctx, steps)
}

fn seen_from_outside(vm: &VmResult) -> Result<()> {
    ensure!(vm.periodic_real == 4, "{} captures", vm.periodic_real);
    ensure!(
        vm.moment_captures().is_empty(),
        "an event triggered a capture, although nothing went wrong"
    );
    every_task_has_its_storage(vm)?;
    queues_hold_the_tasks_that_they_count(vm)
}

/// The scheduler keeps a `struct task_ctx` for each task in a task storage. Checks that a capture has one for each task of the
/// guest, with the same pid and name as the task list.
fn every_task_has_its_storage(vm: &VmResult) -> Result<()> {
    for sample in vm.periodic_series().iter_samples() {
        let map = sample.snapshot.map("ktstr_task_ctx")?;
        ensure!(map.map_error().is_none(), "{:?}", map.map_error());
        let tasks = sample.snapshot.task_enrichments();
        ensure!(tasks.len() > 10, "a guest has kernel threads at least");
        // The idle tasks do not belong to a scheduler.
        for task in tasks.iter().filter(|task| task.pid > 0) {
            let of_task = map.filter(|entry| entry.key("pid").as_i64() == Ok(i64::from(task.pid)));
            let [entry] = of_task.as_slice() else {
                bail!("{} values for {} ({})", of_task.len(), task.comm, task.pid);
            };
            ensure!(entry.key("comm").as_str()? == task.comm);
            ensure!(entry.key("address").as_u64()? == task.task_kva);
            ensure!(entry.get("llc").as_u64()? == 0, "there is one LLC");
        }
    }
    Ok(())
}

/// Checks the tasks in the dispatch queues: each queue has as many tasks as it counts, each task is runnable, and the
/// scheduler's own queues are sorted by vtime. On a kernel on which schedulers cannot create queues, the tasks wait in the
/// global one.
fn queues_hold_the_tasks_that_they_count(vm: &VmResult) -> Result<()> {
    for sample in vm.periodic_series().iter_samples() {
        let queues = sample.snapshot.dsq_states();
        for origin in ["local cpu 0", "local cpu 1", "global node 0"] {
            ensure!(
                queues.iter().any(|queue| queue.origin == origin),
                "no queue {origin} in {queues:?}"
            );
        }
        let mut waiting = 0;
        for queue in queues {
            ensure!(queue.tasks_unavailable.is_none(), "{queue:?}");
            // A capture may fall between the update of a list and the update of its count.
            let (listed, counted) = (queue.tasks.len(), queue.nr as usize);
            ensure!(listed.abs_diff(counted) <= 1, "{queue:?}");
            let spins = |task: &&QueuedTask| task.comm == COMM;
            waiting += queue.tasks.iter().filter(spins).count();
            for task in &queue.tasks {
                let known = sample.snapshot.task_enrichment_by_pid(task.pid);
                ensure!(
                    known.is_some_and(|known| known.comm == task.comm && known.state == 0),
                    "{task:?} waits in {}, and the task list has {known:?}",
                    queue.origin
                );
            }
            if queue.origin == "user" {
                let later = |pair: &[QueuedTask]| pair[1].vtime.wrapping_sub(pair[0].vtime);
                let ordered = queue.tasks.windows(2).all(|pair| later(pair) < 1 << 63);
                ensure!(ordered, "{queue:?}");
            }
        }
        // Two of the spinners have a CPU, and each CPU may be about to add a task to a queue or to remove one.
        ensure!(
            (SPINNERS - 4..=SPINNERS).contains(&waiting),
            "{waiting} of {SPINNERS} spinners wait in {queues:?}"
        );
    }
    Ok(())
}

/// The kernel updates pressure every two seconds, and the last capture is taken more than three seconds after the window opens,
/// so it includes at least one update.
#[ktstr_test(scheduler = SCHED, cores = 2, duration_s = 5, num_snapshots = 2, post_vm = pressure_is_seen)]
fn a_capture_has_the_pressure_of_each_cgroup(ctx: &Ctx) -> Result<AssertResult> {
    let spinners = CgroupDef::named("spinners").workers(SPINNERS);
    let churn = WorkType::IdleChurn {
        burst_duration: Duration::from_millis(1),
        sleep_duration: Duration::from_millis(100),
        precise_timing: false,
    };
    let alone = CgroupDef::named("idle").workers(1).work_type(churn);
    execute_defs(ctx, vec![spinners, alone])
}

fn pressure_is_seen(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    let samples: Vec<_> = series.iter_samples().collect();
    let last = samples.last().expect("two captures").snapshot;
    let unavailable = last.cgroup_psi_unavailable();
    ensure!(unavailable.is_none(), "{unavailable:?}");
    let total = |end: &str| {
        let all = last.cgroup_psi();
        let group = all.iter().find(|group| group.path.ends_with(end));
        let group = group.ok_or_else(|| anyhow::anyhow!("no {end} in {all:?}"))?;
        let line = group.lines.get("cpu.some");
        line.cloned()
            .ok_or_else(|| anyhow::anyhow!("{:?}", group.lines))
    };
    // There are four tasks per CPU, one of which runs, so some are always waiting.
    let (busy, idle) = (total("/spinners")?, total("/idle")?);
    ensure!(busy.total_us > 500_000 && busy.avg10 > 1.0, "{busy:?}");
    ensure!(busy.total_us < 6_000_000 && busy.avg10 <= 100.0, "{busy:?}");
    ensure!(idle.total_us < busy.total_us, "{idle:?}, {busy:?}");
    ensure!(total("/")?.total_us > 0);
    Ok(())
}
