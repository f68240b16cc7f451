//! The test that the demo runs. It is declared like any test, but in a binary with its own `main`, which is also the test process
//! in the guest.

use ktstr::prelude::*;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

/// The number of periodic captures, which is that of the attribute `num_snapshots` below.
const CAPTURES: u32 = 4;

/// Checks that `nr_enqueued` rises from capture to capture: a counter that does not rise under load is not the scheduler's, or
/// was not read.
fn counters_rise(result: &VmResult) -> Result<()> {
    // Under the real clock, captures may be missing on a busy host.
    periodic_starvation_gate(result, CAPTURES)?;
    let enqueued = result.periodic_series().bpf("nr_enqueued", |snap| {
        snap.var("nr_enqueued").as_u64().map(|count| count as f64)
    });
    let seen: Vec<f64> = enqueued.values_iter().flatten().copied().collect();
    anyhow::ensure!(
        seen.len() == CAPTURES as usize && seen.is_sorted_by(|a, b| a < b),
        "nr_enqueued should rise from capture to capture, and was {seen:?}"
    );
    Ok(())
}

/// Two equal groups of hogs share two cores; then pairs of tasks that wake each other compete with hogs.
#[ktstr_test(
    scheduler = SCX_KTSTR,
    llcs = 1,
    cores = 2,
    duration_s = 5,
    num_snapshots = 4,
    max_gap_ms = 2000,
    post_vm = counters_rise
)]
fn demo_two_steps(ctx: &Ctx) -> Result<AssertResult> {
    let step = |cgroups| Step {
        setup: Setup::Defs(cgroups),
        ops: vec![],
        hold: HoldSpec::frac(0.5),
    };
    let spin = |name: &str| CgroupDef::named(name).workers(2);
    let ping_pong = WorkType::pipe_io(64);
    execute_steps(
        ctx,
        vec![
            step(vec![spin("left"), spin("right")]),
            step(vec![
                spin("hogs"),
                CgroupDef::named("pipes").workers(4).work_type(ping_pong),
            ]),
        ],
    )
}
