//! The checks of worker reports as plain functions, for tests that start their workers themselves.
//!
//! Tests that run steps do not need these functions: they enable the same checks with attributes or [`Assert`], and the
//! step engine applies them. A test that starts workers with a `WorkloadHandle` collects the reports itself, and judges
//! them with these functions.

use std::collections::BTreeSet;

use super::Assert;
use super::workers::{lacks, not_measured};
use crate::math::{percentile, sorted};
use crate::outcome::{AssertDetail, AssertResult, DetailKind};
use crate::worker::WorkerReport;

/// Judges whether each worker made progress, with the bounds on gaps and spread that `not_stuck` implies.
pub fn assert_not_stuck(reports: &[WorkerReport]) -> AssertResult {
    Assert::NO_OVERRIDES
        .check_not_stuck()
        .assert_cgroup(reports, None)
}

/// Judges whether each worker ran only on CPUs of `cpuset`.
pub fn assert_isolation(reports: &[WorkerReport], cpuset: &BTreeSet<usize>) -> AssertResult {
    Assert::NO_OVERRIDES
        .check_isolation()
        .assert_cgroup(reports, Some(cpuset))
}

/// Judges the workers' throughput: `max_cv` is the largest accepted coefficient of variation of the work units per
/// CPU-second over the workers, and `min_rate` is the smallest accepted number of work units per CPU-second of each worker.
/// A bound of `None` checks nothing.
pub fn assert_throughput_parity(
    reports: &[WorkerReport],
    max_cv: Option<f64>,
    min_rate: Option<f64>,
) -> AssertResult {
    let asked = Assert {
        max_throughput_cv: max_cv,
        min_work_rate: min_rate,
        ..Assert::NO_OVERRIDES
    };
    asked.assert_cgroup(reports, None)
}

/// Judges wakeup latencies and iteration rates. The bounds are the largest accepted 99th percentile of the latencies in
/// nanoseconds, their largest accepted coefficient of variation, and the smallest accepted number of iterations per
/// CPU-second of each worker. A bound of `None` checks nothing.
pub fn assert_benchmarks(
    reports: &[WorkerReport],
    max_p99_wake_latency_ns: Option<u64>,
    max_wake_latency_cv: Option<f64>,
    min_iteration_rate: Option<f64>,
) -> AssertResult {
    let asked = Assert {
        max_p99_wake_latency_ns,
        max_wake_latency_cv,
        min_iteration_rate,
        ..Assert::NO_OVERRIDES
    };
    asked.assert_cgroup(reports, None)
}

/// Absolute bounds on the reports of workers; see [`assert_thresholds`]. A bound of `None` checks nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AbsoluteThresholds {
    /// The largest 99th percentile of the wakeup latencies of all workers, in nanoseconds.
    pub max_p99_wake_latency_ns: Option<u64>,
    /// The largest 99th percentile of the CPU time of an iteration over all workers, in nanoseconds
    /// ([`WorkerReport::iteration_costs_ns`]).
    pub max_p99_iteration_cost_ns: Option<u64>,
    /// The largest number of migrations of a worker.
    pub max_migrations: Option<u64>,
    /// The smallest number of work units of a worker.
    pub min_work_units: Option<u64>,
}

impl AbsoluteThresholds {
    /// Returns bounds that a quiet machine meets easily: 99 % of the wakeups within 10 ms, at most 1 ms of CPU
    /// time for 99 % of the iterations, and at most 1000 migrations and at least one work unit per worker.
    pub const fn strict() -> Self {
        Self {
            max_p99_wake_latency_ns: Some(10_000_000),
            max_p99_iteration_cost_ns: Some(1_000_000),
            max_migrations: Some(1000),
            min_work_units: Some(1),
        }
    }
}

/// Judges `reports` against `bounds`. Without reports the result is a skip. The check of a bound on latencies or costs is
/// inconclusive if no worker measured them.
pub fn assert_thresholds(reports: &[WorkerReport], bounds: &AbsoluteThresholds) -> AssertResult {
    if reports.is_empty() {
        return AssertResult::skip("there are no worker reports to judge");
    }
    let mut out = AssertResult::pass();
    let mut p99 = |what: &str, bound: Option<u64>, of: fn(&WorkerReport) -> &Vec<u64>| {
        let Some(bound) = bound else { return };
        let samples: Vec<u64> = reports.iter().flat_map(|w| of(w).iter().copied()).collect();
        match percentile(&sorted(&samples), 0.99) {
            Some(p99) if p99 > bound => {
                let message =
                    format!("the 99th percentile of {what} is {p99} ns, above {bound} ns");
                let detail = AssertDetail::new(DetailKind::Benchmark, message);
                out.record_fail(detail.with_latency_gate(p99, bound));
            }
            Some(_) => {}
            None => {
                let message = format!("{what} was not measured by any of the workers");
                out.record_inconclusive(AssertDetail::new(DetailKind::Benchmark, message));
            }
        }
    };
    p99("wake-up latency", bounds.max_p99_wake_latency_ns, |w| {
        &w.wake_latencies_ns
    });
    p99("iteration cost", bounds.max_p99_iteration_cost_ns, |w| {
        &w.iteration_costs_ns
    });
    for w in reports {
        if let Some(bound) = bounds.max_migrations.filter(|n| w.migration_count > *n) {
            let message = format!(
                "tid {} migrated {} times, more than {bound}",
                w.tid, w.migration_count
            );
            out.record_fail(AssertDetail::new(DetailKind::Migration, message));
        }
        // A worker that only wakes others does iterations, but no work units.
        let wakes_only = w.is_messenger && w.iterations > 0;
        let few = |n: &u64| w.work_units < *n && !wakes_only;
        if bounds.min_work_units.is_some() && lacks(w) {
            let what = format!("the work of tid {}", w.tid);
            out.record_inconclusive(not_measured(DetailKind::NoProgress, what, "", w));
        } else if let Some(bound) = bounds.min_work_units.filter(few) {
            let message = format!(
                "tid {} did {} work units, fewer than {bound}",
                w.tid, w.work_units
            );
            out.record_fail(AssertDetail::new(DetailKind::NoProgress, message));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WorkerExitInfo;

    fn worker(tid: i32, work_units: u64) -> WorkerReport {
        WorkerReport {
            tid,
            work_units,
            iterations: work_units,
            cpu_time_ns: 1_000_000_000,
            wall_time_ns: 1_000_000_000,
            completed: true,
            cpus_used: [0].into(),
            ..WorkerReport::default()
        }
    }

    fn failures(result: &AssertResult) -> Vec<String> {
        result
            .failure_details()
            .map(|detail| detail.message.clone())
            .collect()
    }

    #[test]
    fn a_worker_without_work_is_stuck_and_one_with_work_is_not() {
        assert!(assert_not_stuck(&[worker(1, 5)]).is_pass());
        let stuck = assert_not_stuck(&[worker(1, 5), worker(2, 0)]);
        assert_eq!(
            failures(&stuck),
            ["tid 2 made no progress (0 work units)"],
            "{stuck:?}"
        );
    }

    #[test]
    fn a_worker_that_lacks_a_resource_is_not_stuck() {
        let mut lacking = worker(2, 0);
        lacking.exit_info = Some(WorkerExitInfo::WaitFailed("it needs two nodes".to_owned()));
        let result = assert_not_stuck(&[worker(1, 5), lacking]);
        assert!(!result.is_fail(), "{result:?}");
    }

    #[test]
    fn a_cpu_outside_the_set_breaks_isolation() {
        assert!(assert_isolation(&[worker(1, 5)], &[0, 1].into()).is_pass());
        assert!(assert_isolation(&[worker(1, 5)], &[1].into()).is_fail());
    }

    #[test]
    fn throughput_is_judged_by_its_variation_and_its_floor() {
        let reports = [worker(1, 100), worker(2, 300)];
        assert!(assert_throughput_parity(&reports, None, None).is_pass());
        // The mean is 200 units per CPU-second, and the standard deviation is 100, so the coefficient of variation is 0.5.
        assert!(assert_throughput_parity(&reports, Some(0.51), None).is_pass());
        assert!(assert_throughput_parity(&reports, Some(0.49), None).is_fail());
        assert!(assert_throughput_parity(&reports, None, Some(100.0)).is_pass());
        assert!(assert_throughput_parity(&reports, None, Some(101.0)).is_fail());
    }

    #[test]
    fn benchmarks_without_a_sample_are_inconclusive() {
        let reports = [worker(1, 100)];
        assert!(assert_benchmarks(&reports, None, None, None).is_pass());
        assert!(assert_benchmarks(&reports, Some(1), None, None).is_inconclusive());
        assert!(assert_benchmarks(&reports, None, None, Some(101.0)).is_fail());
    }

    #[test]
    fn absolute_thresholds_name_the_worker_and_the_bound() {
        assert!(assert_thresholds(&[], &AbsoluteThresholds::strict()).is_skip());
        let mut busy = worker(7, 9);
        busy.migration_count = 1001;
        busy.wake_latencies_ns = vec![10_000_001];
        busy.iteration_costs_ns = vec![1_000_000];
        let result = assert_thresholds(&[busy], &AbsoluteThresholds::strict());
        assert_eq!(
            failures(&result),
            [
                "the 99th percentile of wake-up latency is 10000001 ns, above 10000000 ns",
                "tid 7 migrated 1001 times, more than 1000"
            ]
        );
        let unmeasured = assert_thresholds(&[worker(1, 1)], &AbsoluteThresholds::strict());
        assert!(unmeasured.is_inconclusive(), "{unmeasured:?}");
        let units = AbsoluteThresholds {
            min_work_units: Some(1),
            ..AbsoluteThresholds::default()
        };
        assert!(assert_thresholds(&[worker(3, 0)], &units).is_fail());
        let messenger = WorkerReport {
            is_messenger: true,
            iterations: 40,
            ..worker(3, 0)
        };
        assert!(assert_thresholds(&[messenger], &units).is_pass());
        let lacking = WorkerReport {
            completed: false,
            exit_info: Some(WorkerExitInfo::WaitFailed("there is one node".to_owned())),
            ..worker(3, 0)
        };
        assert!(assert_thresholds(&[lacking], &units).is_inconclusive());
        let none = assert_thresholds(&[worker(1, 0)], &AbsoluteThresholds::default());
        assert!(none.is_pass(), "nothing was asked for: {none:?}");
    }
}
