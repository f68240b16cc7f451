//! The statistics of the whole scenario: its cgroups, totals and phases.

use super::{CgroupStats, PhaseBucket};
use crate::metric::{MetricId, merge_worst};
use crate::payload::PayloadMetrics;
use crate::phase::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The measurements of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
#[claim(crate = crate)]
#[serde(default)]
pub struct ScenarioStats {
    /// The cgroups, in the order in which they were collected.
    pub cgroups: Vec<CgroupStats>,
    /// The number of workers in all cgroups.
    pub total_workers: usize,
    /// The number of CPUs on which the workers of a cgroup were seen, summed over the cgroups.
    pub total_cpus: usize,
    /// The number of times that a worker of any cgroup changed its CPU.
    pub total_migrations: u64,
    /// The largest spread of a cgroup, in percentage points; 0 if no cgroup has one.
    #[serde(with = "crate::float::one")]
    pub worst_spread: f64,
    /// The longest gap of a worker, in milliseconds.
    pub worst_gap_ms: u64,
    /// The CPU on which the longest gap ended.
    pub worst_gap_cpu: usize,
    /// The highest ratio of migrations to iterations that a cgroup has.
    #[serde(with = "crate::float::one")]
    pub worst_migration_ratio: f64,
    /// The number of loop iterations of all workers of all cgroups.
    pub total_iterations: u64,
    /// Further metrics of the run, which are not fields of this struct, by name.
    #[serde(with = "crate::float::map")]
    pub ext_metrics: BTreeMap<String, f64>,
    /// The phases, by step index.
    pub phases: Vec<PhaseBucket>,
    /// The results of the programs that the test ran as its workload, in the order in which they ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[claim(skip)]
    pub payloads: Vec<PayloadMetrics>,
}

impl ScenarioStats {
    /// Creates the statistics of a scenario with a single cgroup.
    pub fn from_cgroup(c: CgroupStats) -> Self {
        ScenarioStats {
            total_workers: c.num_workers,
            total_cpus: c.num_cpus,
            total_migrations: c.total_migrations,
            worst_spread: c.spread.unwrap_or(0.0),
            worst_gap_ms: c.max_gap_ms,
            worst_gap_cpu: c.max_gap_cpu,
            worst_migration_ratio: c.migration_ratio,
            total_iterations: c.total_iterations,
            cgroups: vec![c],
            ..Self::default()
        }
    }

    /// Returns the bucket of a phase; `None` if the phase has no bucket.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseBucket> {
        self.phases.iter().find(|b| b.phase() == phase)
    }

    /// Returns a metric of a phase; see [`PhaseBucket::metric`].
    pub fn phase_metric(&self, phase: Phase, metric: impl Into<MetricId>) -> Option<f64> {
        self.phase(phase)?.metric(metric)
    }

    /// Returns a metric of one cgroup in a phase; see [`PhaseBucket::cgroup_metric`].
    pub fn phase_cgroup_metric(
        &self,
        phase: Phase,
        cgroup: &str,
        metric: impl Into<MetricId>,
    ) -> Option<f64> {
        self.phase(phase)?.cgroup_metric(cgroup, metric)
    }

    /// Returns a metric over the whole run. `None` if it was not measured.
    pub fn run_metric(&self, metric: impl Into<MetricId>) -> Option<f64> {
        let id = metric.into();
        let own = self.ext_metrics.get(id.wire_name()).copied();
        own.or_else(|| crate::metric::run_value(self, &id))
    }

    /// Compares the cgroups by their iterations per worker, and returns the lowest value divided by the highest: 1 is a perfect
    /// balance. Returns `None` if fewer than two cgroups can be compared, or if no worker did an iteration. A cgroup without
    /// workers, or in which a worker ended early, cannot be compared.
    pub fn cgroup_balance_ratio(&self) -> Option<f64> {
        let rates: Vec<_> = (self.cgroups.iter())
            .filter_map(CgroupStats::iterations_per_worker)
            .collect();
        let (lo, hi) = crate::math::min_max(rates.iter().copied())?;
        (rates.len() > 1 && hi > 0.0).then(|| lo / hi)
    }

    /// Whether any step has a bucket.
    pub fn has_steps(&self) -> bool {
        self.phases.iter().any(|b| b.step_index > 0)
    }

    /// Merges another part of the scenario. Totals are added, the worst values are kept, cgroups and payloads are
    /// appended, and phases are merged by step index. The worse value of each further metric is kept, by its polarity.
    pub fn merge(&mut self, other: ScenarioStats) {
        self.cgroups.extend(other.cgroups);
        self.total_workers = self.total_workers.saturating_add(other.total_workers);
        self.total_cpus = self.total_cpus.saturating_add(other.total_cpus);
        self.total_migrations = self.total_migrations.saturating_add(other.total_migrations);
        self.total_iterations = self.total_iterations.saturating_add(other.total_iterations);
        self.worst_spread = self.worst_spread.max(other.worst_spread);
        self.worst_migration_ratio = self.worst_migration_ratio.max(other.worst_migration_ratio);
        if other.worst_gap_ms > self.worst_gap_ms {
            (self.worst_gap_ms, self.worst_gap_cpu) = (other.worst_gap_ms, other.worst_gap_cpu);
        }
        merge_worst(&mut self.ext_metrics, other.ext_metrics);
        merge_phases(&mut self.phases, other.phases);
        self.payloads.extend(other.payloads);
    }
}

/// Merges buckets by step index. `into` is ordered by step index, and stays so. A scenario adds a bucket for each of its steps,
/// so the time for one bucket must not grow with their number.
pub(crate) fn merge_phases(into: &mut Vec<PhaseBucket>, from: Vec<PhaseBucket>) {
    for bucket in from {
        let at = into.partition_point(|b| b.step_index < bucket.step_index);
        match into.get_mut(at) {
            Some(mine) if mine.step_index == bucket.step_index => mine.merge(bucket),
            _ => into.insert(at, bucket),
        }
    }
}
