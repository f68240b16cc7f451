//! The set of checks: what is on and with which bound.

use super::Limit;
use crate::verdict::Verdict;
use serde::Serialize;
use std::fmt::Write;

/// The table of checks, by who asks them. Fields, builders, layering and the questions which of them are on are made from it.
macro_rules! checks {
    ($(
        $group:ident {
            $( $(#[$doc:meta])* $kind:ident $name:ident: $t:ty; )*
        }
    )*) => {
        /// Which checks are on. `None` inherits from the layer below; see [`Assert::merge`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
        #[must_use]
        pub struct Assert {
            $($( $(#[$doc])* pub $name: Option<$t>, )*)*
            /// Whether monitor violations fail the test. Once set it stays set.
            pub enforce_monitor_thresholds: bool,
        }

        impl Assert {
            /// Nothing is said: every check is inherited.
            pub const NO_OVERRIDES: Assert = Assert {
                $($( $name: None, )*)*
                enforce_monitor_thresholds: false,
            };

            /// This layer with `over` on top: what `over` says wins; enforcement, once set, stays.
            pub const fn merge(&self, over: &Assert) -> Assert {
                Assert {
                    $($( $name: match over.$name { Some(said) => Some(said), None => self.$name }, )*)*
                    enforce_monitor_thresholds:
                        self.enforce_monitor_thresholds || over.enforce_monitor_thresholds,
                }
            }

            $($( checks!(@builder $kind $(#[$doc])* $name: $t); )*)*
        }

        $( checks!(@any $group { $( $kind $name; )* }); )*
    };
    // A flag has a builder of another name.
    (@builder flag $(#[$doc:meta])* $name:ident: $t:ty) => {};
    (@builder bound $(#[$doc:meta])* $name:ident: $t:ty) => {
        $(#[$doc])*
        pub const fn $name(mut self, $name: $t) -> Self {
            self.$name = Some($name);
            self
        }
    };
    // Nobody asks whether one of these is on.
    (@any text { $($rest:tt)* }) => {};
    (@any schedule { $( $kind:ident $name:ident; )* }) => {
        impl Assert {
            /// Turns off each check of the schedule that this layer sets no bound for. The harness has a bound of its own
            /// for each of them, so a test about one thing alone, such as a planted defect, says so with this.
            pub const fn without_defaults(mut self) -> Self {
                $( if self.$name.is_none() {
                    self.$name = Some(Limit::Off);
                } )*
                self
            }
        }
    };
    (@any $group:ident { $( $kind:ident $name:ident; )* }) => {
        impl Assert {
            #[doc = concat!("Whether any check of the group `", stringify!($group), "` is on.")]
            const fn $group(&self) -> bool {
                false $( || checks!(@on $kind self.$name) )*
            }
        }
    };
    (@on flag $($field:tt)*) => { matches!($($field)*, Some(true)) };
    (@on bound $($field:tt)*) => { $($field)*.is_some() };
}

checks! {
    workers {
        /// Every worker did some work; also turns on the default gap and spread checks, the latter for
        /// workers that sleep for less than a tenth of their time.
        flag not_stuck: bool;
        /// Every worker stayed inside its cgroup's cpuset.
        flag isolation: bool;
        /// Longest gap between two iterations of a worker, in milliseconds of guest time.
        bound max_gap_ms: u64;
        /// Largest difference of off-CPU shares inside a cgroup, in percentage points.
        bound max_spread_pct: f64;
        /// Largest coefficient of variation of work units a CPU-second inside a cgroup.
        bound max_throughput_cv: f64;
        /// Fewest work units a CPU-second of a worker.
        bound min_work_rate: f64;
        /// Largest 99th percentile of the wake-up latencies of a cgroup, in nanoseconds.
        bound max_p99_wake_latency_ns: u64;
        /// Largest coefficient of variation of the wake-up latencies of a cgroup.
        bound max_wake_latency_cv: f64;
        /// Fewest iterations a CPU-second of a worker.
        bound min_iteration_rate: f64;
        /// Most migrations an iteration of a cgroup.
        bound max_migration_ratio: f64;
    }
    numa {
        /// Smallest share of pages on the expected nodes, 0 to 1.
        bound min_page_locality: f64;
        /// Largest share of pages moved between nodes, 0 to 1.
        bound max_cross_node_migration_ratio: f64;
        /// Largest share of pages on memory-only nodes, 0 to 1.
        bound max_slow_tier_ratio: f64;
    }
    monitor {
        /// Monitor: largest ratio of the longest to the shortest runqueue.
        bound max_imbalance_ratio: f64;
        /// Monitor: most tasks in a local DSQ.
        bound max_local_dsq_depth: u32;
        /// Monitor: whether a runqueue clock that stands still is a violation.
        bound fail_on_rq_clock_stuck: bool;
        /// Monitor: most `SCX_EV_SELECT_CPU_FALLBACK` events a vCPU-second.
        bound max_fallback_rate: f64;
        /// Monitor: most `SCX_EV_DISPATCH_KEEP_LAST` events a vCPU-second.
        bound max_keep_last_rate: f64;
        /// Monitor: whether a CPU that idles while tasks wait that may run there is a violation.
        bound work_conservation: bool;
    }
    text {
        /// Monitor: how many samples in a row make a violation.
        bound sustained_samples: usize;
        /// Whether violations that the monitor or the schedule shows are notes all the same, whoever sets the bounds.
        bound report_monitor_only: bool;
        /// What the scheduler or the kernel says of the scheduler's end must contain this. Asked of tests with
        /// `expect_err` alone.
        bound expect_scx_bpf_error_contains: &'static str;
        /// The same must match this regular expression.
        bound expect_scx_bpf_error_matches: &'static str;
    }
    schedule {
        /// Schedule: most CPU time in milliseconds that a task may be entitled to while it waits without being served.
        bound max_owed_ms: Limit;
        /// Schedule: least share of its entitlement that a cgroup gets in a phase, 0 to 1.
        bound min_entitled_share: Limit;
        /// Schedule: the same of a single task.
        bound min_task_share: Limit;
        /// Schedule: largest share of a phase's CPU time, 0 to 1, that idles beside a task which may run there.
        bound max_wasted_share: Limit;
        /// Schedule: longest 90th percentile of the waits of a cgroup's tasks after a wake-up, in milliseconds for each task that a CPU
        /// has to serve on average.
        bound max_wake_wait_ms: Limit;
        /// Schedule: most preemptions a CPU-second of a cgroup.
        bound max_preemption_rate: Limit;
        /// Schedule: least share of the workers' CPU time, 0 to 1, that the scheduler under test gives.
        bound min_driven_share: Limit;
    }
}

impl Assert {
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

    /// Whether any check over worker reports is on.
    pub const fn has_worker_checks(&self) -> bool {
        self.workers() || self.numa()
    }

    /// Whether any check over where pages are is on.
    pub const fn has_numa_checks(&self) -> bool {
        self.numa()
    }

    /// Whether any monitor threshold is set.
    pub const fn has_monitor_checks(&self) -> bool {
        self.monitor() || matches!(self.report_monitor_only, Some(true))
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
    fn without_defaults_only_what_the_test_bounds_is_left() {
        const OWED: Assert = Assert::NO_OVERRIDES
            .max_owed_ms(Limit::At(7.0))
            .without_defaults();
        assert_eq!(OWED.max_owed_ms, Some(Limit::At(7.0)));
        assert_eq!(OWED.min_driven_share, Some(Limit::Off));
        assert_eq!(OWED.max_gap_ms, None);
        assert!(!OWED.has_worker_checks() && !OWED.has_monitor_checks());
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
