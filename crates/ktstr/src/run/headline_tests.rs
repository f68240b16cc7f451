//! Tests of the sentence for each kind of finding. The findings come from the checks themselves, so these tests fail if a
//! check changes the data of its finding.

use std::collections::BTreeSet;

use ktstr_assert::{Assert, DetailKind, MonitorBound, SchedulerEnd, Verdict, WorkerReport};

use super::*;

fn worker(tid: i32) -> WorkerReport {
    WorkerReport {
        tid,
        completed: true,
        work_units: 1000,
        iterations: 1000,
        wall_time_ns: 3_000_000_000,
        off_cpu_ns: 1_000_000_000,
        cpu_time_ns: 2_000_000_000,
        cpus_used: [0].into(),
        ..WorkerReport::default()
    }
}

/// Returns the sentence for the findings of `checks` about workers of a cgroup `web`.
fn of(checks: Assert, workers: &[WorkerReport], cpuset: Option<&BTreeSet<usize>>) -> String {
    let mut result = checks.assert_cgroup(workers, cpuset);
    for outcome in &mut result.outcomes {
        if let ktstr_assert::Outcome::Fail(detail) = outcome {
            *detail = detail.clone().with_cgroup("web");
        }
    }
    headline(&result, Some(Fault::Scheduler))
}

const NONE: Assert = Assert::NO_OVERRIDES;

#[test]
fn of_workers_that_made_no_progress_for_too_long() {
    let mut workers = [worker(7), worker(8)];
    (workers[0].max_gap_ms, workers[1].max_gap_ms) = (2100, 20);
    insta::assert_snapshot!(of(NONE.max_gap_ms(2000), &workers, None), @"worker 7 of cgroup `web` got nothing done for 2.1 s, more than the allowed 2.0 s — the scheduler's fault.");
    workers[0].max_gap_ms = 2002;
    insta::assert_snapshot!(of(NONE.max_gap_ms(2000), &workers, None), @"worker 7 of cgroup `web` got nothing done for 2.002 s, more than the allowed 2.000 s — the scheduler's fault.");
    (workers[0].max_gap_ms, workers[1].max_gap_ms) = (2100, 3500);
    insta::assert_snapshot!(of(NONE.max_gap_ms(2000), &workers, None), @"2 workers got nothing done for longer than the allowed 2.0 s, worker 8 of cgroup `web` for 3.5 s — the scheduler's fault.");
}

#[test]
fn of_workers_that_did_nothing() {
    let mut workers = [worker(7), worker(8)];
    (workers[1].work_units, workers[1].iterations) = (0, 0);
    insta::assert_snapshot!(of(NONE.check_not_stuck(), &workers, None), @"worker 8 of cgroup `web` did no work at all — the scheduler's fault.");
    (workers[0].work_units, workers[0].iterations) = (0, 0);
    insta::assert_snapshot!(of(NONE.check_not_stuck(), &workers, None), @"2 workers did no work at all, for example worker 7 of cgroup `web` — the scheduler's fault.");
}

/// The most uneven cgroup is named, and the table marks the same one.
#[test]
fn of_the_most_unequal_of_several_cgroups() {
    let spread = |cgroup: &'static str, high_pct| {
        AssertDetail::of(Finding::Spread {
            low_pct: 40.0,
            high_pct,
            workers: 2,
            cpus: 2,
            bound_pct: 15.0,
        })
        .with_cgroup(cgroup)
    };
    let mut result = AssertResult::pass();
    for (cgroup, high_pct) in [("a", 60.0), ("b", 80.0), ("c", 70.0)] {
        result.record_fail(spread(cgroup, high_pct));
    }
    let all = ranked(&result);
    let names: Vec<_> = all.iter().filter_map(|d| d.cgroup.as_deref()).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert_eq!(cgroup(&all), Some("b"));
    assert!(headline(&result, None).starts_with("2 workers of b did not"));
}

#[test]
fn of_unequal_shares() {
    let mut workers = [worker(7), worker(8)];
    workers[1].off_cpu_ns = 2_000_000_000;
    insta::assert_snapshot!(of(NONE.max_spread_pct(15.0), &workers, None), @"2 workers of web did not get equal shares: they were off the CPU for 33 to 67 % of their time (at most 15 points apart are allowed) — the scheduler's fault.");
}

#[test]
fn of_a_worker_outside_its_cpuset() {
    let cpuset = [1, 2].into();
    insta::assert_snapshot!(of(NONE.check_isolation(), &[worker(7)], Some(&cpuset)), @"worker 7 of cgroup `web` ran on CPUs [0], outside its cpuset {1, 2} — the scheduler's fault.");
}

#[test]
fn of_late_wake_ups() {
    let mut late = worker(7);
    late.wake_latencies_ns = vec![35_000_000; 100];
    insta::assert_snapshot!(of(NONE.max_p99_wake_latency_ns(2_000_000), &[late], None), @"the p99 wake latency of cgroup `web` was 35.0 ms, more than the allowed 2.0 ms — the scheduler's fault.");
}

#[test]
fn of_rates_and_migrations() {
    let mut busy = worker(7);
    busy.migration_count = 900;
    insta::assert_snapshot!(of(NONE.max_migration_ratio(0.5), &[busy.clone()], None), @"migration ratio 0.900 above 0.5: 900 migrations in 1000 iterations (cgroup `web`) — the scheduler's fault.");
    insta::assert_snapshot!(of(NONE.min_work_rate(9000.0), &[busy], None), @"worker 7 work rate 500.0/s below floor 9000/s (cgroup `web`) — the scheduler's fault.");
}

#[test]
fn of_a_claim() {
    let mut verdict = Verdict::new();
    verdict
        .claim("share of the CPU time", 0.1)
        .because("web among web, db")
        .at_least(0.4);
    let text = headline(&verdict.into_result(), Some(Fault::Scheduler));
    insta::assert_snapshot!(text, @"share of the CPU time was 0.1 (web among web, db), expected at least 0.4 — the scheduler's fault.");
}

#[test]
fn the_end_of_a_scheduler_outranks_its_consequences() {
    let mut result = AssertResult::pass();
    let gap = |tid, gap_ms| Finding::Gap {
        tid,
        gap_ms,
        cpu: 0,
        at_ms: 1,
        bound_ms: 2000,
    };
    for finding in [
        Finding::Sustained {
            bound: MonitorBound::LocalDsq { cpu: 1, depth: 5 },
            samples: 5,
            until_ms: 700,
        },
        gap(7, 2500),
        gap(8, 3500),
        Finding::SchedulerDied {
            scheduler: None,
            end: SchedulerEnd::Crashed,
            how: "pid 9 is there".to_owned(),
            log: String::new(),
        },
        Finding::Ejected {
            scheduler: "x".to_owned(),
            reason: "runtime error (y)".to_owned(),
            cause: Ejection::Error,
        },
    ] {
        result.record_fail(AssertDetail::of(finding));
    }
    let shown: Vec<&str> = ranked(&result).iter().map(|d| d.message.as_str()).collect();
    let first: Vec<&str> = shown
        .iter()
        .map(|m| m.split(' ').next().expect("a word"))
        .collect();
    assert_eq!(first, ["the", "scheduler", "tid", "tid", "cpu1:"]);
    assert!(
        shown[2].starts_with("tid 8"),
        "the longest gap comes first: {shown:?}"
    );
}

#[test]
fn a_stall_names_who_waited() {
    let ejected = |cause| {
        let result = AssertResult::fail(AssertDetail::of(Finding::Ejected {
            scheduler: "x".to_owned(),
            reason: "runnable task stall (see the cause)".to_owned(),
            cause,
        }));
        headline(&result, Some(Fault::Scheduler))
    };
    let stall = |task: Option<&str>, seconds| {
        ejected(Ejection::Stall {
            task: task.map(str::to_owned),
            seconds,
        })
    };
    insta::assert_snapshot!(stall(Some("a[7]"), Some(5.104)), @"the kernel ejected x, which gave task a[7] no CPU for 5.1 s — the scheduler's fault.");
    insta::assert_snapshot!(ejected(Ejection::Unwatched { seconds: 5.144 }), @"the kernel ejected x, which for 5.1 s gave no CPU even to the kernel's own watchdog — the scheduler's fault.");
    insta::assert_snapshot!(stall(None, None), @"the kernel ejected scheduler `x`: runnable task stall (see the cause) — the scheduler's fault.");
}

#[test]
fn a_long_finding_is_truncated() {
    let result = AssertResult::fail(AssertDetail::new(DetailKind::Other, "é".repeat(5000)));
    let text = headline(&result, Some(Fault::Test));
    assert!(text.chars().count() < 200, "{text}");
    assert!(text.ends_with("… — the test's fault."), "{text}");
}

#[test]
fn a_failure_outranks_an_inconclusive_finding() {
    let mut result = AssertResult::inconclusive_msg("no wake-ups");
    result.record_fail(AssertDetail::new(DetailKind::Monitor, "cpu1"));
    assert!(headline(&result, None).starts_with("cpu1"));
}
