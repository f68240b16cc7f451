//! The metrics of the registry that come from the monitor's samples, for a run or for a phase.

use super::summary::{event_deltas, event_seconds, schedstat_deltas, vcpu_seconds};
use super::{MonitorSample, MonitorSummary};
use crate::metric::{BuiltinMetric as B, quotients};
use crate::stats::PhaseBucket;
use std::collections::BTreeMap;

/// Computes the metrics of the samples, which are ordered by time. A metric that cannot be computed is absent, not 0: a counter's
/// growth needs two samples that have the counter, and a rate needs a denominator above 0. The depths of the local DSQs are 0
/// on a kernel without sched_ext.
pub fn metrics(samples: &[MonitorSample]) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    let mut put = |metric: B, value: f64| {
        out.insert(metric.def().name.to_owned(), value);
    };
    if samples.iter().any(|s| !s.cpus.is_empty()) {
        let s = MonitorSummary::of(samples);
        put(B::MaxImbalanceRatio, s.max_imbalance_ratio);
        put(B::AvgImbalanceRatio, s.avg_imbalance_ratio);
        put(B::MaxDsqDepth, f64::from(s.max_local_dsq_depth));
        put(B::AvgDsqDepth, s.avg_local_dsq_depth);
        put(B::AvgNrRunning, s.avg_nr_running);
        if samples.len() > 1 {
            put(B::StuckCount, s.stuck_count as f64);
        }
        for (metric, value) in [
            (B::AvgIrqUtil, s.avg_irq_util),
            (B::MaxAvgIrqUtil, s.max_avg_irq_util),
        ] {
            if let Some(value) = value {
                put(metric, value);
            }
        }
    }
    let vcpu_seconds = vcpu_seconds(samples);
    if let Some(events) = event_deltas(samples) {
        let (fallback, keep_last) = (events.select_cpu_fallback, events.dispatch_keep_last);
        put(B::TotalFallback, fallback as f64);
        put(B::TotalFallbackPooled, fallback as f64);
        put(B::TotalKeepLast, keep_last as f64);
        put(B::TotalKeepLastPooled, keep_last as f64);
        put(B::TotalEventVcpuSec, event_seconds(samples));
    }
    if let Some(stat) = schedstat_deltas(samples) {
        put(B::TotalRunDelay, stat.run_delay as f64);
        put(B::TotalPcount, stat.pcount as f64);
        put(B::TotalSchedstatVcpuSec, vcpu_seconds);
        for (metric, count) in [
            (B::TotalYldCount, stat.yld_count),
            (B::TotalSchedCount, stat.sched_count),
            (B::TotalSchedGoidle, stat.sched_goidle),
            (B::TotalTtwuCount, stat.ttwu_count),
            (B::TotalTtwuLocal, stat.ttwu_local),
        ] {
            if let Some(count) = count {
                put(metric, count as f64);
            }
        }
    }
    quotients(&mut out);
    out
}

/// Adds the metrics of each phase to its bucket. They come from the samples in the window of the phase or, if it has no
/// window, from the samples that are stamped with the phase. A metric that is already in the bucket is kept.
pub fn fold_into(buckets: &mut [PhaseBucket], samples: &[MonitorSample]) {
    for bucket in buckets {
        let window = bucket.start_ms..=bucket.end_ms;
        let mine: Vec<MonitorSample> = samples
            .iter()
            .filter(|s| match bucket.end_ms {
                0 => s.step_index == Some(bucket.step_index),
                _ => window.contains(&s.elapsed_ms),
            })
            .cloned()
            .collect();
        for (name, value) in metrics(&mine) {
            bucket.metrics.entry(name).or_insert(value);
        }
    }
}
