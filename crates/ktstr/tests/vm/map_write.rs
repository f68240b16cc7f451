//! Tests of values that the host writes to a scheduler's variables and reads from them: the scheduler acts on written values,
//! values that are read match the scheduler's counters, and an unknown variable is named in the error.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

use crate::common::Case;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));
const STALL: BpfMapWrite = BpfMapWrite::new(".bss", "stall", 1);
const UNKNOWN: BpfMapWrite = BpfMapWrite::new(".bss", "no_such_variable", 1);

/// With `stall` set, the scheduler runs no task, and the kernel ejects it. Without the write the run would end without an error,
/// and the test, which expects one, would fail.
#[ktstr_test(
    scheduler = SCX_KTSTR,
    cores = 2,
    duration_s = 5,
    watchdog_timeout_s = 1,
    bpf_map_write = STALL,
    expect_err,
    expect_scx_bpf_error_contains = "runnable task stall"
)]
fn a_variable_that_is_written_stalls_the_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("cg").workers(2)])
}

fn defs(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("cg").workers(1)])
}

case!(
    UNKNOWN_VARIABLE = "map_write_unknown",
    defs,
    duration: Duration::from_secs(1),
    scheduler: &SCX_KTSTR,
    bpf_map_write: &[&UNKNOWN],
);

#[test]
fn a_variable_that_the_scheduler_does_not_have_is_named_and_nothing_runs() {
    let ended = Case::new("map_write_unknown").run();
    ended.says(
        1,
        &[
            "bpf_map_write failed: the map \"",
            "has no variable \"no_such_variable\"; it has: ",
            "fault: the test's",
        ],
    );
}

const DISPATCHED: WatchBpfMap = WatchBpfMap::new(
    ".bss",
    "nr_dispatched",
    BpfMapAgg::ScalarCounter,
    "dispatched",
);
const OF_CPUS: WatchBpfMap = WatchBpfMap::new(
    "ktstr_pcpu_fix",
    "nr_dispatched",
    BpfMapAgg::PerCpuCounter,
    "dispatched",
);
const MAGIC: WatchBpfMap = WatchBpfMap::new("ktstr_pcpu_fix", "magic", BpfMapAgg::PerCpu, "magic");
const STALLED: WatchBpfMap = WatchBpfMap::new(".bss", "stall", BpfMapAgg::Scalar, "stalled");
const SET: BpfMapWrite = BpfMapWrite::new(".bss", "slow_cnt", 1 << 20);
const SLOW: WatchBpfMap = WatchBpfMap::new(".bss", "slow_cnt", BpfMapAgg::Scalar, "slow");
const MISSING: WatchBpfMap =
    WatchBpfMap::new(".bss", "no_such_variable", BpfMapAgg::Scalar, "missing");

/// A counter that the scheduler keeps both globally and per CPU becomes two metrics.
#[ktstr_test(
    scheduler = SCX_KTSTR,
    cores = 2,
    duration_s = 2,
    bpf_map_write = SET,
    watch_bpf_maps = [DISPATCHED, OF_CPUS, MAGIC, STALLED, SLOW],
    post_vm = metrics_are_what_the_scheduler_counts
)]
fn variables_that_are_watched_are_metrics(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("cg").workers(4)])
}

fn metrics_are_what_the_scheduler_counts(vm: &VmResult) -> Result<()> {
    let of = |name: &str| vm.run_metric(name).with_context(|| format!("no {name}"));
    let (all, of_cpus) = (of("bpf_bpf_dispatched")?, of("ktstr_pcpu_fix_dispatched")?);
    // Four spinners on two CPUs need many dispatches. On each CPU a sample can fall between the increments of the two counters.
    ensure!(all > 50.0, "{all} calls of ops.dispatch");
    ensure!(
        (all - of_cpus).abs() <= 4.0,
        "{all} in all, {of_cpus} on CPUs"
    );
    let magic = 0x5354_4154_7374_6174_u64 as f64;
    let (mean, highest) = (
        of("ktstr_pcpu_fix_magic_avg")?,
        of("ktstr_pcpu_fix_magic_max")?,
    );
    ensure!(
        highest == magic && mean > 0.9 * magic,
        "{mean} and {highest}"
    );
    ensure!(of("bpf_bpf_stalled")? == 0.0);
    ensure!(of("bpf_bpf_slow")? == f64::from(1 << 20));
    ensure!(vm.run_metric("ktstr_pcpu_fix_magic").is_none());
    ensure!(vm.bpf_map_writes_delivered == Some(true), "not delivered");
    ensure!(vm.cpu_budget > 0, "no CPU of the host to run on");
    Ok(())
}

case!(
    MISSING_VARIABLE = "map_watch_unknown",
    defs,
    duration: Duration::from_secs(1),
    scheduler: &SCX_KTSTR,
    watch_bpf_maps: &[&MISSING],
);

#[test]
fn a_variable_that_cannot_be_watched_is_named() {
    let ended = Case::new("map_watch_unknown").run();
    ended.says(
        1,
        &[
            "watch_bpf_maps: \"no_such_variable\" of \".bss\": the map \"bpf_bpf.bss\"",
            "has no variable \"no_such_variable\"; it has: ",
            "fault: the test's",
        ],
    );
}
