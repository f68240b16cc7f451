//! What is known of a metric: direction, kind, gates, unit.

use crate::stats::SampleSource;
use serde::{Deserialize, Serialize};

/// Which way is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Polarity {
    /// More is better.
    HigherBetter,
    /// Less is better.
    LowerBetter,
    /// Near this value is better.
    TargetValue(f64),
    /// It is not known.
    #[default]
    Unknown,
    /// Neither: it describes the run.
    Informational,
}

impl Polarity {
    /// The worse of two values. NaN is worse than any number. Where there is no better, the larger
    /// is kept, so that the order of merging never matters.
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

    /// By how much `candidate` is better than `baseline` in the metric's own unit: positive is
    /// better. `None` where no direction is.
    pub fn gain(self, candidate: f64, baseline: f64) -> Option<f64> {
        match self {
            Polarity::HigherBetter => Some(candidate - baseline),
            Polarity::LowerBetter => Some(baseline - candidate),
            Polarity::TargetValue(t) => Some((baseline - t).abs() - (candidate - t).abs()),
            Polarity::Unknown | Polarity::Informational => None,
        }
    }
}

/// Which sample of a gauge stands for a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaugeFold {
    /// The mean of the phase's samples.
    Avg,
    /// The last sample of the phase.
    Last,
    /// The largest sample of the phase.
    Max,
}

/// Which number stands for a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
    /// 50th percentile.
    Median,
    /// Coefficient of variation.
    Cv,
    /// The mean of all samples.
    Mean,
    /// The largest sample.
    Worst,
}

/// How a metric comes from samples, phases and cgroups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// Grows: last − first inside a phase, summed across phases.
    Counter,
    /// Goes up and down.
    Gauge(GaugeFold),
    /// The largest value seen.
    Peak,
    /// A moment in guest time; it is never summed or averaged.
    Timestamp,
    /// Sum of the deltas of the phases.
    DeltaSum,
    /// Sum of per-phase deltas of things that come and go, such as tasks.
    PerPhaseDeltaSum,
    /// A quotient of two other metrics, taken after those were pooled.
    Rate {
        /// The metric above the line.
        numerator: &'static str,
        /// The metric below the line.
        denominator: &'static str,
    },
    /// A reduction of a cgroup's samples; the worst cgroup counts.
    Distribution {
        /// Which of the workers' samples are reduced.
        source: SampleSource,
        /// The number taken from them.
        reduction: Reduction,
    },
    /// The lowest quotient among the cgroups.
    WorstLowest {
        /// The cgroup's value above the line.
        numerator: &'static str,
        /// The cgroup's value below the line.
        denominator: &'static str,
    },
    /// 99th percentile over median of the wake-up latency; the worst cgroup counts.
    WakeLatencyTailRatio,
    /// Pages moved between nodes over pages; the worst cgroup counts.
    WorstCrossNodeRatio,
    /// Exists for one cgroup in one phase only.
    PerPhase,
    /// A distribution over the whole run.
    PerRunDistribution,
    /// A number of all samples of the cgroup, the phase or the run that is asked for: of a phase it is no fold over its cgroups.
    Pooled,
}

/// Who measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The workers' reports.
    Workers,
    /// The captures of guest memory.
    Captures,
    /// The monitor, which samples the runqueues every 100 ms.
    Monitor,
    /// The exact schedule, under the virtual clock.
    Schedule,
    /// Nobody measures it yet: the metric is always absent.
    Pending,
}

/// The definition of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricDef {
    /// Its wire name.
    pub name: &'static str,
    /// Which way is better.
    pub polarity: Polarity,
    /// How it is folded.
    pub kind: MetricKind,
    /// A change below this many units is no regression.
    pub default_abs: f64,
    /// A change below this fraction of the baseline is no regression.
    pub default_rel: f64,
    /// The unit, empty for bare numbers.
    pub display_unit: &'static str,
    /// Who measures it.
    pub source: Source,
}

impl MetricDef {
    /// Whether `candidate` is worse than `baseline` by enough to count: the loss must clear both
    /// the absolute and the relative gate. Never where no direction is.
    pub fn is_regression(&self, baseline: f64, candidate: f64) -> bool {
        self.polarity.gain(candidate, baseline).is_some_and(|gain| {
            -gain >= self.default_abs && -gain >= self.default_rel * baseline.abs()
        })
    }
}
