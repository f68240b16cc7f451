//! The carrier of one cgroup in one phase, which transports the workers' samples to the host.

use super::bench::{BenchCarrier, BenchTotals, TaobenchStats};
use crate::math;
use crate::metric::BuiltinMetric;
use crate::worker::{BenchRole, BenchSlice, PhaseSlice};
use crate::worker_samples;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

// Generates the struct, which has a field for each total of the workers' counters and for each kind of sample, and the code that
// reads or folds all of these fields.
macro_rules! carrier {
    (samples { $($(#[$values_doc:meta])* $_sample:ident $values:ident { $(#[$taken_doc:meta])* $taken:ident };)* }
     $($(#[$_doc:meta])* $_kind:ident $name:ident
       $({ #[$doc:meta] $fold:ident $total:ident $($metric:ident)? })?;)*) => {
        /// What the workers of one cgroup measured in one phase.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
        #[claim(crate = crate)]
        #[serde(default)]
        pub struct PhaseCgroupStats {
            /// The number of workers that were in the cgroup, dead ones included.
            pub num_workers: usize,
            /// The number of workers that ended before they measured their CPU time. Their work counts, but their CPU time is
            /// missing from the totals, and they have no off-CPU share and no run delay.
            #[serde(skip_serializing_if = "crate::math::is_zero")]
            pub unmeasured: usize,
            /// The CPUs on which the workers were seen.
            pub cpus_used: BTreeSet<usize>,
            $($(#[$values_doc])* pub $values: Vec<u64>, $(#[$taken_doc])* pub $taken: u64,)*
            /// The time that each worker was runnable but waiting, in nanoseconds. Workers without schedstats are left out.
            pub run_delays_ns: Vec<u64>,
            /// The off-CPU share of each worker whose time was measured, in percent.
            #[serde(with = "crate::float::list")]
            pub off_cpu_pcts: Vec<f64>,
            $($(#[$doc] pub $total: u64,)?)*
            /// The number of pages on each NUMA node that the workers allocated.
            pub numa_pages: BTreeMap<usize, u64>,
            /// The number of pages on the expected nodes; `None` until [`PhaseCgroupStats::set_local_nodes`] names these.
            pub numa_pages_local: Option<u64>,
            /// The number of pages on all nodes that the workers allocated.
            pub numa_pages_total: u64,
            /// The number of all private pages of the workers, including those with which they were forked.
            pub pages_held: u64,
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
            /// Whether the sample vectors were dropped, so that the result fits into the guest's mailbox to the host.
            /// `metrics` is complete nevertheless.
            pub stripped: bool,
            /// The scalars that were measured, by metric name. A scalar that was not measured is absent, never 0.
            #[serde(with = "crate::float::map")]
            pub metrics: BTreeMap<String, f64>,
        }

        impl PhaseCgroupStats {
            /// Returns a counter of the workers by its metric name, such as `total_iterations`. `None` for any other name, and
            /// for the CPU time if that of a worker is unknown.
            pub fn cgroup_counter(&self, name: &str) -> Option<f64> {
                let metric = BuiltinMetric::from_wire_name(name)?;
                if metric == BuiltinMetric::TotalCpuTimeNs && self.unmeasured > 0 {
                    return None;
                }
                Some(self.total(metric)? as f64)
            }

            /// Returns the total of the workers' counter that `metric` stands for; `None` if it stands for no such counter.
            pub(super) fn total(&self, metric: BuiltinMetric) -> Option<u64> {
                match metric {
                    $($($(BuiltinMetric::$metric => Some(self.$total),)?)?)*
                    _ => None,
                }
            }

            /// Returns the carrier of one worker, without its metrics.
            fn of_worker(worker: &PhaseSlice) -> Self {
                let known = !worker.cpu_unknown;
                let off_cpu = math::ratio(worker.off_cpu_ns, worker.wall_time_ns).filter(|_| known);
                let has_schedstats = known && worker.has_schedstats();
                // A benchmark has rates per CPU-second, for which the CPU time must be known; rt-app has no such rates.
                let is_measured = |own: &&BenchSlice| known || own.role == BenchRole::RtAppThread;
                let bench = worker.bench.iter().filter(is_measured);
                let allocated = worker.numa_pages.values().copied().fold(0, math::sum);
                Self {
                    num_workers: 1,
                    unmeasured: usize::from(!known),
                    cpus_used: worker.cpus_used.clone(),
                    $($values: worker.$values.clone(), $taken: worker.$taken,)*
                    run_delays_ns: has_schedstats.then_some(worker.schedstat_run_delay_ns).into_iter().collect(),
                    off_cpu_pcts: off_cpu.map(|share| share * 100.0).into_iter().collect(),
                    $($($total: worker.$name,)?)*
                    numa_pages: worker.numa_pages.clone(),
                    numa_pages_total: allocated,
                    // Reports of older versions have only one of the two.
                    pages_held: worker.pages_held.max(allocated),
                    cross_node_migrated: worker.vmstat_numa_pages_migrated,
                    max_gap_ms: worker.max_gap_ms,
                    max_gap_cpu: worker.max_gap_cpu,
                    bench: bench.map(|own| (own.role, BenchTotals::of_worker(worker, own))).collect(),
                    ..Self::default()
                }
            }

            /// Adds the samples and counters of other workers of the cgroup.
            fn fold(&mut self, other: PhaseCgroupStats) {
                $(
                    self.$values.extend(other.$values);
                    self.$taken = math::sum(self.$taken, other.$taken);
                )*
                $($(self.$total = math::$fold(self.$total, other.$total);)?)*
                self.num_workers = self.num_workers.saturating_add(other.num_workers);
                self.unmeasured = self.unmeasured.saturating_add(other.unmeasured);
                self.cpus_used.extend(other.cpus_used);
                self.run_delays_ns.extend(other.run_delays_ns);
                self.off_cpu_pcts.extend(other.off_cpu_pcts);
                for (node, pages) in other.numa_pages {
                    let sum = self.numa_pages.entry(node).or_default();
                    *sum = math::sum(*sum, pages);
                }
                self.numa_pages_total = math::sum(self.numa_pages_total, other.numa_pages_total);
                self.pages_held = math::sum(self.pages_held, other.pages_held);
                self.numa_pages_local = match (self.numa_pages_local, other.numa_pages_local) {
                    (Some(a), Some(b)) => Some(math::sum(a, b)),
                    (a, b) => a.or(b),
                };
                // The counter covers the whole machine, so all workers of a cgroup saw the same pages move.
                self.cross_node_migrated = self.cross_node_migrated.max(other.cross_node_migrated);
                if other.max_gap_ms > self.max_gap_ms {
                    (self.max_gap_ms, self.max_gap_cpu) = (other.max_gap_ms, other.max_gap_cpu);
                }
                for (role, totals) in other.bench {
                    self.bench.entry(role).or_default().merge(totals);
                }
            }

            /// Returns the number of samples that are kept, of all kinds.
            pub fn kept(&self) -> usize {
                let bench = self.bench.values().map(BenchTotals::kept).sum::<usize>();
                $(self.$values.len() +)* self.run_delays_ns.len() + self.off_cpu_pcts.len() + bench
            }

            /// Drops the samples, and keeps the scalars that were computed from them.
            pub fn strip(&mut self) {
                self.measure();
                self.stripped = true;
                $(self.$values = Vec::new();)*
                self.run_delays_ns = Vec::new();
                self.off_cpu_pcts = Vec::new();
                self.bench.values_mut().for_each(BenchTotals::strip);
            }
        }
    };
}
crate::worker_counters!(worker_samples carrier);

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

    /// Adds what one worker measured in the phase. Call [`PhaseCgroupStats::measure`] after the last worker.
    pub fn add(&mut self, worker: &PhaseSlice) {
        self.fold(Self::of_worker(worker));
    }

    /// Merges another part of the same cgroup and phase, as if its workers had been in `self`.
    ///
    /// If either part is stripped, the result is stripped, too: percentiles cannot be pooled, so the worse value of
    /// each scalar is kept. Scalars that come from counters are exact in any case.
    pub fn merge(&mut self, mut other: PhaseCgroupStats) {
        let stripped = self.stripped || other.stripped;
        if stripped {
            self.strip();
            other.strip();
            crate::metric::merge_worst(&mut self.metrics, std::mem::take(&mut other.metrics));
        }
        self.fold(other);
        if stripped {
            let exact = self.counted();
            self.metrics.extend(exact);
        }
        self.measure();
    }
}
