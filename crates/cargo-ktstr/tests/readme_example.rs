//! tests/fair.rs: a test of two steps under a scheduler.
use ktstr::prelude::*;

const MINE: Scheduler = Scheduler::named("mine").binary(SchedulerSpec::Discover("scx-ktstr"));

/// Runs on the host after the guest has ended, and checks the scheduler's counter in the captures.
fn it_enqueued(result: &VmResult) -> Result<()> {
    let enqueued = result.periodic_series().bpf("nr_enqueued", |snap| {
        snap.var("nr_enqueued").as_u64().map(|count| count as f64)
    });
    let of_step = enqueued.last_per_phase();
    let (two, four) = (of_step[&Phase::step(0)], of_step[&Phase::step(1)]);
    anyhow::ensure!(
        two < four,
        "enqueued {two} tasks at first, {four} in the end"
    );
    Ok(())
}

/// Runs in the guest: two workers on two cores, then four. None may wait for two seconds.
#[ktstr_test(
    scheduler = MINE,
    llcs = 1,
    cores = 2,
    duration_s = 4,
    num_snapshots = 4,
    max_gap_ms = 2000,
    post_vm = it_enqueued
)]
fn fair(ctx: &Ctx) -> Result<AssertResult> {
    let step = |cgroup, workers| Step {
        setup: vec![CgroupDef::named(cgroup).workers(workers)].into(),
        ops: vec![],
        hold: HoldSpec::frac(0.5),
    };
    execute_steps(ctx, vec![step("two", 2), step("four", 4)])
}
