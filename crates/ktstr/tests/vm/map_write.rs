//! Values that the host writes into a scheduler's variables: the scheduler acts on them, and what cannot be written is named.

use std::time::Duration;

use crate::common::Case;
use anyhow::Result;
use ktstr::prelude::*;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));
const STALL: BpfMapWrite = BpfMapWrite::new(".bss", "stall", 1);
const UNKNOWN: BpfMapWrite = BpfMapWrite::new(".bss", "no_such_variable", 1);

/// With `stall` set, the scheduler runs nobody, and the kernel ejects it; without the write it would pass.
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
