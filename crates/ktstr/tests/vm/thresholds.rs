//! Tests of `AbsoluteThresholds` on the reports of workers that a test function started itself, under a BPF scheduler.

use std::time::Duration;

use anyhow::ensure;
use ktstr::prelude::*;
use ktstr::scenario::setup_cgroups;

const SCHED: Scheduler = Scheduler::named("ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

/// Two workers that wake each other, each of which works for `turn` before it wakes the other.
fn took_turns(ctx: &Ctx, turn: Duration) -> Result<Vec<WorkerReport>> {
    let workload = WorkloadConfig {
        num_workers: 2,
        work_type: WorkType::wake_chain(2, WakeMechanism::Futex, turn),
        ..WorkloadConfig::default()
    };
    let (handles, _group) = setup_cgroups(ctx, 1, &workload)?;
    std::thread::sleep(Duration::from_millis(500));
    let reports = handles
        .into_iter()
        .flat_map(WorkloadHandle::stop_and_collect);
    Ok(reports.collect())
}

#[ktstr_test(scheduler = SCHED, cores = 2, duration_s = 1)]
fn short_turns_meet_the_strict_thresholds(ctx: &Ctx) -> Result<AssertResult> {
    let turn = Duration::from_micros(100);
    let reports = took_turns(ctx, turn)?;
    for report in &reports {
        let costs = &report.iteration_costs_ns;
        ensure!(costs.len() > 20, "{} measured iterations", costs.len());
        ensure!(report.iteration_cost_sample_total == costs.len() as u64);
        let cost = costs.iter().min().copied().unwrap_or_default();
        // While the partner works, the worker waits, and a wait is no part of the cost.
        ensure!((90_000..190_000).contains(&cost), "a turn cost {cost} ns");
    }
    Ok(assert_thresholds(&reports, &AbsoluteThresholds::strict()))
}

#[ktstr_test(scheduler = SCHED, cores = 2, duration_s = 1)]
fn long_turns_break_the_threshold_of_iteration_costs_alone(ctx: &Ctx) -> Result<AssertResult> {
    let reports = took_turns(ctx, Duration::from_millis(5))?;
    let result = assert_thresholds(&reports, &AbsoluteThresholds::strict());
    let failures: Vec<&AssertDetail> = result.failure_details().collect();
    let [failure] = failures.as_slice() else {
        anyhow::bail!("{failures:?}");
    };
    let told = &failure.message;
    ensure!(
        told.starts_with("the 99th percentile of iteration cost is ")
            && told.ends_with(" ns, above 1000000 ns"),
        "{told}"
    );
    Ok(AssertResult::pass())
}
