//! The definition of a metric: its direction, kind, gates and unit.

use crate::stats::SampleSource;
use serde::{Deserialize, Serialize};

/// The direction in which a metric improves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Polarity {
    /// A larger value is better.
    HigherBetter,
    /// A smaller value is better.
    LowerBetter,
    /// A value closer to this one is better.
    TargetValue(f64),
    /// The direction is unknown, as for a metric that is not in the registry.
    #[default]
    Unknown,
    /// The metric has no direction, because it only describes the run.
    Informational,
}

impl Polarity {
    /// Returns the worse of two values. NaN is worse than any number. Without a direction the larger value is returned.
    /// If both values have the same distance from a target, the smaller one is returned. The order in which values are
    /// merged therefore never matters.
    pub fn worse(self, a: f64, b: f64) -> f64 {
        if a.is_nan() || b.is_nan() {
            return f64::NAN;
        }
        match self {
            Polarity::HigherBetter => a.min(b),
            Polarity::TargetValue(t) => match (a - t).abs().total_cmp(&(b - t).abs()) {
                std::cmp::Ordering::Greater => a,
                std::cmp::Ordering::Less => b,
                std::cmp::Ordering::Equal => a.min(b),
            },
            _ => a.max(b),
        }
    }

    /// Returns by how much `candidate` is better than `baseline`, in the metric's own unit: a positive number is an
    /// improvement. `None` for a metric without a direction.
    pub fn gain(self, candidate: f64, baseline: f64) -> Option<f64> {
        match self {
            Polarity::HigherBetter => Some(candidate - baseline),
            Polarity::LowerBetter => Some(baseline - candidate),
            Polarity::TargetValue(t) => Some((baseline - t).abs() - (candidate - t).abs()),
            Polarity::Unknown | Polarity::Informational => None,
        }
    }
}

/// How the samples of a gauge in a phase become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaugeFold {
    /// The mean of the phase's samples.
    Avg,
    /// The last sample of the phase.
    Last,
    /// The largest sample of the phase.
    Max,
}

/// Which number represents a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The 99th percentile of the samples.
    P99,
    /// The 99.9th percentile of the samples.
    P999,
    /// The 50th percentile of the samples.
    Median,
    /// The coefficient of variation of the samples: the standard deviation divided by the mean.
    Cv,
    /// The mean of all samples.
    Mean,
    /// The largest of all samples.
    Worst,
}

/// How a metric is computed from samples, phases and cgroups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// A counter that only grows: last − first inside a phase, summed over the phases.
    Counter,
    /// A value that may grow and shrink.
    Gauge(GaugeFold),
    /// The largest value seen.
    Peak,
    /// A moment in guest time; it is never summed or averaged.
    Timestamp,
    /// The sum of the deltas of the phases.
    DeltaSum,
    /// The sum of per-phase deltas of things that are created and removed, such as tasks.
    PerPhaseDeltaSum,
    /// The ratio of two other metrics, each of which is pooled before the division.
    Rate {
        /// The name of the metric that is divided.
        numerator: &'static str,
        /// The name of the metric by which it is divided.
        denominator: &'static str,
    },
    /// A number computed from a cgroup's samples. The worst cgroup represents the run.
    Distribution {
        /// Which samples of the workers are used.
        source: SampleSource,
        /// The number that is computed from them.
        reduction: Reduction,
    },
    /// The lowest ratio among the cgroups.
    WorstLowest {
        /// The cgroup's value in the numerator.
        numerator: &'static str,
        /// The cgroup's value in the denominator.
        denominator: &'static str,
    },
    /// The 99th percentile of the wakeup latency divided by its median. The worst cgroup represents the run.
    WakeLatencyTailRatio,
    /// Pages moved between nodes, divided by all pages. The worst cgroup represents the run.
    WorstCrossNodeRatio,
    /// A metric of one cgroup in one phase, without a value over the run. If it is the metric of a benchmark, the phase
    /// has the worst value of its cgroups.
    PerPhase,
    /// A percentile of all samples of a cgroup over the whole run. The worst cgroup represents the run.
    PerRunDistribution,
    /// A number computed from all samples of the requested cgroup, phase or run. The value of a phase is not folded
    /// from the values of its cgroups.
    Pooled,
}

/// Which part of the harness measures a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The workers, each of which reports what it did and measured.
    Workers,
    /// The captures of guest memory.
    Captures,
    /// The monitor, which samples the runqueues every 100 ms on average.
    Monitor,
    /// The exact schedule, under the virtual clock.
    Schedule,
    /// Nothing measures the metric yet, so it is always absent.
    Pending,
}

/// The definition of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricDef {
    /// The name in records and JSON.
    pub name: &'static str,
    /// The direction in which the metric improves.
    pub polarity: Polarity,
    /// How the metric is computed and folded.
    pub kind: MetricKind,
    /// A change of less than this many units is not a regression.
    pub default_abs: f64,
    /// A change of less than this fraction of the baseline is not a regression.
    pub default_rel: f64,
    /// The unit; empty for plain numbers.
    pub display_unit: &'static str,
    /// Which part of the harness measures the metric.
    pub source: Source,
}

impl MetricDef {
    /// Whether `candidate` is worse than `baseline` by enough to count: the loss must reach both the absolute and the
    /// relative gate. Always false for a metric without a direction, and if one of the values is NaN.
    pub fn is_regression(&self, baseline: f64, candidate: f64) -> bool {
        self.polarity.gain(candidate, baseline).is_some_and(|gain| {
            -gain >= self.default_abs && -gain >= self.default_rel * baseline.abs()
        })
    }
}
