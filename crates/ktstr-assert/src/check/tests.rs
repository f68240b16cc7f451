//! Tests each check with a case that holds, a case that does not hold, and a case without data.

use super::Assert;
use crate::outcome::{AssertResult, Finding};
use crate::worker::{WorkerExitInfo, WorkerReport};
use std::collections::BTreeSet;

const NONE: Assert = Assert::NO_OVERRIDES;

fn worker(tid: i32) -> WorkerReport {
    WorkerReport {
        tid,
        completed: true,
        work_units: 1000,
        iterations: 100,
        cpu_time_ns: 500_000_000,
        wall_time_ns: 1_000_000_000,
        off_cpu_ns: 500_000_000,
        migration_count: 10,
        cpus_used: [0, 1].into(),
        max_gap_ms: 20,
        max_gap_cpu: 1,
        max_gap_at_ms: 700,
        wake_latencies_ns: vec![1000, 2000, 3000],
        wake_sample_total: 3,
        numa_pages: [(0, 90), (1, 10)].into(),
        vmstat_numa_pages_migrated: 5,
        ..WorkerReport::default()
    }
}

fn with(f: impl FnOnce(&mut WorkerReport)) -> [WorkerReport; 2] {
    let mut second = worker(2);
    f(&mut second);
    [worker(1), second]
}

fn judge(assert: Assert, reports: &[WorkerReport]) -> AssertResult {
    let cpuset = BTreeSet::from([0, 1]);
    assert.assert_cgroup_with_numa(reports, Some(&cpuset), Some(&[0].into()))
}

/// Judges the reports, and returns the details of the outcomes, one per line, with the kind and a word for the verdict.
fn lines(assert: Assert, reports: &[WorkerReport]) -> String {
    let r = judge(assert, reports);
    let lines: Vec<_> = r.outcomes.iter().filter_map(|o| o.detail()).collect();
    let word = if r.is_fail() { "FAIL" } else { "UNSURE" };
    let text: Vec<_> = lines
        .iter()
        .map(|d| format!("{word} {}", d.display_with_kind()))
        .collect();
    text.join("\n")
}

#[test]
fn by_default_everything_is_measured_and_nothing_judged() {
    let bad = with(|w| *w = WorkerReport::missing(2, WorkerExitInfo::Signaled(9)));
    let r = judge(Assert::default_checks(), &bad);
    assert!(r.is_pass() && r.outcomes.is_empty());
    assert_eq!((r.stats.total_workers, r.stats.total_iterations), (2, 100));
}

#[test]
fn sound_workers_hold_every_check() {
    let all = NONE
        .check_not_stuck()
        .check_isolation()
        .max_throughput_cv(0.1)
        .min_work_rate(2000.0)
        .max_p99_wake_latency_ns(3000)
        .max_wake_latency_cv(0.5)
        .min_iteration_rate(200.0)
        .max_migration_ratio(0.1)
        .min_page_locality(0.9)
        .max_cross_node_migration_ratio(0.05);
    let r = judge(all, &[worker(1), worker(2)]);
    assert!(r.outcomes.is_empty(), "{:?}", r.outcomes);
    assert_eq!(r.stats.run_metric("worst_page_locality"), Some(0.9));
    let nowhere = all.assert_cgroup(&[worker(1), worker(2)], None);
    assert_eq!(nowhere.stats.run_metric("worst_page_locality"), None);
}

/// Units of different work cannot be compared.
#[test]
fn throughput_is_compared_among_workers_of_one_specification() {
    let other = |group_idx| {
        let slow = WorkerReport {
            group_idx,
            work_units: 10,
            ..worker(2)
        };
        judge(NONE.max_throughput_cv(0.1), &[worker(1), slow])
    };
    assert!(other(0).is_fail());
    assert!(other(1).is_pass(), "{:?}", other(1).outcomes);
}

#[test]
fn the_message_for_each_broken_worker() {
    let dead = with(|w| *w = WorkerReport::missing(2, WorkerExitInfo::TimedOut));
    insta::assert_snapshot!(lines(NONE.check_not_stuck(), &dead), @r#"
    FAIL [NoProgress] tid 2 made no progress (0 work units); no report: it did not answer when the reports were collected
    FAIL [Stuck] the longest gap of tid 2 is unknown, so it was not judged; no report: it did not answer when the reports were collected
    "#);
    // The worker was killed while it waited for a CPU. Its wait counts as a gap.
    let starved = with(|w| {
        w.max_gap_ms = 6000;
        (w.completed, w.exit_info) = (false, Some(WorkerExitInfo::TimedOut));
    });
    insta::assert_snapshot!(lines(NONE.check_not_stuck(), &starved), @"FAIL [Stuck] tid 2 stuck 6000ms on cpu1 at +700ms (threshold 2000ms)");
    insta::assert_snapshot!(lines(NONE.check_not_stuck(), &with(|w| w.max_gap_ms = 2001)), @"FAIL [Stuck] tid 2 stuck 2001ms on cpu1 at +700ms (threshold 2000ms)");
    insta::assert_snapshot!(lines(NONE.max_gap_ms(19), &[worker(1)]), @"FAIL [Stuck] tid 1 stuck 20ms on cpu1 at +700ms (threshold 19ms)");
    insta::assert_snapshot!(lines(NONE.max_spread_pct(15.0), &with(|w| w.off_cpu_ns = 800_000_000)), @"FAIL [Unfair] unfair cgroup: spread=30% (50-80%) 2 workers on 2 cpus (threshold 15%)");
    insta::assert_snapshot!(lines(NONE.check_isolation(), &with(|w| { w.cpus_used.insert(7); })), @"FAIL [Isolation] tid 2 ran on cpus [7] outside its cpuset {0, 1}");
    insta::assert_snapshot!(lines(NONE.max_throughput_cv(0.1), &with(|w| w.work_units = 10)), @"FAIL [Benchmark] throughput varies too much: cv 0.980 of work units per CPU-second over 2 workers (threshold 0.1)");
    insta::assert_snapshot!(lines(NONE.min_work_rate(1500.0), &with(|w| w.work_units = 10)), @"FAIL [Benchmark] worker 2 work rate 20.0/s below floor 1500/s");
    // The report lacks the work after the worker's last checkpoint.
    let panicked = with(|w| {
        w.work_units = 10;
        w.exit_info = Some(WorkerExitInfo::Panicked("why".to_owned()));
    });
    assert!(judge(NONE.min_work_rate(1500.0), &panicked).is_inconclusive());
    insta::assert_snapshot!(lines(NONE.min_iteration_rate(150.0), &with(|w| w.iterations = 10)), @"FAIL [Benchmark] worker 2 iteration rate 20.0/s below floor 150/s");
    insta::assert_snapshot!(lines(NONE.max_p99_wake_latency_ns(2999), &with(|_| {})), @"FAIL [Benchmark] p99 wake latency 0.003 ms above 0.002999 ms (6 samples)");
    insta::assert_snapshot!(lines(NONE.max_wake_latency_cv(0.1), &with(|_| {})), @"FAIL [Benchmark] wake latency cv 0.408 above 0.1");
    insta::assert_snapshot!(lines(NONE.max_migration_ratio(0.09), &with(|_| {})), @"FAIL [Migration] migration ratio 0.100 above 0.09: 20 migrations in 200 iterations");
    insta::assert_snapshot!(lines(NONE.min_page_locality(0.95), &with(|_| {})), @"FAIL [PageLocality] page locality 0.900 below 0.95: 180 of 200 pages on the expected nodes");
    insta::assert_snapshot!(lines(NONE.max_cross_node_migration_ratio(0.01), &with(|_| {})), @"FAIL [CrossNodeMigration] cross-node migration ratio 0.025 above 0.01: 5 pages moved in the whole machine, and the workers have 200");
}

#[test]
fn what_was_not_measured_is_inconclusive() {
    let nothing = [WorkerReport {
        tid: 1,
        ..WorkerReport::default()
    }];
    for assert in [
        NONE.max_spread_pct(15.0),
        NONE.check_isolation(),
        NONE.max_throughput_cv(0.1),
        NONE.min_work_rate(1.0),
        NONE.min_iteration_rate(1.0),
        NONE.max_p99_wake_latency_ns(1),
        NONE.max_wake_latency_cv(0.1),
        NONE.max_migration_ratio(0.1),
        NONE.max_cross_node_migration_ratio(0.1),
        NONE.max_slow_tier_ratio(0.1),
    ] {
        assert!(
            judge(assert, &nothing).is_inconclusive(),
            "{}",
            assert.format_human()
        );
    }
    assert!(
        judge(NONE.min_page_locality(0.1), &nothing).is_fail(),
        "no pages count as 0"
    );
    assert!(
        NONE.min_page_locality(0.1)
            .assert_cgroup(&nothing, None)
            .is_inconclusive()
    );
    assert!(judge(NONE.check_not_stuck(), &[]).is_skip());
}

/// A bound on what the work never does is different from missing data: here both workers finished, and neither was woken.
#[test]
fn a_bound_that_does_not_fit_the_work_is_told_from_missing_data() {
    let worked = |tid, entitlement| WorkerReport {
        tid,
        entitlement,
        iterations: 10,
        wall_time_ns: 2_000_000_000,
        cpu_time_ns: 1_000_000_000,
        off_cpu_ns: 1_000_000_000,
        ..WorkerReport::default()
    };
    let both = [worked(1, 1), worked(2, 2)];
    let unfit = |assert: Assert, workers: &[WorkerReport]| {
        let result = judge(assert, workers);
        let mut details = result.inconclusive_details();
        details.any(|detail| matches!(detail.finding, Finding::NothingToMeasure { .. }))
    };
    for assert in [
        NONE.max_p99_wake_latency_ns(1),
        NONE.max_wake_latency_cv(0.1),
        NONE.max_spread_pct(15.0),
    ] {
        assert!(unfit(assert, &both), "{}", assert.format_human());
        let started = WorkerReport::missing(3, WorkerExitInfo::TimedOut);
        let cut = [worked(1, 1), started];
        assert!(!unfit(assert, &cut), "{}", assert.format_human());
    }
}

/// If the caller reports which workers lacked a resource, the checks do not report it again. If no worker is left, nothing is
/// judged. Otherwise the report of such a worker makes the checks inconclusive.
#[test]
fn a_lack_that_the_caller_reports_is_not_reported_again() {
    let lacks = || WorkerExitInfo::WaitFailed("it needs two nodes".to_owned());
    let one = with(|w| *w = WorkerReport::missing(2, lacks()));
    let all = [1, 2].map(|tid| WorkerReport::missing(tid, lacks()));
    let cpuset = BTreeSet::from([0, 1]);
    for assert in [
        NONE.check_not_stuck(),
        NONE.max_gap_ms(1000),
        NONE.check_isolation(),
        NONE.min_work_rate(1.0),
        NONE.min_iteration_rate(1.0),
    ] {
        let by_us = |reports| assert.assert_cgroup_on(reports, Some(&cpuset), None);
        for result in [by_us(&one), by_us(&all)] {
            assert!(
                result.outcomes.is_empty(),
                "{}: {result:?}",
                assert.format_human()
            );
            assert_eq!(result.stats.total_workers, 2);
        }
        let alone = assert.assert_cgroup(&one, Some(&cpuset));
        assert!(alone.is_inconclusive(), "{alone:?}");
    }
    // The other worker is still judged.
    let slow = NONE.max_gap_ms(19);
    assert!(slow.assert_cgroup_on(&one, Some(&cpuset), None).is_fail());
    assert!(
        NONE.check_not_stuck()
            .assert_cgroup_on(&[], None, None)
            .is_skip()
    );
}

#[test]
fn explicit_bounds_replace_the_defaults() {
    let gap = with(|w| w.max_gap_ms = 2500);
    assert!(judge(NONE.check_not_stuck(), &gap).is_fail());
    assert!(judge(NONE.check_not_stuck().max_gap_ms(3000), &gap).is_pass());
    let unfair = with(|w| w.off_cpu_ns = 900_000_000);
    assert!(judge(NONE.check_not_stuck(), &unfair).is_fail());
    assert!(judge(NONE.check_not_stuck().max_spread_pct(45.0), &unfair).is_pass());
}

/// A life of less than a second is too short for the default bound on the spread.
#[test]
fn by_default_short_lives_are_not_unfair() {
    let lived = |wall_time_ns: u64| {
        with(|w| w.off_cpu_ns = 900_000_000).map(|w| WorkerReport {
            wall_time_ns,
            off_cpu_ns: w.off_cpu_ns * (wall_time_ns / 1_000_000) / 1000,
            ..w
        })
    };
    let default = NONE.check_not_stuck();
    assert!(judge(default, &lived(1_000_000_000)).is_fail());
    assert!(judge(default, &lived(999_000_000)).is_pass());
    assert!(judge(NONE.max_spread_pct(35.0), &lived(500_000_000)).is_fail());
}

/// One of two workers got less CPU time, because it either slept or waited.
#[test]
fn by_default_sleep_is_not_unfair() {
    let waited = |ns: u64| {
        with(|w| w.off_cpu_ns = 900_000_000).map(|w| WorkerReport {
            schedstat_run_count: 10,
            schedstat_run_delay_ns: if w.tid == 1 { 500_000_000 } else { ns },
            ..w
        })
    };
    let unfair = NONE.check_not_stuck();
    assert!(judge(unfair, &waited(799_000_000)).is_pass());
    insta::assert_snapshot!(lines(unfair, &waited(800_000_000)), @"FAIL [Unfair] unfair cgroup: spread=40% (50-90%) 2 workers on 2 cpus (threshold 35%)");
    // A test that asks for the spread counts all of the time off the CPU.
    assert!(judge(NONE.max_spread_pct(15.0), &waited(0)).is_fail());
    // The wait may be longer than the time off the CPU, because the two are not read at the same time.
    assert!(judge(unfair, &waited(u64::MAX)).is_fail());
    // Without schedstats sleep and waiting cannot be distinguished.
    let unknown = waited(0).map(|w| WorkerReport {
        schedstat_run_count: 0,
        ..w
    });
    assert!(judge(unfair, &unknown).is_fail());
}

#[test]
fn a_latency_failure_carries_its_gate() {
    let r = judge(NONE.max_p99_wake_latency_ns(2999), &[worker(1)]);
    let gate = r
        .failure_details()
        .next()
        .and_then(|d| d.latency_gate)
        .expect("the failure has a latency gate");
    assert_eq!((gate.measured_ns, gate.threshold_ns), (3000, 2999));
}

/// The CPU time covers only the first of the worker's two phases, but the work covers both, so a rate computed from them
/// would be twice the real one.
#[test]
fn the_rate_of_a_worker_with_unknown_cpu_time_is_unknown() {
    let early = with(|w| {
        (w.completed, w.cpu_unknown) = (false, true);
        w.exit_info = Some(WorkerExitInfo::Signaled(9));
        w.cpu_time_ns /= 2;
    });
    for (asked, reports) in [
        (NONE.max_throughput_cv(0.1), &early[..]),
        (NONE.min_work_rate(3000.0), &early[1..]),
        (NONE.min_iteration_rate(300.0), &early[1..]),
    ] {
        let r = judge(asked, reports);
        assert!(r.is_inconclusive(), "{r:?}");
    }
}
