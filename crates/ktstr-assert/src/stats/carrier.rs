//! The carrier of one cgroup in one phase, which transports the workers' samples to the host.

use super::bench::{BenchCarrier, BenchTotals, TaobenchStats};
use crate::math;
use crate::metric::BuiltinMetric;
use crate::worker::PhaseSlice;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

// Writes the struct that has a field for each total of the workers' counters, and the code that reads or folds all of them.
macro_rules! carrier {
    ($($(#[$_doc:meta])* $_kind:ident $name:ident
       $({ #[$doc:meta] $fold:ident $total:ident $($metric:ident)? })?;)*) => {
        /// What the workers of one cgroup measured in one phase.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
        #[claim(crate = crate)]
        #[serde(default)]
        pub struct PhaseCgroupStats {
            /// The number of workers that were in the cgroup, dead ones included.
            pub num_workers: usize,
            /// The CPUs on which the workers were seen.
            pub cpus_used: BTreeSet<usize>,
            /// Wakeup latencies, in nanoseconds.
            pub wake_latencies_ns: Vec<u64>,
            /// The number of wakeups from which the latencies were sampled.
            pub wake_sample_total: u64,
            /// Timer latencies, in nanoseconds.
            pub timer_latencies_ns: Vec<u64>,
            /// The number of timers from which the latencies were sampled.
            pub timer_sample_total: u64,
            /// The time that each worker was runnable but waiting, in nanoseconds. Workers without schedstats are left out.
            pub run_delays_ns: Vec<u64>,
            /// The off-CPU share of each worker whose time was measured, in percent.
            #[serde(with = "crate::float::list")]
            pub off_cpu_pcts: Vec<f64>,
            $($(#[$doc] pub $total: u64,)?)*
            /// The number of pages of the workers on each NUMA node.
            pub numa_pages: BTreeMap<usize, u64>,
            /// The number of pages on the expected nodes; `None` until [`PhaseCgroupStats::set_local_nodes`] names these.
            pub numa_pages_local: Option<u64>,
            /// The number of pages on all nodes.
            pub numa_pages_total: u64,
            /// The number of pages that the kernel moved between nodes in the whole machine, while a worker existed.
            pub cross_node_migrated: u64,
            /// The longest gap between two iterations of one worker, in milliseconds.
            pub max_gap_ms: u64,
            /// The CPU on which the longest gap ended.
            pub max_gap_cpu: usize,
            /// The measurements of benchmark workers, by role.
            #[claim(skip)]
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub bench: BenchCarrier,
            /// Whether the sample vectors were dropped to fit the transport. `metrics` is complete nevertheless.
            pub stripped: bool,
            /// The scalars that were measured, by metric name. A scalar that was not measured is absent, never 0.
            #[serde(with = "crate::float::map")]
            pub metrics: BTreeMap<String, f64>,
        }

        impl PhaseCgroupStats {
            /// Returns a counter of the workers by its metric name, such as `total_iterations`. `None` for any other name.
            pub fn cgroup_counter(&self, name: &str) -> Option<f64> {
                let total = self.total(BuiltinMetric::from_wire_name(name)?)?;
                Some(total as f64)
            }

            /// Returns the counter of the workers that is this metric; `None` for a metric that is not such a counter.
            pub(super) fn total(&self, metric: BuiltinMetric) -> Option<u64> {
                match metric {
                    $($($(BuiltinMetric::$metric => Some(self.$total),)?)?)*
                    _ => None,
                }
            }

            /// Folds the counters of one worker into those of the cgroup.
            pub(crate) fn fold_counters(&mut self, worker: &PhaseSlice) {
                $($(self.$total = math::$fold(self.$total, worker.$name);)?)*
            }

            /// Folds the counters of another part of the cgroup into these.
            fn fold_counters_of(&mut self, other: &PhaseCgroupStats) {
                $($(self.$total = math::$fold(self.$total, other.$total);)?)*
            }
        }
    };
}
crate::worker_counters!(carrier);

impl PhaseCgroupStats {
    /// Returns a scalar by its metric name; `None` if it was not measured.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).copied()
    }

    /// Returns a scalar that the test requires.
    ///
    /// # Panics
    /// Panics if the scalar was not measured. The message lists the scalars that were.
    #[track_caller]
    pub fn expect_metric(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(v) => v,
            None => panic!(
                "metric `{name}` was not measured for this cgroup and phase; measured: {:?}",
                self.metrics.keys().collect::<Vec<_>>()
            ),
        }
    }

    /// Returns the metrics of the benchmarks in this cgroup. Metrics that are computed from samples are included even if
    /// the samples have been dropped.
    pub(crate) fn bench_metrics(&self) -> BTreeMap<String, f64> {
        let known = super::bench::names();
        let own = self.metrics.iter();
        own.filter(|(name, _)| known.contains(name.as_str()))
            .map(|(name, value)| (name.clone(), *value))
            .collect()
    }

    /// Returns the statistics of the Taobench in this cgroup; `None` if it has none.
    pub fn taobench(&self) -> Option<TaobenchStats> {
        super::bench::taobench(&self.bench)
    }

    /// Counts the pages on `nodes` as local, and computes `metrics` again, which adds the page locality. If the samples
    /// have been stripped, `metrics` stays as it is.
    pub fn set_local_nodes(&mut self, nodes: &BTreeSet<usize>) {
        self.numa_pages_local = Some(self.pages_on(nodes));
        self.measure();
    }

    /// Returns the number of pages on these nodes.
    pub fn pages_on(&self, nodes: &BTreeSet<usize>) -> u64 {
        let on = self.numa_pages.iter().filter(|(n, _)| nodes.contains(n));
        on.fold(0, |sum: u64, (_, p)| sum.saturating_add(*p))
    }

    /// Computes `metrics` from the samples and counters. Does nothing if the samples have been stripped.
    pub fn measure(&mut self) {
        if !self.stripped {
            self.metrics = self.scalars();
        }
    }

    /// Drops the samples, and keeps the scalars that were computed from them.
    pub fn strip(&mut self) {
        self.measure();
        self.stripped = true;
        self.wake_latencies_ns = Vec::new();
        self.timer_latencies_ns = Vec::new();
        self.run_delays_ns = Vec::new();
        self.off_cpu_pcts = Vec::new();
        self.bench.values_mut().for_each(BenchTotals::strip);
    }

    /// Merges another part of the same cgroup and phase, as if its workers had been in `self`.
    ///
    /// If either part is stripped, the result is stripped, too: percentiles cannot be pooled, so the worse value of
    /// each scalar is kept. Scalars that come from counters are exact in any case.
    pub fn merge(&mut self, other: PhaseCgroupStats) {
        let stripped = self.stripped || other.stripped;
        if stripped {
            self.strip();
        }
        self.fold_counters_of(&other);
        if stripped {
            let mut theirs = other.clone();
            theirs.measure();
            crate::metric::merge_worst(&mut self.metrics, theirs.metrics);
        } else {
            self.wake_latencies_ns.extend(other.wake_latencies_ns);
            self.timer_latencies_ns.extend(other.timer_latencies_ns);
            self.run_delays_ns.extend(other.run_delays_ns);
            self.off_cpu_pcts.extend(other.off_cpu_pcts);
        }
        for (role, totals) in other.bench {
            let mine = self.bench.entry(role).or_default();
            mine.merge(totals);
            if stripped {
                mine.strip();
            }
        }
        self.num_workers = self.num_workers.saturating_add(other.num_workers);
        self.cpus_used.extend(other.cpus_used);
        for (mine, theirs) in [
            (&mut self.wake_sample_total, other.wake_sample_total),
            (&mut self.timer_sample_total, other.timer_sample_total),
            (&mut self.numa_pages_total, other.numa_pages_total),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        for (node, pages) in other.numa_pages {
            let sum = self.numa_pages.entry(node).or_default();
            *sum = sum.saturating_add(pages);
        }
        self.numa_pages_local = match (self.numa_pages_local, other.numa_pages_local) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        self.cross_node_migrated = self.cross_node_migrated.max(other.cross_node_migrated);
        if other.max_gap_ms > self.max_gap_ms {
            (self.max_gap_ms, self.max_gap_cpu) = (other.max_gap_ms, other.max_gap_cpu);
        }
        if stripped {
            let exact = self.counted();
            self.metrics.extend(exact);
        }
        self.measure();
    }
}
