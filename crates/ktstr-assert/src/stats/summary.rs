//! Computes the scalars of one cgroup, in one phase or over the run, from its samples and counters.

use super::PhaseCgroupStats;
use crate::math::{cv_of, mean, min_max, percentile, ratio, sorted, us};
use std::collections::BTreeMap;

impl PhaseCgroupStats {
    /// Returns the off-CPU shares in percent: the mean, the smallest, the largest, and the difference between the
    /// largest and the smallest. `None` if no worker measured its time.
    pub fn off_cpu_summary(&self) -> Option<(f64, f64, f64, f64)> {
        let avg = mean(self.off_cpu_pcts.iter().copied())?;
        let (lo, hi) = min_max(self.off_cpu_pcts.iter().copied())?;
        Some((avg, lo, hi, hi - lo))
    }

    /// Returns the wakeup latency in microseconds: the 99th percentile and the median. `None` without samples.
    pub fn wake_summary(&self) -> Option<(f64, f64)> {
        let v = sorted(&self.wake_latencies_ns);
        Some((us(percentile(&v, 0.99)?), us(percentile(&v, 0.5)?)))
    }

    /// Returns the timer latency in microseconds: the median, the 99th and the 99.9th percentile. `None` without samples.
    pub fn timer_summary(&self) -> Option<(f64, f64, f64)> {
        let v = sorted(&self.timer_latencies_ns);
        let at = |p| percentile(&v, p).map(us);
        Some((at(0.5)?, at(0.99)?, at(0.999)?))
    }

    /// Returns the coefficient of variation of the wakeup latency; `None` without samples or if their mean is 0.
    pub fn wake_cv(&self) -> Option<f64> {
        cv_of(&self.wake_latencies_ns)
    }

    /// Returns the time spent runnable but waiting, in microseconds: the mean over the workers, and the largest.
    /// `None` without schedstats.
    pub fn run_delay_summary(&self) -> Option<(f64, f64)> {
        let avg = mean(self.run_delays_ns.iter().map(|v| us(*v)))?;
        Some((avg, us(*self.run_delays_ns.iter().max()?)))
    }

    /// Returns the scalars that come from counters, which stripping does not affect.
    pub(super) fn counted(&self) -> BTreeMap<String, f64> {
        let workers = self.num_workers as u64;
        let cross = (self.pages_held > 0)
            .then(|| ratio(self.cross_node_migrated, self.pages_held))
            .flatten();
        let local = self.numa_pages_local;
        let whole = self.unmeasured == 0;
        [
            (
                "migration_ratio",
                ratio(self.total_migrations, self.total_iterations),
            ),
            (
                "iterations_per_worker",
                ratio(self.total_iterations, workers).filter(|_| whole),
            ),
            (
                "page_locality",
                local.and_then(|l| ratio(l, self.numa_pages_total)),
            ),
            ("cross_node_migration_ratio", cross),
            (
                "total_cpu_time_ns",
                (workers > 0 && whole).then_some(self.total_cpu_time_ns as f64),
            ),
        ]
        .into_iter()
        .filter_map(|(k, v)| Some((k.to_owned(), v?)))
        .chain(super::bench::counted(&self.bench))
        .collect()
    }

    /// Returns every scalar that can be computed from the samples and counters.
    pub(super) fn scalars(&self) -> BTreeMap<String, f64> {
        let mut m = self.counted();
        m.extend(super::bench::of_phase(&self.bench));
        let mut put = |k: &str, v: f64| {
            m.insert(k.to_owned(), v);
        };
        if let Some((p99, median)) = self.wake_summary() {
            put("p99_wake_latency_us", p99);
            put("median_wake_latency_us", median);
        }
        if let Some(cv) = self.wake_cv() {
            put("wake_latency_cv", cv);
        }
        if let Some((median, p99, p999)) = self.timer_summary() {
            put("median_timer_latency_us", median);
            put("p99_timer_latency_us", p99);
            put("p999_timer_latency_us", p999);
        }
        if let Some((mean, worst)) = self.run_delay_summary() {
            put("mean_run_delay_us", mean);
            put("max_run_delay_us", worst);
        }
        if let Some((avg, lo, hi, spread)) = self.off_cpu_summary() {
            put("avg_off_cpu_pct", avg);
            put("min_off_cpu_pct", lo);
            put("max_off_cpu_pct", hi);
            // A spread needs at least two workers.
            if self.off_cpu_pcts.len() > 1 {
                put("off_cpu_spread_pct", spread);
            }
        }
        m
    }
}
