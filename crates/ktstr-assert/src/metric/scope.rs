//! Which metrics can have a value over a whole run, and which in a single phase. A metric that no part of the harness
//! computes in one of these scopes is always absent there, so a comparison of it has no effect.

use super::{BuiltinMetric, MetricDef, MetricKind, Source};
use crate::stats::bench;

/// The largest number of metrics that are suggested in place of a metric that is not measured.
const MOST_NAMED: usize = 6;

/// Returns whether this metric can have a value: in a phase if `of_phase` is set, otherwise over the whole run.
pub(super) fn is_measured(def: &MetricDef, of_phase: bool) -> bool {
    if def.source == Source::Pending {
        return false;
    }
    match (def.kind, of_phase) {
        (MetricKind::PerPhase, false) => false,
        (_, false) => true,
        // Of the metrics of this kind, a phase as a whole has only those of benchmarks. The others exist for single cgroups only.
        (MetricKind::PerPhase, true) => bench::names().contains(def.name),
        // Metrics of these kinds are computed from all samples of a cgroup over the run, so no phase has them.
        (
            MetricKind::PerRunDistribution
            | MetricKind::Distribution { .. }
            | MetricKind::WorstLowest { .. }
            | MetricKind::WakeLatencyTailRatio
            | MetricKind::WorstCrossNodeRatio,
            true,
        ) => false,
        (MetricKind::Rate { numerator, .. }, true) => !bench::run_names().contains(numerator),
        (_, true) => !bench::run_names().contains(def.name),
    }
}

/// Returns the metrics of the scope whose names are related to `name`: one of the two names contains the other.
pub(super) fn related(name: &str, of_phase: bool) -> Vec<&'static str> {
    let all = BuiltinMetric::ALL.iter().map(|metric| metric.def());
    let related = all.filter(|def| is_measured(def, of_phase) && def.name != name);
    let related = related.filter(|def| def.name.contains(name) || name.contains(def.name));
    related.map(|def| def.name).take(MOST_NAMED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_measured_somewhere_unless_it_is_pending_or_of_single_cgroups() {
        for metric in BuiltinMetric::ALL {
            let def = metric.def();
            let anywhere = is_measured(def, false) || is_measured(def, true);
            let nowhere = def.source == Source::Pending || def.kind == MetricKind::PerPhase;
            assert!(anywhere || nowhere, "{}", def.name);
        }
        for (name, whole, phase) in [
            ("iteration_rate", true, true),
            ("total_iterations", true, true),
            ("max_task_lat_cri", false, false),
            ("p99_wake_latency_us", false, false),
            ("worst_p99_wake_latency_us", true, false),
            ("wakeup_p99_latency_us", false, true),
            ("wakeup_p99_latency_us_whole", true, false),
            ("total_taobench_ops", true, false),
            ("taobench_hit_fraction", true, false),
            ("irq_time_fraction", true, true),
            ("schedule_p99_wait_us", true, true),
        ] {
            let metric = BuiltinMetric::from_wire_name(name).expect(name);
            assert_eq!(is_measured(metric.def(), false), whole, "{name}");
            assert_eq!(is_measured(metric.def(), true), phase, "{name} of a phase");
        }
    }
}
