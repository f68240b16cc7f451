//! Judges the workers of one cgroup.

use super::{Assert, CgroupNodes};
use crate::math::{cv, min_max, percentile, ratio, sorted};
use crate::outcome::finding::NoReport;
use crate::outcome::{AssertDetail, AssertResult, DetailKind, Finding};
use crate::stats::{CgroupStats, ScenarioStats};
use crate::worker::{WorkerExitInfo, WorkerReport, carrier};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The bound on gaps that `not_stuck` implies, in milliseconds of guest time.
pub const DEFAULT_MAX_GAP_MS: u64 = 2000;
/// The bound on spread that `not_stuck` implies, in percentage points. In runs of 2 s under correct schedulers, with a load
/// that comes and goes, the off-CPU shares of workers that only compute differed by at most 33 points. The bound is a little
/// above this value.
pub const DEFAULT_MAX_SPREAD_PCT: f64 = 35.0;
/// How long a worker must have lived for [`DEFAULT_MAX_SPREAD_PCT`] to apply, in nanoseconds. Tasks are distributed
/// over the CPUs gradually: with eight workers on four CPUs, three workers may share a CPU for the first tenths of a
/// second, under any scheduler.
const SHORTEST_LIFE_NS: u64 = 1_000_000_000;
/// The largest share of its time for which a worker may sleep and still count as always runnable, in percent. The
/// harness itself makes each worker wait a little, at its start and at its end.
const MOST_ASLEEP_PCT: f64 = 10.0;

/// Creates the detail for a check of a worker whose report lacks the data.
pub(super) fn not_measured(
    kind: DetailKind,
    what: String,
    why: &str,
    w: &WorkerReport,
) -> AssertDetail {
    let why = format!("{why}{}", NoReport(&w.exit_info));
    AssertDetail::of(Finding::NotMeasured { kind, what, why })
}

/// Creates the detail for a check of something that the workers of a cgroup never did, although their reports are complete.
fn nothing(kind: DetailKind, what: &str, why: String) -> AssertDetail {
    let what = what.to_owned();
    AssertDetail::of(Finding::NothingToMeasure { kind, what, why })
}

/// Whether a worker lacked a resource for its work, so that it did none.
pub(super) fn lacks(w: &WorkerReport) -> bool {
    matches!(w.exit_info, Some(WorkerExitInfo::WaitFailed(_)))
}

/// Creates the detail for a check of a cgroup whose workers lack the data.
fn unknown(kind: DetailKind, what: &str, why: String) -> AssertDetail {
    let what = what.to_owned();
    AssertDetail::of(Finding::NotMeasured { kind, what, why })
}

impl Assert {
    /// Judges and measures the workers of one cgroup. `cpuset` contains the CPUs of the cgroup's cpuset; `None` if the
    /// cgroup has no cpuset.
    ///
    /// The statistics in the result contain one cgroup without a name. The caller has to fill in the name.
    pub fn assert_cgroup(
        &self,
        reports: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
    ) -> AssertResult {
        self.assert_cgroup_with_numa(reports, cpuset, None)
    }

    /// The same as [`Self::assert_cgroup`], with the NUMA nodes on which the cgroup's pages are expected.
    pub fn assert_cgroup_with_numa(
        &self,
        reports: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
        nodes: Option<&BTreeSet<usize>>,
    ) -> AssertResult {
        self.judge_cgroup(reports, reports, cpuset, nodes, None)
    }

    /// The same as [`Self::assert_cgroup`], with the expected and the memory-only NUMA nodes, if they are known, for callers that
    /// report by themselves which workers lacked a resource for their work. Such workers are not judged, so that they are not
    /// reported a second time, as workers whose gaps, rates and CPUs are unknown.
    pub fn assert_cgroup_on(
        &self,
        reports: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
        nodes: Option<&CgroupNodes>,
    ) -> AssertResult {
        let judged: Cow<'_, [WorkerReport]> = match reports.iter().any(lacks) {
            true => reports.iter().filter(|w| !lacks(w)).cloned().collect(),
            false => reports.into(),
        };
        let (expected, memory_only) = nodes
            .map(|nodes| (&nodes.expected, &nodes.memory_only))
            .unzip();
        self.judge_cgroup(reports, &judged, cpuset, expected, memory_only)
    }

    /// Measures all workers of one cgroup, and judges those in `judged`.
    fn judge_cgroup(
        &self,
        all: &[WorkerReport],
        judged: &[WorkerReport],
        cpuset: Option<&BTreeSet<usize>>,
        nodes: Option<&BTreeSet<usize>>,
        memory_only: Option<&BTreeSet<usize>>,
    ) -> AssertResult {
        let mut carrier = carrier(all);
        if let Some(nodes) = nodes.filter(|_| !carrier.numa_pages.is_empty()) {
            carrier.set_local_nodes(nodes);
        }
        let mut out = AssertResult {
            stats: ScenarioStats::from_cgroup(CgroupStats::from_carrier("", &carrier)),
            ..AssertResult::default()
        };
        if !self.has_worker_checks() {
            return out;
        }
        if all.is_empty() {
            out.record_skip(AssertDetail::new(
                DetailKind::Skip,
                "the cgroup had no workers",
            ));
            return out;
        }
        if judged.is_empty() {
            return out;
        }
        let on = self.not_stuck == Some(true);
        if on {
            self.judge_progress(judged, &mut out);
        }
        if let Some(bound) = self.max_gap_ms.or(on.then_some(DEFAULT_MAX_GAP_MS)) {
            judge_gaps(judged, bound, &mut out);
        }
        match self.max_spread_pct {
            // A spread is at most 100 points, so a bound of 100 or more turns the check off.
            Some(bound) if bound >= 100.0 => {}
            Some(bound) => judge_spread(judged, bound, true, &mut out),
            None if on => judge_spread(judged, DEFAULT_MAX_SPREAD_PCT, false, &mut out),
            None => {}
        }
        if self.isolation == Some(true) {
            judge_isolation(judged, cpuset, &mut out);
        }
        self.judge_rates(judged, &mut out);
        self.judge_latencies(judged, &mut out);
        self.judge_migrations(judged, &mut out);
        self.judge_numa(&carrier, nodes.is_some(), memory_only, &mut out);
        out
    }

    fn judge_progress(&self, reports: &[WorkerReport], out: &mut AssertResult) {
        // A worker that lacks a resource for its work did not fail because of the scheduler.
        // A worker that only wakes others is not idle: it completes iterations, but no units of work.
        let idle = |w: &&WorkerReport| w.work_units == 0 && w.iterations == 0;
        for w in reports.iter().filter(idle).filter(|w| !lacks(w)) {
            out.record_fail(AssertDetail::of(Finding::NoProgress {
                tid: w.tid,
                exit: w.exit_info.clone(),
            }));
        }
    }

    fn judge_rates(&self, reports: &[WorkerReport], out: &mut AssertResult) {
        // A messenger only wakes other workers. Its work is of another kind, so its rates are not judged.
        let workers = || reports.iter().filter(|w| !w.is_messenger);
        // A rate per CPU-second would be too high if a part of the CPU time were missing.
        let per_cpu_ns =
            |w: &WorkerReport, units: u64| ratio(units, w.cpu_time_ns).filter(|_| !w.cpu_unknown);
        if let Some(bound) = self.max_throughput_cv {
            // Workers of different specifications may do different work, whose units cannot be compared.
            let mut alike: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for w in workers() {
                let rate = per_cpu_ns(w, w.work_units);
                alike.entry(w.group_idx).or_default().extend(rate);
            }
            // A worker that lacked a resource is not expected to have a rate: the step reports what it lacked.
            let measured: usize = alike.values().map(Vec::len).sum();
            let all = workers().filter(|w| !lacks(w)).count();
            match alike.into_values().filter_map(cv).max_by(f64::total_cmp) {
                Some(cv) if cv > bound => {
                    let workers = measured;
                    out.record_fail(AssertDetail::of(Finding::Throughput { cv, workers, bound }));
                }
                // Some workers have no rate, because they got no CPU time or their CPU time is unknown.
                Some(_) if measured < all => {
                    let why = format!(": the CPU time of {measured} of {all} workers is known");
                    out.record_inconclusive(unknown(DetailKind::Benchmark, "throughput cv", why));
                }
                Some(_) => {}
                None => {
                    let why = ": the CPU time and the work of no worker are known".to_owned();
                    out.record_inconclusive(unknown(DetailKind::Benchmark, "throughput cv", why));
                }
            }
        }
        let mut floor = |what: &str, bound: Option<f64>, units: fn(&WorkerReport) -> u64| {
            let Some(floor) = bound else { return };
            for w in workers() {
                match per_cpu_ns(w, units(w)).map(|r| r * 1e9) {
                    Some(r) if r >= floor => {}
                    // The work after the last checkpoint is missing, so the rate of the worker may be higher.
                    Some(_) if w.exit_info.is_some() => {
                        let what = format!("worker {} {what}", w.tid);
                        let kind = DetailKind::Benchmark;
                        out.record_inconclusive(not_measured(kind, what, "", w));
                    }
                    Some(per_second) => {
                        out.record_fail(AssertDetail::of(Finding::SlowWorker {
                            tid: w.tid,
                            rate: what.to_owned(),
                            per_second,
                            floor,
                        }));
                    }
                    None => {
                        let what = format!("worker {} {what}", w.tid);
                        let kind = DetailKind::Benchmark;
                        out.record_inconclusive(not_measured(kind, what, ": no CPU time", w));
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
        // A worker that never got to the end of a first wait has no samples either, and then nothing shows whether its work has
        // wake-ups.
        let worked = |w: &WorkerReport| w.exit_info.is_none() && w.iterations > 1;
        let none = |what: &str| {
            if reports.iter().all(worked) {
                let why = "the work measures no wake-ups; choose a work type that sleeps, or leave this bound out".to_owned();
                return nothing(DetailKind::Benchmark, what, why);
            }
            let why = ": no wake-ups were sampled".to_owned();
            unknown(DetailKind::Benchmark, what, why)
        };
        if let Some(bound_ns) = self.max_p99_wake_latency_ns {
            let samples = sorted(&pooled().collect::<Vec<_>>());
            match percentile(&samples, 0.99) {
                Some(p99_ns) if p99_ns > bound_ns => {
                    let detail = AssertDetail::of(Finding::WakeLatency {
                        p99_ns,
                        bound_ns,
                        samples: samples.len(),
                    });
                    out.record_fail(detail.with_latency_gate(p99_ns, bound_ns));
                }
                Some(_) => {}
                None => {
                    out.record_inconclusive(none("p99 wake latency"));
                }
            }
        }
        if let Some(bound) = self.max_wake_latency_cv {
            match cv(pooled().map(|v| v as f64)) {
                Some(cv) if cv > bound => {
                    out.record_fail(AssertDetail::of(Finding::Bound {
                        kind: DetailKind::Benchmark,
                        tid: None,
                        what: "wake latency cv".to_owned(),
                        value: cv,
                        unit: String::new(),
                        bound,
                    }));
                }
                Some(_) => {}
                None => {
                    out.record_inconclusive(none("wake latency cv"));
                }
            }
        }
    }

    fn judge_migrations(&self, reports: &[WorkerReport], out: &mut AssertResult) {
        let Some(bound) = self.max_migration_ratio else {
            return;
        };
        let sum = |f: fn(&WorkerReport) -> u64| reports.iter().map(f).fold(0, u64::saturating_add);
        let (migrations, iterations) = (sum(|w| w.migration_count), sum(|w| w.iterations));
        match ratio(migrations, iterations) {
            Some(ratio) if ratio > bound => {
                out.record_fail(AssertDetail::of(Finding::Migrations {
                    migrations,
                    iterations,
                    ratio,
                    bound,
                }));
            }
            Some(_) => {}
            None => {
                let why = format!(": {migrations} migrations in 0 iterations");
                out.record_inconclusive(unknown(DetailKind::Migration, "migration ratio", why));
            }
        }
    }
}

/// Judges gaps. A gap above the bound is a failure, no matter how the worker ended. A worker that left no complete report may
/// have had a longer gap than the one that it recorded, so a recorded gap within the bound is inconclusive for such a worker.
/// Whether the worker made progress is checked elsewhere.
fn judge_gaps(reports: &[WorkerReport], bound_ms: u64, out: &mut AssertResult) {
    for w in reports {
        if w.max_gap_ms > bound_ms {
            out.record_fail(AssertDetail::of(Finding::Gap {
                tid: w.tid,
                gap_ms: w.max_gap_ms,
                cpu: w.max_gap_cpu,
                at_ms: w.max_gap_at_ms,
                bound_ms,
            }));
        } else if w.exit_info.is_some() {
            let what = format!("the longest gap of tid {}", w.tid);
            out.record_inconclusive(not_measured(DetailKind::Stuck, what, "", w));
        }
    }
}

/// Judges the spread. The check needs two workers whose time was measured and whose entitlement is the same. Without two
/// such workers the check is inconclusive if the test set a bound on the spread itself (`asked`), and is left out otherwise.
/// Workers that only wake others are not compared, because their work is different, and neither are workers without a
/// complete report.
///
/// If the test did not ask for the spread, workers that sleep or that lived for a short time are not compared either:
/// how long a worker waits for its partner, a lock or a timer differs between workers under any scheduler.
fn judge_spread(reports: &[WorkerReport], bound: f64, asked: bool, out: &mut AssertResult) {
    let mut alike: BTreeMap<u64, Vec<(&WorkerReport, f64)>> = BTreeMap::new();
    for w in reports
        .iter()
        .filter(|w| !w.is_messenger && w.exit_info.is_none())
    {
        let awake = w.asleep_pct().is_none_or(|pct| pct <= MOST_ASLEEP_PCT);
        let judged = asked || (awake && w.wall_time_ns >= SHORTEST_LIFE_NS);
        if let Some(pct) = w.off_cpu_pct().filter(|_| judged) {
            alike.entry(w.entitlement).or_default().push((w, pct));
        }
    }
    let comparable = || alike.values().filter(|workers| workers.len() > 1);
    let widest = comparable()
        .filter_map(|workers| Some((workers, min_max(workers.iter().map(|(_, pct)| *pct))?)))
        .max_by(|(_, a), (_, b)| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
    match widest {
        Some((workers, (low_pct, high_pct))) if high_pct - low_pct > bound => {
            let cpus: BTreeSet<_> = workers.iter().flat_map(|(w, _)| &w.cpus_used).collect();
            out.record_fail(AssertDetail::of(Finding::Spread {
                low_pct,
                high_pct,
                workers: workers.len(),
                cpus: cpus.len(),
                bound_pct: bound,
            }));
        }
        Some(_) => {}
        None if asked
            && alike.values().map(Vec::len).sum::<usize>()
                == reports.iter().filter(|w| !w.is_messenger).count() =>
        {
            let why = "no two workers of this cgroup were entitled to the same share of the CPU time; start at least two alike, \
                       or leave this bound out"
                .to_owned();
            out.record_inconclusive(nothing(DetailKind::Unfair, "spread", why));
        }
        None if asked => {
            let why = format!(
                ": {} of {} workers measured their off-CPU time, and no 2 of them were entitled to \
                 the same share",
                alike.values().map(Vec::len).sum::<usize>(),
                reports.len()
            );
            out.record_inconclusive(unknown(DetailKind::Unfair, "spread", why));
        }
        None => {}
    }
}

fn judge_isolation(
    reports: &[WorkerReport],
    cpuset: Option<&BTreeSet<usize>>,
    out: &mut AssertResult,
) {
    // The workers of a cgroup without a cpuset may run on any CPU.
    let Some(cpuset) = cpuset else { return };
    for w in reports {
        let cpus: BTreeSet<_> = w.cpus_used.difference(cpuset).copied().collect();
        if !cpus.is_empty() {
            out.record_fail(AssertDetail::of(Finding::OutsideCpuset {
                tid: w.tid,
                cpus,
                cpuset: cpuset.clone(),
            }));
        } else if w.cpus_used.is_empty() {
            let (what, why) = (
                format!("tid {} isolation", w.tid),
                ": it was seen on no cpu",
            );
            out.record_inconclusive(not_measured(DetailKind::Isolation, what, why, w));
        }
    }
}
