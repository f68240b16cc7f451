//! The metrics of the benchmarks Schbench and Taobench and of rt-app workloads, computed from what their workers
//! measured in their roles.
//!
//! The latencies and rates of Schbench are named as in the report of schbench. A percentile is taken over the samples
//! of all workers of the role in a cgroup.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::math::{percentile, ratio, sorted, us};
use crate::worker::{BenchRole, BenchSlice, PhaseSlice};

/// What all workers of one role in a cgroup measured together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BenchTotals {
    /// The number of workers of the role.
    pub workers: u64,
    /// The samples of all workers; [`BenchRole`] describes what they are.
    pub samples: Vec<u64>,
    /// The wakeup latencies of all workers, in nanoseconds.
    pub wakes_ns: Vec<u64>,
    /// The iterations of all workers.
    pub iterations: u64,
    /// The look-ups that found their key, or the periods that were missed; see [`BenchSlice::hits`].
    pub hits: u64,
    /// The CPU time of all workers, in nanoseconds.
    pub cpu_ns: u64,
    /// The longest time that one of the workers existed, in nanoseconds of guest time.
    pub wall_ns: u64,
    /// The time that the workers spent runnable but waiting, in nanoseconds.
    pub run_delay_ns: u64,
    /// The number of times that the workers were put on a CPU, all workers together.
    pub run_count: u64,
}

impl BenchTotals {
    /// Returns what one worker measured in its role.
    pub(super) fn of_worker(slice: &PhaseSlice, bench: &BenchSlice) -> Self {
        Self {
            workers: 1,
            samples: bench.samples.clone(),
            wakes_ns: slice.wake_latencies_ns.clone(),
            iterations: slice.iterations,
            hits: bench.hits,
            cpu_ns: slice.cpu_time_ns,
            wall_ns: slice.wall_time_ns,
            run_delay_ns: slice.schedstat_run_delay_ns,
            run_count: slice.schedstat_run_count,
        }
    }

    /// Adds the totals of other workers of the role.
    pub(super) fn merge(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.wakes_ns.extend(other.wakes_ns);
        for (mine, theirs) in [
            (&mut self.workers, other.workers),
            (&mut self.iterations, other.iterations),
            (&mut self.hits, other.hits),
            (&mut self.cpu_ns, other.cpu_ns),
            (&mut self.run_delay_ns, other.run_delay_ns),
            (&mut self.run_count, other.run_count),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.wall_ns = self.wall_ns.max(other.wall_ns);
    }

    /// Drops the samples, and keeps the counters.
    pub(super) fn strip(&mut self) {
        self.samples = Vec::new();
        self.wakes_ns = Vec::new();
    }

    /// Returns the number of samples and wakeup latencies that are kept.
    pub fn kept(&self) -> usize {
        self.samples.len() + self.wakes_ns.len()
    }

    fn cpu_sec(&self) -> f64 {
        self.cpu_ns as f64 / 1e9
    }
}

/// What the benchmark workers of a cgroup measured, by role.
pub type BenchCarrier = BTreeMap<BenchRole, BenchTotals>;

/// The operations of the Taobench in a cgroup; see [`PhaseCgroupStats::taobench`](crate::PhaseCgroupStats::taobench).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaobenchStats {
    /// The number of look-ups that the clients did.
    pub get_cmds: u64,
    /// The number of look-ups that did not find their key.
    pub get_misses: u64,
    /// The number of look-ups that found their key in the cache.
    pub fast_ops: u64,
    /// The number of look-ups that are left to the slow workers, which is the number of misses.
    pub slow_ops: u64,
    /// The longest time that one of the clients existed, in nanoseconds of guest time.
    pub elapsed_ns: u64,
    /// The CPU time of clients and slow workers, in nanoseconds.
    pub cpu_time_ns: u64,
}

/// Returns what the clients and slow workers of a cgroup did; `None` if it has no clients.
pub(super) fn taobench(carrier: &BenchCarrier) -> Option<TaobenchStats> {
    let clients = carrier.get(&BenchRole::TaobenchClient)?;
    let slow = carrier.get(&BenchRole::TaobenchSlow);
    let misses = clients.iterations.saturating_sub(clients.hits);
    Some(TaobenchStats {
        get_cmds: clients.iterations,
        get_misses: misses,
        fast_ops: clients.hits,
        slow_ops: misses,
        elapsed_ns: clients.wall_ns,
        cpu_time_ns: clients
            .cpu_ns
            .saturating_add(slow.map_or(0, |slow| slow.cpu_ns)),
    })
}

/// The percentiles of latencies that are metrics: for each, the part of the metric's name that stands for it, and its value
/// as a fraction.
const LATENCIES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p999", 0.999),
    ("min", 0.0),
    ("max", 1.0),
];
/// The percentiles of request rates that are metrics.
const RATES: [(&str, f64); 5] = [
    ("p20", 0.2),
    ("p50", 0.5),
    ("p90", 0.9),
    ("min", 0.0),
    ("max", 1.0),
];

/// The percentiles of slacks that are metrics. They are low percentiles, because a period with a small slack was nearly
/// missed.
const SLACKS: [(&str, f64); 3] = [("min", 0.0), ("p10", 0.1), ("p50", 0.5)];

type Metrics = BTreeMap<String, f64>;

/// Inserts the percentiles `which` of `values`, converted by `of`. `name` turns the name of a percentile into the name of
/// its metric.
fn put(
    out: &mut Metrics,
    values: &[u64],
    which: &[(&str, f64)],
    of: fn(u64) -> f64,
    name: impl Fn(&str) -> String,
) {
    let values = sorted(values);
    for (percent, at) in which {
        if let Some(value) = percentile(&values, *at) {
            out.insert(name(percent), of(value));
        }
    }
}

/// Returns the percentiles of a cgroup, with `suffix` at the end of each name.
fn distributions(carrier: &BenchCarrier, suffix: &str) -> Metrics {
    let mut out = Metrics::new();
    if let Some(workers) = carrier.get(&BenchRole::SchbenchWorker) {
        put(&mut out, &workers.wakes_ns, &LATENCIES, us, |p| {
            format!("wakeup_{p}_latency_us{suffix}")
        });
        put(&mut out, &workers.samples, &LATENCIES, us, |p| {
            format!("request_{p}_latency_us{suffix}")
        });
    }
    if let Some(messengers) = carrier.get(&BenchRole::SchbenchMessenger) {
        put(
            &mut out,
            &messengers.samples,
            &RATES,
            |n| n as f64,
            |p| format!("rps_{p}{suffix}"),
        );
    }
    if let Some(clients) = carrier.get(&BenchRole::TaobenchClient) {
        put(&mut out, &clients.samples, &LATENCIES, us, |p| {
            format!("taobench_serve_{p}_us{suffix}")
        });
    }
    if let Some(threads) = carrier.get(&BenchRole::RtAppThread) {
        put(&mut out, &threads.samples, &SLACKS, us, |p| {
            format!("rt_app_slack_{p}_us{suffix}")
        });
    }
    out
}

/// Returns those metrics of a cgroup in a phase that come from counters. They are exact even if samples were dropped.
pub(super) fn counted(carrier: &BenchCarrier) -> Metrics {
    let mut found: Vec<(&str, Option<f64>)> = Vec::new();
    let delay = |of: &BenchTotals| ratio(of.run_delay_ns, of.run_count).map(|ns| ns / 1e3);
    if let Some(messengers) = carrier.get(&BenchRole::SchbenchMessenger) {
        found.push(("sched_delay_msg_us", delay(messengers)));
    }
    if let Some(workers) = carrier.get(&BenchRole::SchbenchWorker) {
        found.extend([
            ("sched_delay_worker_us", delay(workers)),
            ("schbench_loop_count", Some(workers.iterations as f64)),
            (
                "schbench_loops_per_cpu_sec",
                ratio(workers.iterations, workers.cpu_ns).map(|r| r * 1e9),
            ),
        ]);
    }
    if let Some(tao) = taobench(carrier) {
        let per_sec = |ops| ratio(ops, tao.cpu_time_ns).map(|r| r * 1e9);
        let hits = ratio(tao.fast_ops, tao.get_cmds);
        found.extend([
            ("taobench_total_ops_per_cpu_sec", per_sec(tao.get_cmds)),
            ("taobench_fast_ops_per_cpu_sec", per_sec(tao.fast_ops)),
            ("taobench_slow_ops_per_cpu_sec", per_sec(tao.slow_ops)),
            ("taobench_hit_ratio", hits),
            ("taobench_hit_rate", hits),
        ]);
    }
    if let Some(threads) = carrier.get(&BenchRole::RtAppThread) {
        found.push(("rt_app_missed_periods", Some(threads.hits as f64)));
    }
    let found = found.into_iter();
    found
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// Returns the names of all metrics that a benchmark can have in a phase.
pub(crate) fn names() -> BTreeSet<String> {
    of_phase(&full()).into_keys().collect()
}

/// Returns the names of all metrics that a benchmark has over the whole run but not in a phase. The rates that are computed from
/// these metrics are not included.
pub(crate) fn run_names() -> BTreeSet<String> {
    of_run(&full()).into_keys().collect()
}

/// Returns invented totals for every role, none of them 0 or empty, so that every metric can be computed from them.
fn full() -> BenchCarrier {
    let full = BenchTotals {
        workers: 1,
        samples: vec![1],
        wakes_ns: vec![1],
        iterations: 1,
        hits: 1,
        cpu_ns: 1,
        wall_ns: 1,
        run_delay_ns: 1,
        run_count: 1,
    };
    let all = BenchRole::ALL.into_iter();
    all.map(|role| (role, full.clone())).collect()
}

/// Returns all metrics of a cgroup in a phase.
pub(super) fn of_phase(carrier: &BenchCarrier) -> Metrics {
    let mut out = distributions(carrier, "");
    out.extend(counted(carrier));
    out
}

/// Returns the metrics of a cgroup over the run: its percentiles and its counters. The rates of the registry are computed
/// from these counters.
pub(super) fn of_run(carrier: &BenchCarrier) -> Metrics {
    let mut out = distributions(carrier, "_whole");
    let mut count = |name: String, value: f64| {
        out.insert(name, value);
    };
    for (role, short) in [
        (BenchRole::SchbenchMessenger, "msg"),
        (BenchRole::SchbenchWorker, "worker"),
    ] {
        if let Some(of) = carrier.get(&role) {
            count(
                format!("total_schbench_{short}_run_delay_ns"),
                of.run_delay_ns as f64,
            );
            count(
                format!("total_schbench_{short}_pcount"),
                of.run_count as f64,
            );
        }
    }
    if let Some(workers) = carrier.get(&BenchRole::SchbenchWorker) {
        count("total_schbench_loops".into(), workers.iterations as f64);
        count("total_schbench_worker_cpu_sec".into(), workers.cpu_sec());
    }
    if let Some(tao) = taobench(carrier) {
        for (name, value) in [
            ("ops", tao.get_cmds as f64),
            ("fast_ops", tao.fast_ops as f64),
            ("slow_ops", tao.slow_ops as f64),
            ("get_cmds", tao.get_cmds as f64),
            ("get_hits", tao.fast_ops as f64),
            ("wall_sec", tao.elapsed_ns as f64 / 1e9),
            ("cpu_sec", tao.cpu_time_ns as f64 / 1e9),
        ] {
            count(format!("total_taobench_{name}"), value);
        }
    }
    if let Some(threads) = carrier.get(&BenchRole::RtAppThread) {
        count("total_rt_app_missed_periods".into(), threads.hits as f64);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::MetricId;
    use crate::stats::{CgroupStats, ScenarioStats};
    use crate::worker::{WorkerReport, carrier};

    fn worker(role: BenchRole, samples: &[u64], iterations: u64, hits: u64) -> WorkerReport {
        WorkerReport {
            iterations,
            cpu_time_ns: 500_000_000,
            wall_time_ns: 2_000_000_000,
            schedstat_run_delay_ns: 40_000,
            schedstat_run_count: 10,
            wake_latencies_ns: vec![1_000, 2_000, 9_000],
            bench: Some(BenchSlice {
                role,
                samples: samples.to_vec(),
                sample_total: samples.len() as u64,
                hits,
            }),
            ..WorkerReport::default()
        }
    }

    fn schbench() -> Vec<WorkerReport> {
        vec![
            worker(BenchRole::SchbenchMessenger, &[100, 120, 140, 160], 40, 0),
            worker(BenchRole::SchbenchWorker, &[10_000, 20_000], 30, 0),
            worker(BenchRole::SchbenchWorker, &[40_000], 10, 0),
            // Workers of another work type in the same cgroup must not count.
            WorkerReport {
                wake_latencies_ns: vec![1_000_000],
                iterations: 1000,
                ..WorkerReport::default()
            },
        ]
    }

    #[test]
    fn schbench_has_its_percentiles_and_rates() {
        let carrier = carrier(&schbench());
        for (name, value) in [
            ("wakeup_p50_latency_us", 2.0),
            ("wakeup_max_latency_us", 9.0),
            ("request_min_latency_us", 10.0),
            ("request_p90_latency_us", 40.0),
            ("rps_p20", 100.0),
            ("rps_max", 160.0),
            ("sched_delay_msg_us", 4.0),
            ("sched_delay_worker_us", 4.0),
            ("schbench_loop_count", 40.0),
            ("schbench_loops_per_cpu_sec", 40.0),
        ] {
            assert_eq!(carrier.get(name), Some(value), "{name}");
        }
        assert_eq!(carrier.get("taobench_hit_ratio"), None);
    }

    #[test]
    fn the_run_adds_counters_up_and_takes_the_worst_distribution() {
        let mut stats = ScenarioStats::from_cgroup(crate::worker::cgroup_stats("a", &schbench()));
        stats.merge(ScenarioStats::from_cgroup(crate::worker::cgroup_stats(
            "b",
            &[worker(BenchRole::SchbenchWorker, &[70_000], 5, 0)],
        )));
        for (name, value) in [
            ("total_schbench_loops", 45.0),
            ("total_schbench_worker_cpu_sec", 1.5),
            ("schbench_total_loops_per_cpu_sec", 30.0),
            ("schbench_worker_run_delay_ns_per_sched", 4000.0),
            ("request_p50_latency_us_whole", 70.0),
            ("rps_p50_whole", 120.0),
        ] {
            assert_eq!(stats.run_metric(name), Some(value), "{name}");
        }
        assert_eq!(stats.run_metric("taobench_hit_fraction"), None);
    }

    #[test]
    fn taobench_counts_hits_and_misses() {
        let reports = [
            worker(BenchRole::TaobenchClient, &[5_000], 100, 90),
            worker(BenchRole::TaobenchSlow, &[], 10, 0),
        ];
        let all = carrier(&reports);
        let tao = taobench(&all.bench).expect("it has clients");
        assert_eq!((tao.get_cmds, tao.get_misses, tao.slow_ops), (100, 10, 10));
        assert_eq!(all.get("taobench_hit_ratio"), Some(0.9));
        assert_eq!(all.get("taobench_total_ops_per_cpu_sec"), Some(100.0));
        assert_eq!(all.get("taobench_serve_p99_us"), Some(5.0));
        let stats = ScenarioStats::from_cgroup(CgroupStats::from_carrier("a", &all));
        assert_eq!(stats.run_metric("taobench_hit_fraction"), Some(0.9));
        assert_eq!(
            stats.run_metric("taobench_slow_ops_per_cpu_sec_whole"),
            Some(10.0)
        );
        assert_eq!(stats.run_metric("total_taobench_wall_sec"), Some(2.0));
    }

    #[test]
    fn parts_are_pooled_and_counters_survive_stripping() {
        let all = schbench();
        let (one, other) = all.split_at(2);
        let mut merged = carrier(one);
        merged.merge(carrier(other));
        assert_eq!(merged, carrier(&all));
        let (mut one, mut other) = (carrier(one), carrier(other));
        one.strip();
        other.strip();
        one.merge(other);
        assert_eq!(one.get("schbench_loop_count"), Some(40.0));
        assert_eq!(
            one.get("request_p90_latency_us"),
            Some(40.0),
            "the worse of both"
        );
    }

    #[test]
    fn every_metric_is_in_the_registry() {
        let mut all = schbench();
        all.push(worker(BenchRole::TaobenchClient, &[5_000], 100, 90));
        all.push(worker(BenchRole::TaobenchSlow, &[], 10, 0));
        let bench = carrier(&all).bench;
        for name in of_phase(&bench).keys().chain(of_run(&bench).keys()) {
            assert!(
                matches!(MetricId::from(name.as_str()), MetricId::Builtin(_)),
                "{name}"
            );
        }
    }
}
