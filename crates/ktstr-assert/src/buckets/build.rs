//! Builds the buckets of a run, and adds what the guest reported.

use super::{captured, cpu_time, pressure, task_time};
use crate::math::ratio;
use crate::phase::Phase;
use crate::series::{Sample, SampleSeries};
use crate::stats::PhaseBucket;
use crate::stimulus::StimulusEvent;
use std::collections::{BTreeMap, BTreeSet};

/// Builds one bucket for each step with which captures were stamped; none without captures. Captures without a stamp
/// count as baseline.
pub fn build_phase_buckets(series: &SampleSeries) -> Vec<PhaseBucket> {
    let by = series.by_stamped_phase().into_iter();
    by.map(|(step, samples)| bucket(step, &samples)).collect()
}

/// Builds one bucket for each step that started or has captures, and one for the baseline if it has captures. The window of a
/// step begins at its start. It ends at the end of the step. If that was not recorded, it ends at the start of the next step or
/// at the end of the scenario. If none of these was recorded, it ends at the step's last capture. The window of the baseline
/// extends from 0 to the start of the first step or, if no step started, from its first capture to its last.
///
/// The sum of `sample_count` is the number of captures of the series.
pub fn build_phase_buckets_with_stimulus(
    series: &SampleSeries,
    events: &[StimulusEvent],
) -> Vec<PhaseBucket> {
    let mut buckets: BTreeMap<u16, PhaseBucket> = series
        .by_stimulus_phase(events)
        .into_iter()
        .map(|(step, samples)| (step, bucket(step, &samples)))
        .collect();
    let first_start = events
        .iter()
        .filter(|e| e.is_step_start())
        .map(|e| e.elapsed_ms)
        .min();
    if let (Some(b), Some(end)) = (buckets.get_mut(&0), first_start) {
        (b.start_ms, b.end_ms) = (0, end);
    }
    let mut opened = BTreeSet::new();
    for start in events.iter().filter(|e| e.is_step_start()) {
        let Some(step) = start.step_index.filter(|step| opened.insert(*step)) else {
            continue;
        };
        let b = buckets
            .entry(step)
            .or_insert_with(|| PhaseBucket::new(Phase::from(step)));
        let end = end_of(step, start, events);
        let last_sample = b.end_ms;
        b.start_ms = start.elapsed_ms;
        b.end_ms = end
            .map_or(last_sample, |e| e.elapsed_ms)
            .max(start.elapsed_ms);
        if let Some(rate) = end.and_then(|end| wall_rate(start, end)) {
            b.metrics.insert("iteration_rate".into(), rate);
        }
    }
    buckets.into_values().collect()
}

/// Merges the guest's buckets into the host's by step index. Cgroups are merged by name, and a step that only the guest
/// reported gets a new bucket with an empty window. The metrics that come from workers are then recomputed from all carriers
/// (the measurements of each cgroup's workers). The result is ordered by step index.
pub fn fold_carriers(host: &mut Vec<PhaseBucket>, guest: Vec<PhaseBucket>) {
    crate::stats::merge_phases(host, guest);
    for b in host.iter_mut() {
        if b.label.is_empty() {
            b.label = b.phase().label().into_owned();
        }
        from_carriers(b);
    }
}

/// Computes the metrics that come from the workers of all cgroups together: pooled counters, the rate per CPU-second,
/// which does not depend on the host's speed, and the worst values. Does nothing for a bucket without cgroups.
fn from_carriers(b: &mut PhaseBucket) {
    if b.per_cgroup.is_empty() {
        return;
    }
    let carriers = || b.per_cgroup.values();
    let sum =
        |f: fn(&crate::PhaseCgroupStats) -> u64| carriers().map(f).fold(0, u64::saturating_add);
    let max = |name: &str| carriers().filter_map(|c| c.get(name)).reduce(f64::max);
    let (iterations, cpu_ns) = (sum(|c| c.total_iterations), sum(|c| c.total_cpu_time_ns));
    // If a worker ended before it measured its CPU time, the sum is too small.
    let cpu_ns = Some(cpu_ns).filter(|_| carriers().all(|c| c.unmeasured == 0));
    if cpu_ns.is_none() {
        // The rate of the timeline is per second of guest time, so it cannot be compared with the rates of other phases.
        b.metrics.remove("iteration_rate");
    }
    let found = [
        ("total_iterations_pooled", Some(iterations as f64)),
        ("total_cpu_time_sec", cpu_ns.map(|ns| ns as f64 / 1e9)),
        (
            "iteration_rate",
            cpu_ns.and_then(|ns| ratio(iterations, ns)).map(|r| r * 1e9),
        ),
        ("worst_spread", max("off_cpu_spread_pct")),
        (
            "worst_gap_ms",
            carriers().map(|c| c.max_gap_ms as f64).reduce(f64::max),
        ),
        ("worst_migration_ratio", max("migration_ratio")),
    ];
    let mut metrics = BTreeMap::new();
    for (name, value) in found {
        if let Some(value) = value {
            metrics.insert(name.to_owned(), value);
        }
    }
    // A phase also has the metrics of its benchmarks. Usually a single cgroup runs a benchmark. If several do, the worse value of
    // each metric is kept.
    for carrier in carriers().filter(|c| !c.bench.is_empty()) {
        crate::metric::merge_worst(&mut metrics, carrier.bench_metrics());
    }
    b.metrics.extend(metrics);
}

/// Creates a bucket from captures. Its window extends from the first capture to the last. The caller replaces this window if the
/// timeline shows the real one.
fn bucket(step: u16, samples: &[Sample<'_>]) -> PhaseBucket {
    let times = || samples.iter().filter_map(|s| s.elapsed_ms);
    PhaseBucket {
        start_ms: times().min().unwrap_or(0),
        end_ms: times().max().unwrap_or(0),
        sample_count: samples.len(),
        metrics: [
            captured::metrics(samples),
            cpu_time::metrics(samples),
            task_time::metrics(samples),
            pressure::metrics(samples),
        ]
        .into_iter()
        .flatten()
        .collect(),
        ..PhaseBucket::new(Phase::from(step))
    }
}

/// Returns the event that ends a step: its own end or, if that was not recorded, the start of another step or the end of the
/// scenario, whichever comes first. `None` if none of these was recorded.
fn end_of<'a>(
    step: u16,
    start: &StimulusEvent,
    events: &'a [StimulusEvent],
) -> Option<&'a StimulusEvent> {
    let after = || events.iter().filter(|e| e.elapsed_ms >= start.elapsed_ms);
    let own = after().find(|e| e.is_step_end && e.step_index == Some(step));
    own.or_else(|| {
        let over =
            |e: &&StimulusEvent| e.is_terminal || (e.is_step_start() && e.step_index != Some(step));
        after().filter(over).min_by_key(|e| e.elapsed_ms)
    })
}

/// Returns the iterations per second of guest time between two events; `None` if the number of iterations is unknown at one
/// of the events, if it decreased, or if no time passed. [`fold_carriers`] replaces this rate by the rate per CPU-second if
/// the phase has carriers with CPU time.
fn wall_rate(start: &StimulusEvent, end: &StimulusEvent) -> Option<f64> {
    let done = end.total_iterations?.checked_sub(start.total_iterations?)?;
    Some(ratio(done, end.elapsed_ms.checked_sub(start.elapsed_ms)?)? * 1e3)
}
