//! The set of checks: what is on and with which bound.

use crate::verdict::Verdict;
use serde::Serialize;
use std::fmt::Write;

/// Which checks are on. `None` inherits from the layer below; see [`Assert::merge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[must_use]
pub struct Assert {
    /// Every worker did some work; also turns on the default gap and spread checks, the latter for
    /// workers that sleep for less than a tenth of their time.
    pub not_stuck: Option<bool>,
    /// Every worker stayed inside its cgroup's cpuset.
    pub isolation: Option<bool>,
    /// Longest gap between two iterations of a worker, in milliseconds of guest time.
    pub max_gap_ms: Option<u64>,
    /// Largest difference of off-CPU shares inside a cgroup, in percentage points.
    pub max_spread_pct: Option<f64>,
    /// Largest coefficient of variation of work units a CPU-second inside a cgroup.
    pub max_throughput_cv: Option<f64>,
    /// Fewest work units a CPU-second of a worker.
    pub min_work_rate: Option<f64>,
    /// Largest 99th percentile of the wake-up latencies of a cgroup, in nanoseconds.
    pub max_p99_wake_latency_ns: Option<u64>,
    /// Largest coefficient of variation of the wake-up latencies of a cgroup.
    pub max_wake_latency_cv: Option<f64>,
    /// Fewest iterations a CPU-second of a worker.
    pub min_iteration_rate: Option<f64>,
    /// Most migrations an iteration of a cgroup.
    pub max_migration_ratio: Option<f64>,
    /// Smallest share of pages on the expected nodes, 0 to 1.
    pub min_page_locality: Option<f64>,
    /// Largest share of pages moved between nodes, 0 to 1.
    pub max_cross_node_migration_ratio: Option<f64>,
    /// Largest share of pages on memory-only nodes, 0 to 1.
    pub max_slow_tier_ratio: Option<f64>,
    /// Monitor: largest ratio of the longest to the shortest runqueue.
    pub max_imbalance_ratio: Option<f64>,
    /// Monitor: most tasks in a local DSQ.
    pub max_local_dsq_depth: Option<u32>,
    /// Monitor: whether a runqueue clock that stands still is a violation.
    pub fail_on_rq_clock_stuck: Option<bool>,
    /// Monitor: how many samples in a row make a violation.
    pub sustained_samples: Option<usize>,
    /// Monitor: most `SCX_EV_SELECT_CPU_FALLBACK` events a vCPU-second.
    pub max_fallback_rate: Option<f64>,
    /// Monitor: most `SCX_EV_DISPATCH_KEEP_LAST` events a vCPU-second.
    pub max_keep_last_rate: Option<f64>,
    /// Monitor: whether a CPU that idles while tasks wait that may run there is a violation.
    pub work_conservation: Option<bool>,
    /// Whether monitor violations fail the test. Once set it stays set.
    pub enforce_monitor_thresholds: bool,
    /// Whether monitor violations are notes all the same, whoever sets the bounds.
    pub report_monitor_only: Option<bool>,
    /// What the scheduler or the kernel says of the scheduler's end must contain this. Asked of tests with
    /// `expect_err` alone.
    pub expect_scx_bpf_error_contains: Option<&'static str>,
    /// The same must match this regular expression.
    pub expect_scx_bpf_error_matches: Option<&'static str>,
}

macro_rules! builders {
    ($($(#[$doc:meta])* $name:ident: $t:ty;)*) => { $(
        $(#[$doc])*
        pub const fn $name(mut self, $name: $t) -> Self {
            self.$name = Some($name);
            self
        }
    )* };
}

/// The later of two layers wins where it says something.
macro_rules! layered {
    ($under:ident, $over:ident, $($field:ident)*) => {
        Assert {
            $($field: match $over.$field { Some(v) => Some(v), None => $under.$field },)*
            enforce_monitor_thresholds:
                $under.enforce_monitor_thresholds || $over.enforce_monitor_thresholds,
        }
    };
}

impl Assert {
    /// Nothing is said: every check is inherited.
    pub const NO_OVERRIDES: Assert = Assert {
        not_stuck: None,
        isolation: None,
        max_gap_ms: None,
        max_spread_pct: None,
        max_throughput_cv: None,
        min_work_rate: None,
        max_p99_wake_latency_ns: None,
        max_wake_latency_cv: None,
        min_iteration_rate: None,
        max_migration_ratio: None,
        min_page_locality: None,
        max_cross_node_migration_ratio: None,
        max_slow_tier_ratio: None,
        max_imbalance_ratio: None,
        max_local_dsq_depth: None,
        fail_on_rq_clock_stuck: None,
        sustained_samples: None,
        max_fallback_rate: None,
        max_keep_last_rate: None,
        work_conservation: None,
        enforce_monitor_thresholds: false,
        report_monitor_only: None,
        expect_scx_bpf_error_contains: None,
        expect_scx_bpf_error_matches: None,
    };

    /// The lowest layer: nothing is judged.
    pub const fn default_checks() -> Assert {
        Self::NO_OVERRIDES
    }

    /// Turns on [`Assert::not_stuck`].
    pub const fn check_not_stuck(mut self) -> Self {
        self.not_stuck = Some(true);
        self
    }

    /// Turns on [`Assert::isolation`].
    pub const fn check_isolation(mut self) -> Self {
        self.isolation = Some(true);
        self
    }

    builders! {
        /// Bounds the longest gap of a worker, in milliseconds of guest time.
        max_gap_ms: u64;
        /// Bounds the spread inside a cgroup, in percentage points.
        max_spread_pct: f64;
        /// Bounds the variation of throughput inside a cgroup.
        max_throughput_cv: f64;
        /// Asks every worker for this many work units a CPU-second.
        min_work_rate: f64;
        /// Bounds the 99th percentile of wake-up latencies, in nanoseconds.
        max_p99_wake_latency_ns: u64;
        /// Bounds the variation of wake-up latencies.
        max_wake_latency_cv: f64;
        /// Asks every worker for this many iterations a CPU-second.
        min_iteration_rate: f64;
        /// Bounds the migrations an iteration.
        max_migration_ratio: f64;
        /// Asks for this share of pages on the expected nodes.
        min_page_locality: f64;
        /// Bounds the share of pages moved between nodes.
        max_cross_node_migration_ratio: f64;
        /// Bounds the share of pages on memory-only nodes.
        max_slow_tier_ratio: f64;
        /// Bounds the monitor's imbalance ratio.
        max_imbalance_ratio: f64;
        /// Bounds the depth of local DSQs.
        max_local_dsq_depth: u32;
        /// Whether a stuck runqueue clock is a violation.
        fail_on_rq_clock_stuck: bool;
        /// How many samples in a row make a monitor violation.
        sustained_samples: usize;
        /// Bounds the rate of select-CPU fallbacks, in events a vCPU-second.
        max_fallback_rate: f64;
        /// Bounds the rate of keep-last dispatches, in events a vCPU-second.
        max_keep_last_rate: f64;
        /// Whether an idle CPU beside tasks that wait and may run there is a violation.
        work_conservation: bool;
        /// Whether monitor violations are notes, whoever sets the bounds.
        report_monitor_only: bool;
        /// What is said of the scheduler's end must contain this.
        expect_scx_bpf_error_contains: &'static str;
        /// What is said of the scheduler's end must match this regular expression.
        expect_scx_bpf_error_matches: &'static str;
    }

    /// Sets the monitor's usual bounds and makes their violation a failure.
    pub const fn with_monitor_defaults(mut self) -> Self {
        self.enforce_monitor_thresholds = true;
        self.max_imbalance_ratio(4.0)
            .max_local_dsq_depth(50)
            .fail_on_rq_clock_stuck(true)
            .sustained_samples(5)
            .max_fallback_rate(200.0)
            .max_keep_last_rate(100.0)
            .work_conservation(true)
    }

    /// This layer with `over` on top: what `over` says wins; enforcement, once set, stays.
    pub const fn merge(&self, over: &Assert) -> Assert {
        let under = self;
        layered!(under, over,
            not_stuck isolation max_gap_ms max_spread_pct max_throughput_cv min_work_rate
            max_p99_wake_latency_ns max_wake_latency_cv min_iteration_rate max_migration_ratio
            min_page_locality max_cross_node_migration_ratio max_slow_tier_ratio
            max_imbalance_ratio max_local_dsq_depth fail_on_rq_clock_stuck sustained_samples
            max_fallback_rate max_keep_last_rate work_conservation report_monitor_only
            expect_scx_bpf_error_contains expect_scx_bpf_error_matches)
    }

    /// Whether any check over worker reports is on.
    pub const fn has_worker_checks(&self) -> bool {
        matches!(self.not_stuck, Some(true))
            || matches!(self.isolation, Some(true))
            || self.max_gap_ms.is_some()
            || self.max_spread_pct.is_some()
            || self.max_throughput_cv.is_some()
            || self.min_work_rate.is_some()
            || self.max_p99_wake_latency_ns.is_some()
            || self.max_wake_latency_cv.is_some()
            || self.min_iteration_rate.is_some()
            || self.max_migration_ratio.is_some()
            || self.min_page_locality.is_some()
            || self.max_cross_node_migration_ratio.is_some()
            || self.max_slow_tier_ratio.is_some()
    }

    /// Whether any check over where pages are is on.
    pub const fn has_numa_checks(&self) -> bool {
        self.min_page_locality.is_some()
            || self.max_cross_node_migration_ratio.is_some()
            || self.max_slow_tier_ratio.is_some()
    }

    /// Whether any monitor threshold is set.
    pub const fn has_monitor_checks(&self) -> bool {
        self.max_imbalance_ratio.is_some()
            || self.max_local_dsq_depth.is_some()
            || self.fail_on_rq_clock_stuck.is_some()
            || self.max_fallback_rate.is_some()
            || self.max_keep_last_rate.is_some()
            || self.work_conservation.is_some()
            || matches!(self.report_monitor_only, Some(true))
    }

    /// Whether a broken monitor bound fails the test.
    pub const fn enforces_monitor(&self) -> bool {
        self.enforce_monitor_thresholds && !matches!(self.report_monitor_only, Some(true))
    }

    /// An empty verdict that carries these checks.
    pub fn verdict(&self) -> Verdict {
        Verdict::new().with_assert(*self)
    }

    /// The checks that are on, one a line; `no checks` when none is.
    pub fn format_human(&self) -> String {
        let mut out = String::new();
        let fields = serde_json::to_value(self).unwrap_or_default();
        for (name, value) in fields.as_object().into_iter().flatten() {
            if !value.is_null() && value != false {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{name} = {value}");
            }
        }
        if out.is_empty() {
            out.push_str("no checks\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_layer_wins_and_enforcement_sticks() {
        const SCHED: Assert = Assert::NO_OVERRIDES.max_gap_ms(10).with_monitor_defaults();
        const TEST: Assert = Assert::NO_OVERRIDES.max_gap_ms(20).max_imbalance_ratio(2.0);
        const BOTH: Assert = Assert::default_checks().merge(&SCHED).merge(&TEST);
        assert_eq!(BOTH.max_gap_ms, Some(20));
        assert_eq!(BOTH.max_imbalance_ratio, Some(2.0));
        assert_eq!(BOTH.max_local_dsq_depth, Some(50));
        const { assert!(BOTH.enforce_monitor_thresholds) };
        const { assert!(BOTH.enforces_monitor()) };
        const { assert!(!BOTH.report_monitor_only(true).enforces_monitor()) };
        assert_eq!(SCHED.merge(&Assert::NO_OVERRIDES), SCHED);
        assert_eq!(Assert::NO_OVERRIDES.merge(&SCHED), SCHED);
    }

    #[test]
    fn by_default_nothing_is_judged() {
        assert_eq!(Assert::default_checks(), Assert::default());
        assert!(!Assert::default_checks().has_worker_checks());
        assert!(
            !Assert::NO_OVERRIDES
                .with_monitor_defaults()
                .has_worker_checks()
        );
        assert!(Assert::NO_OVERRIDES.check_isolation().has_worker_checks());
        insta::assert_snapshot!(Assert::NO_OVERRIDES.format_human(), @"no checks");
        insta::assert_snapshot!(Assert::NO_OVERRIDES.max_gap_ms(7).check_not_stuck().format_human(), @r"
        max_gap_ms = 7
        not_stuck = true
        ");
    }
}
