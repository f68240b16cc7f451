//! What a test asks of a program that it runs.

use crate::metric::BuiltinMetric;

/// One thing that must hold of a program's exit code or of its metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricCheck {
    /// The metric must be there and at least this.
    Min {
        /// The metric's name.
        metric: &'static str,
        /// The least value, in the metric's own unit.
        value: f64,
    },
    /// The metric must be there and at most this.
    Max {
        /// The metric's name.
        metric: &'static str,
        /// The largest value, in the metric's own unit.
        value: f64,
    },
    /// The metric must be there and between these two, both included.
    Range {
        /// The metric's name.
        metric: &'static str,
        /// The least value, in the metric's own unit.
        lo: f64,
        /// The largest value, in the metric's own unit.
        hi: f64,
    },
    /// The metric must be there.
    Exists(&'static str),
    /// The program must end with this exit code. Without such a check it must be 0.
    ExitCodeEq(i32),
}

/// A check that nothing can meet.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// A bound is NaN or infinite.
    #[error("the bound {value} of metric {metric:?} is no finite number")]
    NotFinite {
        /// The metric's name.
        metric: &'static str,
        /// The bound as it is declared.
        value: f64,
    },
    /// The bounds of a range are the wrong way round.
    #[error("the range {lo} to {hi} of metric {metric:?} is empty: the lower bound comes first")]
    Empty {
        /// The metric's name.
        metric: &'static str,
        /// The lower bound as it is declared.
        lo: f64,
        /// The upper bound as it is declared.
        hi: f64,
    },
}

impl MetricCheck {
    /// The metric must be at least `value`.
    pub const fn min(metric: &'static str, value: f64) -> Self {
        Self::Min { metric, value }
    }

    /// The metric must be at most `value`.
    pub const fn max(metric: &'static str, value: f64) -> Self {
        Self::Max { metric, value }
    }

    /// The metric must be between `lo` and `hi`, both included.
    pub const fn range(metric: &'static str, lo: f64, hi: f64) -> Self {
        Self::Range { metric, lo, hi }
    }

    /// The metric must be there.
    pub const fn exists(metric: &'static str) -> Self {
        Self::Exists(metric)
    }

    /// The program must end with this exit code.
    pub const fn exit_code_eq(code: i32) -> Self {
        Self::ExitCodeEq(code)
    }

    /// [`Self::min`] of a metric that the program prints under a name of the registry.
    pub fn min_builtin(metric: BuiltinMetric, value: f64) -> Self {
        Self::min(metric.wire_name(), value)
    }

    /// [`Self::max`] of a metric that the program prints under a name of the registry.
    pub fn max_builtin(metric: BuiltinMetric, value: f64) -> Self {
        Self::max(metric.wire_name(), value)
    }

    /// [`Self::range`] of a metric that the program prints under a name of the registry.
    pub fn range_builtin(metric: BuiltinMetric, lo: f64, hi: f64) -> Self {
        Self::range(metric.wire_name(), lo, hi)
    }

    /// [`Self::exists`] of a metric that the program prints under a name of the registry.
    pub fn exists_builtin(metric: BuiltinMetric) -> Self {
        Self::exists(metric.wire_name())
    }

    /// Whether anything can meet it.
    ///
    /// # Errors
    /// [`CheckError`] names the metric and the bounds.
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
