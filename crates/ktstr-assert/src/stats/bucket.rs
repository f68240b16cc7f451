//! The bucket of a phase: its window, its metrics, and the cgroups that existed in it.

use super::PhaseCgroupStats;
use crate::metric::MetricId;
use crate::phase::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that was measured in one phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
#[claim(crate = crate)]
#[serde(default)]
pub struct PhaseBucket {
    /// The step index of the phase: 0 is the baseline, step `k` has index `k + 1`.
    pub step_index: u16,
    /// The label of the phase: `BASELINE`, or `Step[k]` with steps counted from 0.
    pub label: String,
    /// The start of the window, in guest milliseconds since the scenario started.
    pub start_ms: u64,
    /// The end of the window, in guest milliseconds since the scenario started. A bucket that only the guest reported
    /// has 0 here and in `start_ms`.
    pub end_ms: u64,
    /// The number of captures in the phase.
    pub sample_count: usize,
    /// The metrics of the phase, by name. A metric that was not measured is absent, never 0.
    #[serde(with = "crate::float::map")]
    pub metrics: BTreeMap<String, f64>,
    /// The cgroups that had workers in the phase, by name.
    pub per_cgroup: BTreeMap<String, PhaseCgroupStats>,
}

impl PhaseBucket {
    /// Creates an empty bucket with the phase's label.
    pub fn new(phase: Phase) -> Self {
        PhaseBucket {
            step_index: phase.as_u16(),
            label: phase.label().into_owned(),
            ..Self::default()
        }
    }

    /// Returns the phase of the bucket.
    pub fn phase(&self) -> Phase {
        Phase::from(self.step_index)
    }

    /// Returns a metric of the phase as a whole; `None` if it was not measured.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).copied()
    }

    /// Returns a metric that the test requires.
    ///
    /// # Panics
    /// Panics if the metric was not measured. The message lists the metrics that were.
    #[track_caller]
    pub fn expect_metric(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(v) => v,
            None => panic!(
                "metric `{name}` was not measured in {}; measured: {:?}",
                self.label,
                self.metrics.keys().collect::<Vec<_>>()
            ),
        }
    }

    /// Returns a counter of the workers by its metric name, such as `total_iterations`, summed over all cgroups of the
    /// phase; `None` if the phase has no cgroups, and for other names.
    pub fn cgroup_counter_total(&self, name: &str) -> Option<f64> {
        self.per_cgroup
            .values()
            .map(|c| c.cgroup_counter(name))
            .reduce(|a, b| Some(a? + b?))
            .flatten()
    }

    /// Returns a metric of the phase. If the phase has no such metric, returns the sum of the workers' counter with that
    /// name over its cgroups; `None` if neither exists.
    pub fn metric(&self, metric: impl Into<MetricId>) -> Option<f64> {
        let id = metric.into();
        let name = id.wire_name();
        self.get(name).or_else(|| self.cgroup_counter_total(name))
    }

    /// Returns a metric of one cgroup in this phase. If the cgroup has no such metric, returns its workers' counter with
    /// that name; `None` if neither exists.
    pub fn cgroup_metric(&self, cgroup: &str, metric: impl Into<MetricId>) -> Option<f64> {
        let id = metric.into();
        let name = id.wire_name();
        let c = self.per_cgroup.get(cgroup)?;
        c.get(name).or_else(|| c.cgroup_counter(name))
    }

    /// Merges another bucket of the same phase. The new window is the smallest one that contains both windows; a window from
    /// 0 to 0 does not count. The numbers of captures are added, the worse value of each metric is kept, and cgroups are
    /// merged by name.
    pub fn merge(&mut self, other: PhaseBucket) {
        if self.label.is_empty() {
            self.label = other.label;
        }
        match ((self.start_ms, self.end_ms), (other.start_ms, other.end_ms)) {
            (_, (0, 0)) => {}
            ((0, 0), window) => (self.start_ms, self.end_ms) = window,
            (a, b) => (self.start_ms, self.end_ms) = (a.0.min(b.0), a.1.max(b.1)),
        }
        self.sample_count = self.sample_count.saturating_add(other.sample_count);
        crate::metric::merge_worst(&mut self.metrics, other.metrics);
        for (name, carrier) in other.per_cgroup {
            match self.per_cgroup.entry(name) {
                std::collections::btree_map::Entry::Vacant(e) => {
                    e.insert(carrier);
                }
                std::collections::btree_map::Entry::Occupied(mut e) => e.get_mut().merge(carrier),
            }
        }
    }
}
