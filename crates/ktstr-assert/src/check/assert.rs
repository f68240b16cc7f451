//! The set of checks: which are enabled, and with which bounds.

use super::Limit;
use crate::verdict::Verdict;
use serde::Serialize;
use std::fmt::Write;

/// Generates the fields of [`Assert`] and their builders, the merging of layers, and for each part a method that returns
/// whether any check of the part is on. A part is a group of checks that the same code applies. The rows are those keys of
/// `ktstr-macros/src/keys/table.rs` that have a field in `Assert`, grouped by part:
///
/// ```text
/// workers {
///     #[doc = " The longest gap between two iterations of a worker, in milliseconds of guest time."]
///     bound max_gap_ms: u64;
/// }
/// ```
///
/// To add a check, add its row to that table, and write its judgement next to the other judgements of its part.
macro_rules! checks {
    ($(
        $part:ident {
            $( $(#[$doc:meta])* $kind:ident $name:ident: $t:ty; )*
        }
    )*) => {
        /// The checks that are on, and their bounds. `None` inherits from the layer below; see [`Assert::merge`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
        #[must_use]
        pub struct Assert {
            $($( $(#[$doc])* pub $name: Option<$t>, )*)*
            /// Whether violations that the monitor or the schedule shows are only recorded as notes, no matter which layer
            /// sets the bounds.
            pub report_monitor_only: Option<bool>,
            /// Whether monitor violations fail the test. Once a layer sets this flag, it stays set in the layers above.
            pub enforce_monitor_thresholds: bool,
        }

        impl Assert {
            /// An empty layer, which inherits every check.
            pub const NO_OVERRIDES: Assert = Assert {
                $($( $name: None, )*)*
                report_monitor_only: None,
                enforce_monitor_thresholds: false,
            };

            /// Returns this layer with `over` on top. If both layers set a check, that of `over` counts. Enforcement is set if
            /// either layer sets it.
            pub const fn merge(&self, over: &Assert) -> Assert {
                Assert {
                    $($( $name: match over.$name { Some(bound) => Some(bound), None => self.$name }, )*)*
                    report_monitor_only: match over.report_monitor_only {
                        Some(only) => Some(only),
                        None => self.report_monitor_only,
                    },
                    enforce_monitor_thresholds:
                        self.enforce_monitor_thresholds || over.enforce_monitor_thresholds,
                }
            }

            $($( checks!(@builder $kind $(#[$doc])* $name: $t); )*)*
        }

        $( checks!(@any $part { $( $kind $name; )* }); )*
    };
    // The builders of flags are written by hand, because they have other names.
    (@builder flag $(#[$doc:meta])* $name:ident: $t:ty) => {};
    (@builder bound $(#[$doc:meta])* $name:ident: $t:ty) => {
        $(#[$doc])*
        pub const fn $name(mut self, $name: $t) -> Self {
            self.$name = Some($name);
            self
        }
    };
    // For this part no method returns whether a check is on, because no code needs it.
    (@any other { $($rest:tt)* }) => {};
    (@any schedule { $( $kind:ident $name:ident; )* }) => {
        impl Assert {
            /// Turns off every check of the schedule for which this layer sets no bound. The harness has default bounds for all
            /// of them. A test of a single property, such as a planted defect, turns the others off with this method.
            pub const fn without_defaults(mut self) -> Self {
                $( if self.$name.is_none() {
                    self.$name = Some(Limit::Off);
                } )*
                self
            }
        }
    };
    (@any $part:ident { $( $kind:ident $name:ident; )* }) => {
        impl Assert {
            #[doc = concat!("Whether any check of the part `", stringify!($part), "` is on.")]
            const fn $part(&self) -> bool {
                false $( || checks!(@on $kind self.$name) )*
            }
        }
    };
    (@on flag $($field:tt)*) => { matches!($($field)*, Some(true)) };
    (@on bound $($field:tt)*) => { $($field)*.is_some() };
}

ktstr_macros::__checks!(checks);

impl Assert {
    /// Returns the lowest layer, in which nothing is judged.
    pub const fn default_checks() -> Assert {
        Self::NO_OVERRIDES
    }

    /// Enables [`Assert::not_stuck`]: workers make progress, with the default bounds on gaps and spread.
    pub const fn check_not_stuck(mut self) -> Self {
        self.not_stuck = Some(true);
        self
    }

    /// Enables [`Assert::isolation`]: workers stay on the CPUs of their cgroup.
    pub const fn check_isolation(mut self) -> Self {
        self.isolation = Some(true);
        self
    }

    /// Sets the monitor's default bounds, and makes violations failures.
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

    /// Sets whether violations that the monitor or the schedule shows are only recorded as notes, no matter which layer sets
    /// the bounds.
    pub const fn report_monitor_only(mut self, report_monitor_only: bool) -> Self {
        self.report_monitor_only = Some(report_monitor_only);
        self
    }

    /// Whether any check of worker reports is on.
    pub const fn has_worker_checks(&self) -> bool {
        self.workers() || self.numa()
    }

    /// Whether any check of page placement is on.
    pub const fn has_numa_checks(&self) -> bool {
        self.numa()
    }

    /// Whether any monitor threshold is set. It is also true if [`Assert::report_monitor_only`] is set, because violations of the
    /// default thresholds are then reported as notes.
    pub const fn has_monitor_checks(&self) -> bool {
        self.monitor() || matches!(self.report_monitor_only, Some(true))
    }

    /// Whether a violation of a monitor bound fails the test.
    pub const fn enforces_monitor(&self) -> bool {
        self.enforce_monitor_thresholds && !matches!(self.report_monitor_only, Some(true))
    }

    /// Creates an empty verdict that carries these checks.
    pub fn verdict(&self) -> Verdict {
        Verdict::new().with_assert(*self)
    }

    /// Lists the fields that are set, one per line, except flags that are false; `no checks` if there are none.
    pub fn format_human(&self) -> String {
        let mut out = String::new();
        let fields = serde_json::to_value(self).unwrap_or_default();
        for (name, value) in fields.as_object().into_iter().flatten() {
            if !value.is_null() && value != false {
                // Writing to a `String` cannot fail.
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
    fn without_defaults_only_the_bounds_of_the_test_remain() {
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
