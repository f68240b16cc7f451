//! The checks of a test on a program that it runs.

use crate::metric::BuiltinMetric;

/// A condition on a program's exit code or on one of its metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricCheck {
    /// The metric must be present and at least this value.
    Min {
        /// The name of the metric in the program's output.
        metric: &'static str,
        /// The smallest value that passes, in the metric's own unit.
        value: f64,
    },
    /// The metric must be present and at most this value.
    Max {
        /// The name of the metric in the program's output.
        metric: &'static str,
        /// The largest value that passes, in the metric's own unit.
        value: f64,
    },
    /// The metric must be present and between these values, both included.
    Range {
        /// The name of the metric in the program's output.
        metric: &'static str,
        /// The smallest value that passes, in the metric's own unit.
        lo: f64,
        /// The largest value that passes, in the metric's own unit.
        hi: f64,
    },
    /// The metric must be present.
    Exists(&'static str),
    /// The program must exit with this code. Without such a check the code must be 0.
    ExitCodeEq(i32),
}

/// The reason why no program can meet a check.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// A bound is NaN or infinite.
    #[error("the bound {value} of metric {metric:?} is not a finite number")]
    NotFinite {
        /// The name of the metric that the check bounds.
        metric: &'static str,
        /// The bound as declared.
        value: f64,
    },
    /// The lower bound of a range is above the upper one.
    #[error("the range {lo} to {hi} of metric {metric:?} is empty: the lower bound comes first")]
    Empty {
        /// The name of the metric that the check bounds.
        metric: &'static str,
        /// The lower bound as declared.
        lo: f64,
        /// The upper bound as declared.
        hi: f64,
    },
}

impl MetricCheck {
    /// Creates a check that the metric is at least `value`.
    pub const fn min(metric: &'static str, value: f64) -> Self {
        Self::Min { metric, value }
    }

    /// Creates a check that the metric is at most `value`.
    pub const fn max(metric: &'static str, value: f64) -> Self {
        Self::Max { metric, value }
    }

    /// Creates a check that the metric is between `lo` and `hi`, both included.
    pub const fn range(metric: &'static str, lo: f64, hi: f64) -> Self {
        Self::Range { metric, lo, hi }
    }

    /// Creates a check that the metric is present.
    pub const fn exists(metric: &'static str) -> Self {
        Self::Exists(metric)
    }

    /// Creates a check that the program exits with this code.
    pub const fn exit_code_eq(code: i32) -> Self {
        Self::ExitCodeEq(code)
    }

    /// The same as [`Self::min`], for a metric that the program prints under a name of the registry.
    pub fn min_builtin(metric: BuiltinMetric, value: f64) -> Self {
        Self::min(metric.wire_name(), value)
    }

    /// The same as [`Self::max`], for a metric that the program prints under a name of the registry.
    pub fn max_builtin(metric: BuiltinMetric, value: f64) -> Self {
        Self::max(metric.wire_name(), value)
    }

    /// The same as [`Self::range`], for a metric that the program prints under a name of the registry.
    pub fn range_builtin(metric: BuiltinMetric, lo: f64, hi: f64) -> Self {
        Self::range(metric.wire_name(), lo, hi)
    }

    /// The same as [`Self::exists`], for a metric that the program prints under a name of the registry.
    pub fn exists_builtin(metric: BuiltinMetric) -> Self {
        Self::exists(metric.wire_name())
    }

    /// Returns the name of the metric that the check is about; `None` for a check of the exit code.
    pub const fn metric(&self) -> Option<&'static str> {
        match *self {
            Self::Min { metric, .. }
            | Self::Max { metric, .. }
            | Self::Range { metric, .. }
            | Self::Exists(metric) => Some(metric),
            Self::ExitCodeEq(_) => None,
        }
    }

    /// Checks that a program can meet this check.
    ///
    /// # Errors
    /// Returns a [`CheckError`] that names the metric and the bound, or the bounds of an empty range.
    pub fn validate(&self) -> Result<(), CheckError> {
        let finite = |metric, values: &[f64]| {
            let wrong = values.iter().copied().find(|value| !value.is_finite());
            wrong.map_or(Ok(()), |value| Err(CheckError::NotFinite { metric, value }))
        };
        match *self {
            Self::Min { metric, value } | Self::Max { metric, value } => finite(metric, &[value]),
            Self::Range { metric, lo, hi } => {
                finite(metric, &[lo, hi])?;
                match lo <= hi {
                    true => Ok(()),
                    false => Err(CheckError::Empty { metric, lo, hi }),
                }
            }
            Self::Exists(_) | Self::ExitCodeEq(_) => Ok(()),
        }
    }
}
