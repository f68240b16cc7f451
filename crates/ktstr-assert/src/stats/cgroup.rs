//! The statistics of one cgroup over the whole run.

use super::{PhaseCgroupStats, TaobenchStats};
use crate::math::{ratio, us};
use crate::metric::BuiltinMetric;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A kind of sample that a worker may have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SampleSource {
    /// The latency of a wakeup, in nanoseconds.
    WakeLatencyNs,
    /// The time that a task was runnable but waiting, in nanoseconds.
    RunDelayNs,
    /// How late a timer fired, in nanoseconds.
    TimerLatencyNs,
}

// Generates the struct, which has a field for each total that is a metric, and the code that copies all of these fields.
macro_rules! cgroup_stats {
    ($($(#[$_doc:meta])* $_kind:ident $_name:ident
       $({ #[$doc:meta] $_fold:ident $total:ident $($metric:ident)? })?;)*) => {
        /// The measurements of one cgroup's workers over their lives.
        ///
        /// A latency that was not measured is 0, and its `*_measured` flag is false: check [`CgroupStats::measured_for`]
        /// before relying on a zero.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
        #[claim(crate = crate)]
        #[serde(default)]
        pub struct CgroupStats {
            /// The cgroup's name, as the test declared it.
            pub cgroup_name: String,
            /// The number of its workers, dead ones included.
            pub num_workers: usize,
            /// The number of workers that ended before they measured their CPU time, which is missing from the totals.
            #[serde(skip_serializing_if = "crate::math::is_zero")]
            pub unmeasured: usize,
            /// The CPUs on which the workers were seen.
            pub cpus_used: BTreeSet<usize>,
            /// The number of CPUs in `cpus_used`.
            pub num_cpus: usize,
            /// The mean off-CPU share of the workers, in percent; `None` if no worker measured it.
            #[serde(with = "crate::float::opt")]
            pub avg_off_cpu_pct: Option<f64>,
            /// The smallest off-CPU share of a worker, in percent.
            #[serde(with = "crate::float::opt")]
            pub min_off_cpu_pct: Option<f64>,
            /// The largest off-CPU share of a worker, in percent.
            #[serde(with = "crate::float::opt")]
            pub max_off_cpu_pct: Option<f64>,
            /// The difference between the largest and the smallest off-CPU share of a worker, in percentage points; `None`
            /// if fewer than two workers measured theirs.
            #[serde(with = "crate::float::opt")]
            pub spread: Option<f64>,
            /// The longest gap between two iterations of one worker, in milliseconds.
            pub max_gap_ms: u64,
            /// The CPU on which the longest gap ended.
            pub max_gap_cpu: usize,
            $($($(
                #[$doc]
                #[doc = concat!("It is the metric [`BuiltinMetric::", stringify!($metric), "`].")]
                pub $total: u64,
            )?)?)*
            /// The number of migrations per iteration; 0 without iterations.
            #[serde(with = "crate::float::one")]
            pub migration_ratio: f64,
            /// The 99th percentile of the wakeup latency, in microseconds.
            #[serde(with = "crate::float::one")]
            pub p99_wake_latency_us: f64,
            /// The median wakeup latency, in microseconds.
            #[serde(with = "crate::float::one")]
            pub median_wake_latency_us: f64,
            /// The coefficient of variation of the wakeup latency.
            #[serde(with = "crate::float::one")]
            pub wake_latency_cv: f64,
            /// The number of wakeups from which the latencies were sampled.
            pub wake_sample_total: u64,
            /// Whether wakeup latencies were measured.
            pub wake_measured: bool,
            /// The median timer latency, in microseconds.
            #[serde(with = "crate::float::one")]
            pub median_timer_latency_us: f64,
            /// The 99th percentile of the timer latency, in microseconds.
            #[serde(with = "crate::float::one")]
            pub p99_timer_latency_us: f64,
            /// The 99.9th percentile of the timer latency, in microseconds.
            #[serde(with = "crate::float::one")]
            pub p999_timer_latency_us: f64,
            /// The largest timer latency, in microseconds.
            #[serde(with = "crate::float::one")]
            pub worst_timer_latency_us: f64,
            /// Whether timer latencies were measured.
            pub timer_measured: bool,
            /// The time that a worker spent runnable but waiting, averaged over the workers, in microseconds.
            #[serde(with = "crate::float::one")]
            pub mean_run_delay_us: f64,
            /// The longest time that a worker spent runnable but waiting in total, in microseconds.
            #[serde(with = "crate::float::one")]
            pub worst_run_delay_us: f64,
            /// Whether run delays were measured.
            pub run_delay_measured: bool,
            /// The share of the pages that are on the expected nodes, from 0 to 1; `None` without pages or if the expected
            /// nodes are unknown.
            #[serde(with = "crate::float::opt")]
            pub page_locality: Option<f64>,
            /// The number of pages that moved between nodes, divided by the number of all pages; `None` without pages.
            #[serde(with = "crate::float::opt")]
            pub cross_node_migration_ratio: Option<f64>,
            /// The operations of the Taobench that ran in this cgroup; `None` if it had none.
            #[claim(skip)]
            pub taobench_whole: Option<TaobenchStats>,
            /// Further metrics of the cgroup, which are not fields of this struct, by name.
            #[serde(with = "crate::float::map")]
            pub ext_metrics: BTreeMap<String, f64>,
        }

        impl CgroupStats {
            /// Computes the statistics of a cgroup from its carrier over the whole run.
            pub fn from_carrier(name: impl Into<String>, c: &PhaseCgroupStats) -> Self {
                let get = |k| c.get(k);
                let or0 = |k| c.get(k).unwrap_or(0.0);
                CgroupStats {
                    cgroup_name: name.into(),
                    num_workers: c.num_workers,
                    unmeasured: c.unmeasured,
                    cpus_used: c.cpus_used.clone(),
                    num_cpus: c.cpus_used.len(),
                    avg_off_cpu_pct: get("avg_off_cpu_pct"),
                    min_off_cpu_pct: get("min_off_cpu_pct"),
                    max_off_cpu_pct: get("max_off_cpu_pct"),
                    spread: get("off_cpu_spread_pct"),
                    max_gap_ms: c.max_gap_ms,
                    max_gap_cpu: c.max_gap_cpu,
                    $($($($total: c.total(BuiltinMetric::$metric).unwrap_or(0),)?)?)*
                    migration_ratio: or0("migration_ratio"),
                    p99_wake_latency_us: or0("p99_wake_latency_us"),
                    median_wake_latency_us: or0("median_wake_latency_us"),
                    wake_latency_cv: or0("wake_latency_cv"),
                    wake_sample_total: c.wake_sample_total,
                    wake_measured: get("p99_wake_latency_us").is_some(),
                    median_timer_latency_us: or0("median_timer_latency_us"),
                    p99_timer_latency_us: or0("p99_timer_latency_us"),
                    p999_timer_latency_us: or0("p999_timer_latency_us"),
                    worst_timer_latency_us: c.timer_latencies_ns.iter().max().map_or(0.0, |v| us(*v)),
                    timer_measured: get("p99_timer_latency_us").is_some(),
                    mean_run_delay_us: or0("mean_run_delay_us"),
                    worst_run_delay_us: or0("max_run_delay_us"),
                    run_delay_measured: get("mean_run_delay_us").is_some(),
                    page_locality: get("page_locality"),
                    cross_node_migration_ratio: get("cross_node_migration_ratio"),
                    taobench_whole: c.taobench(),
                    ext_metrics: super::bench::of_run(&c.bench),
                }
            }
        }
    };
}
crate::worker_counters!(cgroup_stats);

/// With fewer wakeups than this the tail of their latency is not meaningful.
const TAIL_RATIO_MIN_SAMPLES: u64 = 100;

impl CgroupStats {
    /// Returns the 99th percentile of the wakeup latency divided by the median. `None` with fewer than 100 measured
    /// wakeups, or with a median of zero.
    pub fn wake_latency_tail_ratio(&self) -> Option<f64> {
        let is_meaningful = self.wake_measured && self.wake_sample_total >= TAIL_RATIO_MIN_SAMPLES;
        (is_meaningful && self.median_wake_latency_us > 0.0)
            .then(|| self.p99_wake_latency_us / self.median_wake_latency_us)
    }

    /// Returns the number of iterations per worker. `None` without workers, and if a worker ended early, since it would count
    /// as if it had done nothing in the rest of the time.
    pub fn iterations_per_worker(&self) -> Option<f64> {
        if self.unmeasured > 0 {
            return None;
        }
        ratio(self.total_iterations, self.num_workers as u64)
    }

    /// Returns the number of iterations per CPU-second. `None` without CPU time, and if the CPU time of a worker is unknown.
    pub fn iterations_per_cpu_sec(&self) -> Option<f64> {
        if self.unmeasured > 0 {
            return None;
        }
        ratio(self.total_iterations, self.total_cpu_time_ns).map(|r| r * 1e9)
    }

    /// Whether samples of this kind were taken.
    pub fn measured_for(&self, source: SampleSource) -> bool {
        match source {
            SampleSource::WakeLatencyNs => self.wake_measured,
            SampleSource::RunDelayNs => self.run_delay_measured,
            SampleSource::TimerLatencyNs => self.timer_measured,
        }
    }
}
