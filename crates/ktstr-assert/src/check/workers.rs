//! The judgement of one cgroup's workers.

use super::{Assert, CgroupNodes};
use crate::math::{cv, min_max, percentile, ratio, sorted};
use crate::outcome::{AssertDetail, AssertResult, DetailKind};
use crate::stats::ScenarioStats;
use crate::worker::{WorkerReport, carrier, cgroup_stats};
use std::collections::BTreeSet;

/// The bound on gaps that `not_stuck` brings along, in milliseconds of guest time.
pub const DEFAULT_MAX_GAP_MS: u64 = 2000;
/// The bound on spread that `not_stuck` brings along, in percentage points: above what workers that
/// only compute come apart by within 2 s under sound schedulers, 33 where the load comes and goes.
pub const DEFAULT_MAX_SPREAD_PCT: f64 = 35.0;
/// Share of its time that a worker may sleep and still count as one that always wants to run. The
/// harness itself makes each wait a little, at its start and its end.
const MOST_ASLEEP_PCT: f64 = 10.0;

/// Why a worker without a report has none, to put behind a message.
fn excuse(w: &WorkerReport) -> String {
    match &w.exit_info {
        Some(why) => format!("; no report: {why:?}"),
        None => String::new(),
    }
}

impl Assert {
    /// Judges the workers of one cgroup and measures them. `cpuset` is what the cgroup was
    /// confined to, if it was.
    ///
    /// The result's statistics hold one cgroup without a name; who knows it fills it in.
    pub fn assert_cgroup(
        &self,
        reports: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
    ) -> AssertResult {
        self.assert_cgroup_with_numa(reports, cpuset, None)
    }

    /// The same, with the NUMA nodes the cgroup's pages are expected on.
    pub fn assert_cgroup_with_numa(
        &self,
        reports: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
        nodes: Option<&BTreeSet<usize>>,
    ) -> AssertResult {
        self.judge_cgroup(reports, cpuset, nodes, None)
    }

    /// The same with all that is known of the machine's nodes.
    pub fn assert_cgroup_on(
        &self,
        reports: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
        nodes: &CgroupNodes,
    ) -> AssertResult {
        self.judge_cgroup(
            reports,
            cpuset,
            Some(&nodes.expected),
            Some(&nodes.memory_only),
        )
    }

    fn judge_cgroup(
        &self,
        reports: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
        nodes: Option<&BTreeSet<usize>>,
        memory_only: Option<&BTreeSet<usize>>,
    ) -> AssertResult {
        let mut out = AssertResult {
            stats: ScenarioStats::from_cgroup(cgroup_stats("", reports)),
            ..AssertResult::default()
        };
        if !self.has_worker_checks() {
            return out;
        }
        if reports.is_empty() {
            out.record_skip(AssertDetail::new(
                DetailKind::Skip,
                "the cgroup had no workers",
            ));
            return out;
        }
        let on = self.not_stuck == Some(true);
        if on {
            self.judge_progress(reports, &mut out);
        }
        if let Some(bound) = self.max_gap_ms.or(on.then_some(DEFAULT_MAX_GAP_MS)) {
            judge_gaps(reports, bound, &mut out);
        }
        match self.max_spread_pct {
            Some(bound) => judge_spread(reports, bound, true, &mut out),
            None if on => judge_spread(reports, DEFAULT_MAX_SPREAD_PCT, false, &mut out),
            None => {}
        }
        if self.isolation == Some(true) {
            judge_isolation(reports, cpuset, &mut out);
        }
        self.judge_rates(reports, &mut out);
        self.judge_latencies(reports, &mut out);
        self.judge_migrations(reports, &mut out);
        self.judge_numa(&carrier(reports), nodes, memory_only, &mut out);
        out
    }

    fn judge_progress(&self, reports: &[WorkerReport], out: &mut AssertResult) {
        for w in reports.iter().filter(|w| w.work_units == 0) {
            let message = format!("tid {} made no progress (0 work units){}", w.tid, excuse(w));
            out.record_fail(AssertDetail::new(DetailKind::NoProgress, message));
        }
    }

    fn judge_rates(&self, reports: &[WorkerReport], out: &mut AssertResult) {
        let detail = |m: String| AssertDetail::new(DetailKind::Benchmark, m);
        if let Some(bound) = self.max_throughput_cv {
            let rates = reports
                .iter()
                .filter_map(|w| ratio(w.work_units, w.cpu_time_ns));
            match cv(rates.collect::<Vec<_>>()) {
                Some(cv) if cv > bound => {
                    out.record_fail(detail(format!(
                        "throughput varies too much: cv {cv:.3} of work units per CPU-second over {} workers (threshold {bound})",
                        reports.len()
                    )));
                }
                Some(_) => {}
                None => {
                    let m = "throughput cv cannot be told: no worker had CPU time and work";
                    out.record_inconclusive(detail(m.into()));
                }
            }
        }
        let mut floor = |what: &str, bound: Option<f64>, units: fn(&WorkerReport) -> u64| {
            let Some(bound) = bound else { return };
            for w in reports {
                match ratio(units(w), w.cpu_time_ns).map(|r| r * 1e9) {
                    Some(r) if r >= bound => {}
                    Some(r) => {
                        let m = format!("worker {} {what} {r:.1}/s below floor {bound}/s", w.tid);
                        out.record_fail(detail(m));
                    }
                    None => {
                        let m = format!(
                            "worker {} {what} cannot be told: no CPU time{}",
                            w.tid,
                            excuse(w)
                        );
                        out.record_inconclusive(detail(m));
                    }
                }
            }
        };
        floor("work rate", self.min_work_rate, |w| w.work_units);
        floor("iteration rate", self.min_iteration_rate, |w| w.iterations);
    }

    fn judge_latencies(&self, reports: &[WorkerReport], out: &mut AssertResult) {
        let pooled = || {
            reports
                .iter()
                .flat_map(|w| w.wake_latencies_ns.iter().copied())
        };
        let detail = |m: String| AssertDetail::new(DetailKind::Benchmark, m);
        if let Some(bound) = self.max_p99_wake_latency_ns {
            let samples = sorted(&pooled().collect::<Vec<_>>());
            match percentile(&samples, 0.99) {
                Some(p99) if p99 > bound => {
                    let n = samples.len();
                    let m = format!("p99 wake latency {p99}ns above {bound}ns ({n} samples)");
                    out.record_fail(detail(m).with_latency_gate(p99, bound));
                }
                Some(_) => {}
                None => {
                    let m = "p99 wake latency cannot be told: no wake-ups were sampled";
                    out.record_inconclusive(detail(m.into()));
                }
            }
        }
        if let Some(bound) = self.max_wake_latency_cv {
            match cv(pooled().map(|v| v as f64)) {
                Some(cv) if cv > bound => {
                    let m = format!("wake latency cv {cv:.3} above {bound}");
                    out.record_fail(detail(m));
                }
                Some(_) => {}
                None => {
                    let m = "wake latency cv cannot be told: no wake-ups were sampled";
                    out.record_inconclusive(detail(m.into()));
                }
            }
        }
    }

    fn judge_migrations(&self, reports: &[WorkerReport], out: &mut AssertResult) {
        let Some(bound) = self.max_migration_ratio else {
            return;
        };
        let sum = |f: fn(&WorkerReport) -> u64| reports.iter().map(f).fold(0, u64::saturating_add);
        let (moved, done) = (sum(|w| w.migration_count), sum(|w| w.iterations));
        let detail = |m: String| AssertDetail::new(DetailKind::Migration, m);
        match ratio(moved, done) {
            Some(r) if r > bound => {
                out.record_fail(detail(format!(
                    "migration ratio {r:.3} above {bound}: {moved} migrations in {done} iterations"
                )));
            }
            Some(_) => {}
            None => {
                out.record_inconclusive(detail(format!(
                    "migration ratio cannot be told: {moved} migrations in 0 iterations"
                )));
            }
        }
    }
}

/// A worker without a report has no gap to judge: that it made no progress is another check's word.
fn judge_gaps(reports: &[WorkerReport], bound: u64, out: &mut AssertResult) {
    let detail = |m: String| AssertDetail::new(DetailKind::Stuck, m);
    for w in reports {
        if w.exit_info.is_some() {
            let m = format!("tid {} gap cannot be told{}", w.tid, excuse(w));
            out.record_inconclusive(detail(m));
        } else if w.max_gap_ms > bound {
            out.record_fail(detail(format!(
                "tid {} stuck {}ms on cpu{} at +{}ms (threshold {bound}ms)",
                w.tid, w.max_gap_ms, w.max_gap_cpu, w.max_gap_at_ms
            )));
        }
    }
}

/// A spread needs two workers whose time was measured. Fewer are inconclusive only if the test
/// asked for the spread itself. Who only wakes others does other work than they, and is no
/// measure for them.
///
/// Where nobody asked, neither is who sleeps: how long a worker waits for its partner, a lock or a
/// timer differs from worker to worker under any scheduler.
fn judge_spread(reports: &[WorkerReport], bound: f64, asked: bool, out: &mut AssertResult) {
    let shares: Vec<f64> = reports
        .iter()
        .filter(|w| !w.is_messenger)
        .filter(|w| asked || w.asleep_pct().is_none_or(|pct| pct <= MOST_ASLEEP_PCT))
        .filter_map(WorkerReport::off_cpu_pct)
        .collect();
    let detail = |m: String| AssertDetail::new(DetailKind::Unfair, m);
    match min_max(shares.iter().copied()) {
        Some((lo, hi)) if shares.len() > 1 => {
            let cpus: BTreeSet<_> = reports.iter().flat_map(|w| &w.cpus_used).collect();
            if hi - lo > bound {
                out.record_fail(detail(format!(
                    "unfair cgroup: spread={:.0}% ({lo:.0}-{hi:.0}%) {} workers on {} cpus (threshold {bound:.0}%)",
                    hi - lo,
                    shares.len(),
                    cpus.len()
                )));
            }
        }
        _ if asked => {
            out.record_inconclusive(detail(format!(
                "spread cannot be told: {} of {} workers measured their off-CPU time, 2 are needed",
                shares.len(),
                reports.len()
            )));
        }
        _ => {}
    }
}

fn judge_isolation(
    reports: &[WorkerReport],
    cpuset: Option<&BTreeSet<usize>>,
    out: &mut AssertResult,
) {
    let detail = |m: String| AssertDetail::new(DetailKind::Isolation, m);
    // A cgroup without a cpuset may run anywhere.
    let Some(cpuset) = cpuset else { return };
    for w in reports {
        let outside: Vec<_> = w.cpus_used.difference(cpuset).collect();
        if !outside.is_empty() {
            let m = format!(
                "tid {} ran on cpus {outside:?} outside its cpuset {cpuset:?}",
                w.tid
            );
            out.record_fail(detail(m));
        } else if w.cpus_used.is_empty() {
            let m = format!(
                "tid {} isolation cannot be told: it was seen on no cpu{}",
                w.tid,
                excuse(w)
            );
            out.record_inconclusive(detail(m));
        }
    }
}
