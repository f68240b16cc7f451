//! A test with a third-party scheduler: `scx_bpfland` from the package registry runs a scenario, and its counters are read from
//! outside.
//!
//! `cargo test` does not run it by default, because it needs a binary that takes minutes to build: `make test-registry`
//! installs that binary and runs the test.

use std::time::Duration;

use ktstr::prelude::*;

const BPFLAND: Scheduler = Scheduler::named("bpfland").binary(SchedulerSpec::Path(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/registry/bin/scx_bpfland"
)));

/// The counters in the BPF globals of the scheduler, one for each way to dispatch a task.
const DISPATCHES: [&str; 3] = [
    "nr_kthread_dispatches",
    "nr_direct_dispatches",
    "nr_shared_dispatches",
];

fn it_dispatched(result: &VmResult) -> Result<()> {
    let series = result.periodic_series();
    anyhow::ensure!(series.len() == 4, "{} of 4 captures", series.len());
    let totals: Vec<u64> = series
        .iter_samples()
        .map(|sample| {
            DISPATCHES
                .iter()
                .try_fold(0, |sum, name| Ok(sum + sample.snapshot.var(name).as_u64()?))
        })
        .collect::<SnapshotResult<_>>()?;
    anyhow::ensure!(
        totals.is_sorted_by(|a, b| a < b),
        "under load the number of dispatches should rise from capture to capture: {totals:?}"
    );
    it_served(&series, &totals)
}

/// Checks the answers of the scheduler on its statistics socket: each answer is how much each counter has grown since the
/// previous answer on the same connection. The guest sends its request 10 ms before each capture, so few dispatches happen
/// between the answer and the capture.
fn it_served(series: &SampleSeries, totals: &[u64]) -> Result<()> {
    let served = series.stats("dispatches", |stats| {
        let mut all = DISPATCHES.iter();
        all.try_fold(0, |sum, name| Ok(sum + stats.get(name).as_u64()?))
    });
    let served: Vec<u64> = (served.values_iter().cloned()).collect::<SnapshotResult<_>>()?;
    let grown = totals.windows(2).map(|pair| pair[1] - pair[0]);
    for (served, grown) in served.iter().skip(1).zip(grown) {
        anyhow::ensure!(
            served.abs_diff(grown) <= grown / 10,
            "the answer has {served} dispatches for an interval in which the variables grew by {grown}"
        );
    }
    Ok(())
}

#[ktstr_test(
    scheduler = BPFLAND,
    llcs = 1,
    cores = 2,
    duration_s = 5,
    num_snapshots = 4,
    max_gap_ms = 2000,
    post_vm = it_dispatched
)]
fn bpfland_shares_two_cores(ctx: &Ctx) -> Result<AssertResult> {
    let ms = Duration::from_millis;
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("hogs").workers(2),
            CgroupDef::named("sleepers")
                .workers(2)
                .work_type(WorkType::bursty(ms(10), ms(30))),
        ],
    )
}
