//! Tests of the statistics that a scheduler serves (the crate `scx_stats`): the guest asks for them before each capture.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use ktstr::prelude::*;

const SERVES: Scheduler = Scheduler::named("serves")
    .binary(SchedulerSpec::Discover("scx-ktstr"))
    .sched_args(&["--stats"]);
const SILENT: Scheduler = Scheduler::named("silent").binary(SchedulerSpec::Discover("scx-ktstr"));

/// The constant in the statistics of scx-ktstr.
const MAGIC: u64 = 0x5354_4154_7374_6174;

fn busy(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("a").workers(4)])
}

/// There are more runnable tasks than CPUs, so the scheduler's process has to get CPU time between them to answer.
#[ktstr_test(scheduler = SERVES, cores = 2, duration_s = 1, num_snapshots = 4, post_vm = are_in_each_capture)]
fn a_scheduler_that_serves_statistics_is_asked_before_each_capture(
    ctx: &Ctx,
) -> Result<AssertResult> {
    busy(ctx)
}

fn are_in_each_capture(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    let magic = series.stats_live_u64("stats_magic");
    ensure!(magic.len() == 4, "{} captures", magic.len());
    for value in magic.values_iter() {
        ensure!(value.clone()? == MAGIC);
    }
    let served = series.stats_live_u64("nr_dispatched");
    let captured = series.bpf_live_u64("nr_dispatched");
    let pairs = served.values_iter().zip(captured.values_iter());
    let mut before = 0;
    for (served, captured) in pairs {
        let (served, captured) = (served.clone()?, captured.clone()?);
        ensure!(before < served, "{served} after {before}");
        // The request is sent 10 ms before the capture. A scheduler that answers after the capture would have a higher count.
        ensure!(
            served <= captured + 50,
            "{served} in the answer, and {captured} in the capture"
        );
        ensure!(
            served > captured / 2,
            "{served} in the answer, and {captured} in the capture"
        );
        before = served;
    }
    Ok(())
}

/// A capture that the test requests has statistics of its own.
#[ktstr_test(scheduler = SERVES, cores = 2, duration_s = 1, post_vm = are_in_the_tests_captures)]
fn a_scheduler_is_asked_for_the_captures_of_the_test(ctx: &Ctx) -> Result<AssertResult> {
    let hold = HoldSpec::fixed(Duration::from_millis(300));
    let steps = vec![
        Step::with_defs(vec![CgroupDef::named("a").workers(2)], hold),
        Step::with_op(Op::capture_snapshot("first"), hold),
        Step::with_op(Op::capture_snapshot("second"), hold),
    ];
    execute_steps(ctx, steps)
}

fn are_in_the_tests_captures(vm: &VmResult) -> Result<()> {
    let served = vm.captures_series().stats_live_u64("nr_dispatched");
    let values: Vec<u64> = (served.values_iter().cloned()).collect::<SnapshotResult<_>>()?;
    ensure!(values.len() == 2 && values[0] < values[1], "{values:?}");
    Ok(())
}

#[ktstr_test(scheduler = SILENT, cores = 2, duration_s = 1, num_snapshots = 1, post_vm = say_that_nothing_serves_them)]
fn a_scheduler_that_serves_nothing_has_no_statistics(ctx: &Ctx) -> Result<AssertResult> {
    busy(ctx)
}

fn say_that_nothing_serves_them(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    let sample = series.iter_samples().next();
    let stats = sample.ok_or_else(|| anyhow!("no capture"))?.stats;
    let Err(MissingStatsReason::NoScheduler { reason }) = stats else {
        anyhow::bail!("{stats:?}");
    };
    ensure!(reason.contains("/var/run/scx/root/stats"), "{reason}");
    Ok(())
}
