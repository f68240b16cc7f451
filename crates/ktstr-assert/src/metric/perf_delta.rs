//! A bound on how much worse a metric may be than in an earlier run.

use super::{BuiltinMetric, MetricDef, MetricId, Polarity, scope};

/// A bound on how much worse a metric may be than in the baseline, an earlier run of the same test. A loss is a regression
/// if it exceeds both gates, the relative and the absolute one. A gate that is not set has the value in the metric's
/// definition, or 0 if the metric is not in the registry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerfDeltaAssertion {
    metric: &'static str,
    max_regression_pct: Option<f64>,
    min_abs: Option<f64>,
    direction: Option<Polarity>,
    phase: Option<u16>,
}

/// Why an assertion cannot be judged in any run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PerfDeltaError {
    /// Neither the assertion nor the metric has a direction.
    #[error("the metric {metric:?} has no direction: give one with `with_direction`")]
    NoDirection {
        /// The name of the metric that the assertion is about.
        metric: &'static str,
    },
    /// The metric is not in the registry, so it has no default gate, and the assertion sets no relative gate.
    #[error("the metric {metric:?} has no default gate: give one with `with_max_regression_pct`")]
    NoGate {
        /// The name of the metric that the assertion is about.
        metric: &'static str,
    },
    /// No run ever has the metric in the requested scope, so the assertion would have no effect.
    #[error("the metric {metric:?}{scope} is never measured: {instead}")]
    NeverMeasured {
        /// The name of the metric that the assertion is about.
        metric: &'static str,
        /// ` of a phase` or ` of the whole run`.
        scope: &'static str,
        /// What can be compared instead.
        instead: String,
    },
    /// A gate is negative or not finite.
    #[error("the gate {gate} of the metric {metric:?}: expected a finite number of at least 0")]
    Gate {
        /// The name of the metric that the assertion is about.
        metric: &'static str,
        /// The value that was given for the gate.
        gate: f64,
    },
}

impl PerfDeltaAssertion {
    /// Creates an assertion about a metric of the whole run, with the gates and the direction of the metric's definition.
    pub const fn new(metric: &'static str) -> Self {
        Self {
            metric,
            max_regression_pct: None,
            min_abs: None,
            direction: None,
            phase: None,
        }
    }

    /// Sets the relative gate: the largest loss that is no regression, in percent of the baseline.
    #[must_use]
    pub const fn with_max_regression_pct(mut self, percent: f64) -> Self {
        self.max_regression_pct = Some(percent);
        self
    }

    /// Sets the absolute gate: the largest loss that is no regression, in the metric's unit.
    #[must_use]
    pub const fn with_min_abs(mut self, loss: f64) -> Self {
        self.min_abs = Some(loss);
        self
    }

    /// Sets the direction in which the metric improves.
    #[must_use]
    pub const fn with_direction(mut self, direction: Polarity) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Compares the metric of one phase instead of that of the whole run: 0 is the baseline before the first step,
    /// 1 is the first step.
    #[must_use]
    pub const fn with_phase(mut self, step_index: u16) -> Self {
        self.phase = Some(step_index);
        self
    }

    /// Returns the name of the metric.
    pub const fn metric(&self) -> &'static str {
        self.metric
    }

    /// Returns the phase whose metric is compared; `None` for the whole run.
    pub const fn phase(&self) -> Option<u16> {
        self.phase
    }

    /// Returns the definition of the metric; `None` if it is not in the registry.
    fn def(&self) -> Option<&'static MetricDef> {
        match MetricId::from(self.metric) {
            MetricId::Builtin(metric) => Some(BuiltinMetric::def(metric)),
            MetricId::Dynamic(_) => None,
        }
    }

    fn polarity(&self) -> Polarity {
        let own = self.def().map_or(Polarity::Unknown, |def| def.polarity);
        self.direction.unwrap_or(own)
    }

    /// Returns an error if no run ever has the metric in the scope of the assertion.
    fn measured(&self) -> Result<(), PerfDeltaError> {
        let (metric, of_phase) = (self.metric, self.phase.is_some());
        let never = |instead: String| PerfDeltaError::NeverMeasured {
            metric,
            scope: match of_phase {
                true => " of a phase",
                false => " of the whole run",
            },
            instead,
        };
        let Some(def) = self.def() else {
            // The metrics of payloads, and the watched variables of schedulers, have a value for the whole run only.
            return match of_phase {
                true => Err(never(
                    "only metrics of the registry have values of single phases (docs/metrics.md): leave out `with_phase`"
                        .to_owned(),
                )),
                false => Ok(()),
            };
        };
        if scope::is_measured(def, of_phase) {
            return Ok(());
        }
        let mut instead = Vec::new();
        match of_phase {
            false if scope::is_measured(def, true) => {
                instead.push("choose a phase of it with `with_phase`".to_owned());
            }
            true if scope::is_measured(def, false) => {
                instead.push("leave out `with_phase`".to_owned())
            }
            _ => {}
        }
        let related = scope::related(metric, of_phase);
        if !related.is_empty() {
            instead.push(format!("compare {}", related.join(", ")));
        }
        Err(never(format!(
            "{}docs/metrics.md lists all metrics",
            instead
                .iter()
                .map(|way| format!("{way}; "))
                .collect::<String>()
        )))
    }

    /// Checks whether the assertion can be judged.
    ///
    /// # Errors
    /// Returns a [`PerfDeltaError`] that names the metric and what it lacks, or the gate that is not a valid number.
    pub fn validate(&self) -> Result<(), PerfDeltaError> {
        self.measured()?;
        let metric = self.metric;
        for gate in self.max_regression_pct.into_iter().chain(self.min_abs) {
            if !gate.is_finite() || gate < 0.0 {
                return Err(PerfDeltaError::Gate { metric, gate });
            }
        }
        if self.polarity().gain(0.0, 0.0).is_none() {
            return Err(PerfDeltaError::NoDirection { metric });
        }
        if self.def().is_none() && self.max_regression_pct.is_none() {
            return Err(PerfDeltaError::NoGate { metric });
        }
        Ok(())
    }

    /// Returns a message if `now` is a regression from `baseline`; `None` if it is not, or if the metric has no direction.
    pub fn regression(&self, baseline: f64, now: f64) -> Option<String> {
        let (abs, rel, unit) = self.def().map_or((0.0, 0.0, ""), |def| {
            (def.default_abs, def.default_rel, def.display_unit)
        });
        let abs = self.min_abs.unwrap_or(abs);
        let percent = self.max_regression_pct.unwrap_or(rel * 100.0);
        let loss = -self.polarity().gain(now, baseline)?;
        // A loss of NaN, which cannot be compared, is a regression.
        let within = loss <= abs || loss <= percent / 100.0 * baseline.abs();
        if within && !loss.is_nan() {
            return None;
        }
        let of_phase = match self.phase {
            None => String::new(),
            Some(0) => " of BASELINE".to_owned(),
            Some(step) => format!(" of Step[{}]", step - 1),
        };
        let unit = match unit {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        Some(format!(
            "{}{of_phase}: expected at most {percent} % and {abs}{unit} worse than {baseline}{unit}, was {now}{unit}",
            self.metric
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_gates_have_to_be_exceeded() {
        // The default gates of this metric are 10 iterations per CPU-second and 10 %.
        let rate = PerfDeltaAssertion::new("iteration_rate");
        assert_eq!(rate.regression(100.0, 91.0), None);
        assert_eq!(rate.regression(1000.0, 901.0), None, "9.9 %");
        assert_eq!(rate.regression(50.0, 41.0), None, "less than 10");
        assert_eq!(rate.regression(50.0, 90.0), None, "better");
        insta::assert_snapshot!(rate.regression(1000.0, 800.0).unwrap_or_default(), @"iteration_rate: expected at most 10 % and 10 iter/cpu-s worse than 1000 iter/cpu-s, was 800 iter/cpu-s");
        let strict = rate
            .with_max_regression_pct(0.0)
            .with_min_abs(0.0)
            .with_phase(2);
        assert_eq!(strict.regression(50.0, 50.0), None);
        let text = strict.regression(50.0, 49.0).unwrap_or_default();
        assert!(text.starts_with("iteration_rate of Step[1]: "), "{text}");
        assert!(strict.regression(50.0, f64::NAN).is_some());
    }

    #[test]
    fn the_direction_is_the_metrics_own_or_the_given_one() {
        let lower = PerfDeltaAssertion::new("worst_gap_ms").with_min_abs(0.0);
        assert!(lower.regression(10.0, 20.0).is_some());
        assert_eq!(lower.regression(20.0, 10.0), None);
        let higher = lower.with_direction(Polarity::HigherBetter);
        assert!(higher.regression(20.0, 8.0).is_some());
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let refusal = |assertion: PerfDeltaAssertion| {
            assertion
                .validate()
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert_eq!(refusal(PerfDeltaAssertion::new("iteration_rate")), "");
        insta::assert_snapshot!(refusal(PerfDeltaAssertion::new("total_migrations")), @r#"the metric "total_migrations" has no direction: give one with `with_direction`"#);
        let own = PerfDeltaAssertion::new("mine").with_direction(Polarity::LowerBetter);
        insta::assert_snapshot!(refusal(own), @r#"the metric "mine" has no default gate: give one with `with_max_regression_pct`"#);
        assert_eq!(refusal(own.with_max_regression_pct(5.0)), "");
        assert!(
            refusal(own.with_max_regression_pct(5.0).with_phase(1))
                .contains("leave out `with_phase`")
        );
        let of = PerfDeltaAssertion::new;
        insta::assert_snapshot!(refusal(of("avg_cpu_util_comp_scale")), @r#"the metric "avg_cpu_util_comp_scale" of the whole run is never measured: docs/metrics.md lists all metrics"#);
        insta::assert_snapshot!(refusal(of("wakeup_p99_latency_us")), @r#"the metric "wakeup_p99_latency_us" of the whole run is never measured: choose a phase of it with `with_phase`; compare wakeup_p99_latency_us_whole; docs/metrics.md lists all metrics"#);
        assert_eq!(refusal(of("wakeup_p99_latency_us").with_phase(1)), "");
        insta::assert_snapshot!(refusal(of("worst_p99_wake_latency_us").with_phase(1)), @r#"the metric "worst_p99_wake_latency_us" of a phase is never measured: leave out `with_phase`; docs/metrics.md lists all metrics"#);
        insta::assert_snapshot!(refusal(of("p99_wake_latency_us")), @r#"the metric "p99_wake_latency_us" of the whole run is never measured: compare worst_p99_wake_latency_us; docs/metrics.md lists all metrics"#);
        insta::assert_snapshot!(refusal(own.with_max_regression_pct(-5.0)), @r#"the gate -5 of the metric "mine": expected a finite number of at least 0"#);
    }
}
