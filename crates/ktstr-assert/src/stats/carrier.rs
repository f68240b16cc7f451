//! One cgroup in one phase: the carrier that brings the workers' samples to the host.

use super::bench::{BenchCarrier, BenchTotals, TaobenchStats};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the workers of one cgroup measured in one phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ktstr_macros::Claim)]
#[claim(crate = crate)]
#[serde(default)]
pub struct PhaseCgroupStats {
    /// Workers that were in the cgroup, dead ones included.
    pub num_workers: usize,
    /// CPUs they were seen on.
    pub cpus_used: BTreeSet<usize>,
    /// Wake-up latencies, in nanoseconds.
    pub wake_latencies_ns: Vec<u64>,
    /// How many wake-ups those are a sample of.
    pub wake_sample_total: u64,
    /// Timer latencies, in nanoseconds.
    pub timer_latencies_ns: Vec<u64>,
    /// How many timers those are a sample of.
    pub timer_sample_total: u64,
    /// Time spent runnable but waiting, one entry a worker that has schedstats, in nanoseconds.
    pub run_delays_ns: Vec<u64>,
    /// Off-CPU share in percent, one entry a worker whose time was measured.
    #[serde(with = "crate::float::list")]
    pub off_cpu_pcts: Vec<f64>,
    /// Changes of CPU.
    pub total_migrations: u64,
    /// Loop iterations of all workers together.
    pub total_iterations: u64,
    /// CPU time, in nanoseconds.
    pub total_cpu_time_ns: u64,
    /// Times that one of them was put on a CPU (`pcount` of schedstats); 0 where there are none.
    pub total_run_count: u64,
    /// The longest any of its workers was there, in nanoseconds.
    pub longest_life_ns: u64,
    /// Pages by NUMA node.
    pub numa_pages: BTreeMap<usize, u64>,
    /// Pages on the expected nodes; `None` until the expected nodes are known.
    pub numa_pages_local: Option<u64>,
    /// Pages on all nodes.
    pub numa_pages_total: u64,
    /// Pages the kernel moved between nodes.
    pub cross_node_migrated: u64,
    /// Longest gap between two iterations of one worker, in milliseconds.
    pub max_gap_ms: u64,
    /// The CPU that gap ended on.
    pub max_gap_cpu: usize,
    /// What the workers of benchmarks measured, by their roles.
    #[claim(skip)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bench: BenchCarrier,
    /// Whether the sample vectors were dropped to fit the transport; `metrics` is still whole.
    pub stripped: bool,
    /// The scalars that were measured, by metric name. Not measured is absent, never 0.
    #[serde(with = "crate::float::map")]
    pub metrics: BTreeMap<String, f64>,
}

impl PhaseCgroupStats {
    /// A scalar by its metric name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).copied()
    }

    /// A scalar the test cannot go on without.
    ///
    /// # Panics
    /// When it was not measured; the message lists what was.
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

    /// The metrics of its benchmarks, as they were measured before samples were dropped.
    pub(crate) fn bench_metrics(&self) -> BTreeMap<String, f64> {
        let known = super::bench::names();
        let own = self.metrics.iter();
        own.filter(|(name, _)| known.contains(name.as_str()))
            .map(|(name, value)| (name.clone(), *value))
            .collect()
    }

    /// What the Taobench of this cgroup did, if it has one.
    pub fn taobench(&self) -> Option<TaobenchStats> {
        super::bench::taobench(&self.bench)
    }

    /// One of the counters that add up over cgroups: `total_migrations`, `total_iterations`,
    /// `total_cpu_time_ns`. Any other name is `None`.
    pub fn cgroup_counter(&self, name: &str) -> Option<f64> {
        match name {
            "total_migrations" => Some(self.total_migrations as f64),
            "total_iterations" => Some(self.total_iterations as f64),
            "total_cpu_time_ns" => Some(self.total_cpu_time_ns as f64),
            _ => None,
        }
    }

    /// Counts the pages on `nodes` as local and measures page locality.
    pub fn set_local_nodes(&mut self, nodes: &BTreeSet<usize>) {
        self.numa_pages_local = Some(self.pages_on(nodes));
        self.measure();
    }

    /// The pages on these nodes.
    pub fn pages_on(&self, nodes: &BTreeSet<usize>) -> u64 {
        let on = self.numa_pages.iter().filter(|(n, _)| nodes.contains(n));
        on.fold(0, |sum: u64, (_, p)| sum.saturating_add(*p))
    }

    /// Fills `metrics` from the raw samples. Does nothing once they are stripped.
    pub fn measure(&mut self) {
        if !self.stripped {
            self.metrics = self.scalars();
        }
    }

    /// Drops the raw samples, keeping the scalars measured from them.
    pub fn strip(&mut self) {
        self.measure();
        self.stripped = true;
        self.wake_latencies_ns = Vec::new();
        self.timer_latencies_ns = Vec::new();
        self.run_delays_ns = Vec::new();
        self.off_cpu_pcts = Vec::new();
        self.bench.values_mut().for_each(BenchTotals::strip);
    }

    /// Takes over another part of the same cgroup and phase, as if its workers had been in `self`.
    ///
    /// When either part is stripped the percentiles cannot be pooled: of each scalar the worse of
    /// the two is kept.
    pub fn merge(&mut self, other: PhaseCgroupStats) {
        let stripped = self.stripped || other.stripped;
        if stripped {
            self.strip();
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
            (&mut self.total_migrations, other.total_migrations),
            (&mut self.total_iterations, other.total_iterations),
            (&mut self.total_cpu_time_ns, other.total_cpu_time_ns),
            (&mut self.total_run_count, other.total_run_count),
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
        self.longest_life_ns = self.longest_life_ns.max(other.longest_life_ns);
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
