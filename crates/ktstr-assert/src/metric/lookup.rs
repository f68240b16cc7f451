//! Values over the whole run, and the merge of maps of metrics.

use super::{BuiltinMetric as B, MetricId};

use crate::math::{self, min_max, ratio};
use crate::stats::{CgroupStats, PhaseBucket, ScenarioStats};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Merges two maps of metrics. If both contain a metric, the worse value by its polarity is kept.
pub(crate) fn merge_worst(into: &mut BTreeMap<String, f64>, from: BTreeMap<String, f64>) {
    for (name, value) in from {
        let polarity = MetricId::from(name.as_str()).polarity();
        match into.entry(name) {
            Entry::Vacant(e) => {
                e.insert(value);
            }
            Entry::Occupied(mut e) => {
                let worse = polarity.worse(*e.get(), value);
                e.insert(worse);
            }
        }
    }
}

/// Returns the value of a metric over the whole run. It comes from the cgroups if they have the metric, otherwise from the phases
/// ([`of_phases`]). A name that is not in the registry belongs to a metric that a payload printed. If several payloads printed
/// the metric, the worst value counts. `None` if the metric was not measured, or if it is defined for single phases only.
pub(crate) fn run_value(s: &ScenarioStats, id: &MetricId) -> Option<f64> {
    let metric = match id {
        MetricId::Builtin(metric) => metric,
        MetricId::Dynamic(name) => {
            let all = s.payloads.iter().flat_map(|run| &run.metrics);
            let same = all.filter(|metric| metric.name == *name);
            let worst = same.map(|m| (m.polarity, m.value));
            return worst
                .reduce(|(polarity, a), (_, b)| (polarity, polarity.worse(a, b)))
                .map(|(_, value)| value);
        }
    };
    let cgroups = |f: fn(&CgroupStats) -> Option<f64>| s.cgroups.iter().filter_map(f);
    let max = |f: fn(&CgroupStats) -> Option<f64>| Some(min_max(cgroups(f))?.1);
    let min = |f: fn(&CgroupStats) -> Option<f64>| Some(min_max(cgroups(f))?.0);
    let some = |v: f64| (!s.cgroups.is_empty()).then_some(v);
    let cpu_ns = || {
        // If a worker ended before it measured its CPU time, the sum is too small.
        let known = s.cgroups.iter().all(|c| c.unmeasured == 0);
        let ns = s.cgroups.iter().map(|c| c.total_cpu_time_ns);
        known.then(|| ns.fold(0u64, u64::saturating_add))
    };
    match metric {
        B::WorstSpread => max(|c| c.spread),
        B::WorstGapMs => some(s.worst_gap_ms as f64),
        B::WorstMigrationRatio => max(|c| ratio(c.total_migrations, c.total_iterations)),
        B::TotalIterationsPooled => some(s.total_iterations as f64),
        B::TotalCpuTimeNs => some(cpu_ns()? as f64),
        B::TotalCpuTimeSec => some(cpu_ns()? as f64 / 1e9),
        B::IterationRate => ratio(s.total_iterations, cpu_ns()?).map(|r| r * 1e9),
        B::WorstIterationsPerWorker => min(CgroupStats::iterations_per_worker),
        B::WorstIterationsPerCpuSec => min(CgroupStats::iterations_per_cpu_sec),
        B::WorstP99WakeLatencyUs => max(|c| c.wake_measured.then_some(c.p99_wake_latency_us)),
        B::WorstMedianWakeLatencyUs => max(|c| c.wake_measured.then_some(c.median_wake_latency_us)),
        B::WorstWakeLatencyCv => max(|c| c.wake_measured.then_some(c.wake_latency_cv)),
        B::WorstWakeLatencyTailRatio => max(CgroupStats::wake_latency_tail_ratio),
        B::WorstP99TimerLatencyUs => max(|c| c.timer_measured.then_some(c.p99_timer_latency_us)),
        B::WorstMedianTimerLatencyUs => {
            max(|c| c.timer_measured.then_some(c.median_timer_latency_us))
        }
        B::WorstP999TimerLatencyUs => max(|c| c.timer_measured.then_some(c.p999_timer_latency_us)),
        B::WorstTimerLatencyUs => max(|c| c.timer_measured.then_some(c.worst_timer_latency_us)),
        B::WorstMeanRunDelayUs => max(|c| c.run_delay_measured.then_some(c.mean_run_delay_us)),
        B::WorstRunDelayUs => max(|c| c.run_delay_measured.then_some(c.worst_run_delay_us)),
        B::WorstPageLocality => min(|c| c.page_locality),
        B::WorstCrossNodeMigrationRatio => max(|c| c.cross_node_migration_ratio),
        other => {
            if let Some(total) = counter(s, *other) {
                return some(total as f64);
            }
            let def = other.def();
            if let Some(value) = of_cgroups(s, def) {
                return Some(value);
            }
            of_phases(&s.phases, *other)
        }
    }
}

/// Returns the value of a metric over all phases. Counters and differences are summed. A rate is computed from the sums of its
/// two parts if the phases have its numerator. In all other cases the worst phase counts. `None` if no phase has the metric, if
/// it is defined for single phases only, or if it needs the CPU time of a worker that ended early.
pub fn of_phases(phases: &[PhaseBucket], metric: B) -> Option<f64> {
    use super::MetricKind as Kind;
    let carriers = || phases.iter().flat_map(|phase| phase.per_cgroup.values());
    let needs_cpu_time = matches!(metric, B::TotalCpuTimeSec | B::IterationRate);
    if needs_cpu_time && carriers().any(|c| c.unmeasured > 0) {
        return None;
    }
    let def = metric.def();
    let all = |name: &'static str| phases.iter().filter_map(move |phase| phase.get(name));
    let sum = |name| all(name).reduce(|a, b| a + b);
    match def.kind {
        Kind::Counter | Kind::DeltaSum | Kind::PerPhaseDeltaSum => sum(def.name),
        Kind::PerPhase => None,
        Kind::Rate {
            numerator,
            denominator,
        } if sum(numerator).is_some() => {
            let (above, below) = (sum(numerator)?, sum(denominator)?);
            (below > 0.0).then(|| above / below)
        }
        _ => all(def.name).reduce(|a, b| def.polarity.worse(a, b)),
    }
}

// Generates the function `counter`, whose `match` has an arm for each counter of the workers that is a metric.
macro_rules! counter_over_the_run {
    ($($(#[$_doc:meta])* $_kind:ident $_name:ident
       $({ #[$_total_doc:meta] $fold:ident $total:ident $($metric:ident)? })?;)*) => {
        /// Returns a counter of the workers, folded over the cgroups; `None` for a metric that is none of these counters.
        fn counter(s: &ScenarioStats, metric: B) -> Option<u64> {
            match metric {
                $($($(B::$metric => Some(s.cgroups.iter().map(|c| c.$total).fold(0, math::$fold)),)?)?)*
                _ => None,
            }
        }
    };
}
crate::worker_counters!(counter_over_the_run);

/// Returns the value over the run of a metric in the cgroups' `ext_metrics`: a counter is summed, a rate is computed from
/// the sums of its two parts, and for other metrics the worst cgroup counts. `None` if no cgroup has the metric; for
/// a rate, if one of its parts is missing or the denominator is not above 0.
fn of_cgroups(s: &ScenarioStats, def: &super::MetricDef) -> Option<f64> {
    let all = |name: &'static str| {
        s.cgroups
            .iter()
            .filter_map(move |c| c.ext_metrics.get(name).copied())
    };
    let sum = |name| all(name).reduce(|a, b| a + b);
    match def.kind {
        super::MetricKind::Counter => sum(def.name),
        super::MetricKind::Rate {
            numerator,
            denominator,
        } => {
            let (above, below) = (sum(numerator)?, sum(denominator)?);
            (below > 0.0).then(|| above / below)
        }
        _ => all(def.name).reduce(|a, b| def.polarity.worse(a, b)),
    }
}

/// Adds to `out` the rates whose numerator is in `out`, and whose denominator is in `out` and above 0.
pub(crate) fn quotients(out: &mut BTreeMap<String, f64>) {
    for def in B::ALL.iter().map(|metric| metric.def()) {
        let super::MetricKind::Rate {
            numerator,
            denominator,
        } = def.kind
        else {
            continue;
        };
        let part = |name| out.get(name).copied();
        if let (Some(above), Some(below)) = (part(numerator), part(denominator))
            && below > 0.0
        {
            out.insert(def.name.to_owned(), above / below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Polarity, REGISTRY};
    use proptest::prelude::*;

    #[test]
    fn variants_and_entries_match() {
        assert_eq!(B::ALL.len(), REGISTRY.len());
        for m in B::ALL {
            let words = m.wire_name().split('_');
            let camel: String = words.map(|w| w[..1].to_uppercase() + &w[1..]).collect();
            assert_eq!(camel, format!("{m:?}"));
            assert_eq!(MetricId::from(m.wire_name()), MetricId::Builtin(*m));
        }
        assert_eq!(MetricId::from("mine"), MetricId::Dynamic("mine".into()));
    }

    #[test]
    fn the_parts_of_a_rate_are_metrics_too() {
        for def in REGISTRY {
            if let super::super::MetricKind::Rate {
                numerator,
                denominator,
            } = def.kind
            {
                assert!(B::from_wire_name(numerator).is_some(), "{numerator}");
                assert!(B::from_wire_name(denominator).is_some(), "{denominator}");
            }
        }
    }

    #[test]
    fn a_regression_clears_both_gates() {
        let def = B::WorstGapMs.def(); // The gates of this metric are 500 ms and half of the baseline.
        assert!(!def.is_regression(100.0, 400.0), "too few milliseconds");
        assert!(!def.is_regression(2000.0, 2600.0), "too small a share");
        assert!(def.is_regression(1000.0, 1600.0));
        assert!(!def.is_regression(1600.0, 1000.0), "better");
        assert!(
            !B::TotalIterations.def().is_regression(1e9, 1.0),
            "informational"
        );
    }

    #[test]
    fn a_payload_s_metric_is_found_by_its_name_and_the_worst_run_counts() {
        let run = |value| crate::PayloadMetrics {
            metrics: vec![crate::Metric {
                name: "iops".to_owned(),
                value,
                polarity: Polarity::HigherBetter,
                ..crate::Metric::default()
            }],
            ..crate::PayloadMetrics::default()
        };
        let mut s = ScenarioStats::default();
        assert_eq!(s.run_metric("iops"), None);
        for value in [5.0, 3.0, 4.0] {
            s.merge(ScenarioStats {
                payloads: vec![run(value)],
                ..ScenarioStats::default()
            });
        }
        assert_eq!(s.run_metric("iops"), Some(3.0));
    }

    #[test]
    fn not_measured_is_none() {
        let s = ScenarioStats::from_cgroup(CgroupStats::default());
        for m in [
            B::WorstSpread,
            B::WorstMigrationRatio,
            B::WorstP99WakeLatencyUs,
            B::IterationRate,
            B::MaxDsqDepth,
        ] {
            assert_eq!(s.run_metric(m), None, "{m:?}");
        }
        assert_eq!(s.run_metric("total_iterations"), Some(0.0));
        assert_eq!(
            ScenarioStats::default().run_metric("total_iterations"),
            None
        );
    }

    proptest! {
        #[test]
        fn worse_is_associative_and_commutative(a: f64, b: f64, c: f64, t in -10.0f64..10.0) {
            for p in [Polarity::HigherBetter, Polarity::LowerBetter, Polarity::TargetValue(t), Polarity::Unknown] {
                let same = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan());
                prop_assert!(same(p.worse(a, b), p.worse(b, a)));
                prop_assert!(same(p.worse(p.worse(a, b), c), p.worse(a, p.worse(b, c))));
            }
        }
    }

    #[test]
    fn phases_are_combined_by_the_kind_of_the_metric() {
        let phase = |step: u16, metrics: &[(&str, f64)]| {
            let mut phase = PhaseBucket::new(crate::Phase::from(step));
            let metrics = metrics
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value));
            phase.metrics.extend(metrics);
            phase
        };
        let phases = [
            phase(
                0,
                &[("total_hardirqs", 100.0), ("hardirqs_per_cpu_sec", 100.0)],
            ),
            phase(
                1,
                &[
                    ("total_hardirqs", 20.0),
                    ("max_dsq_depth", 3.0),
                    ("hardirqs_per_cpu_sec", 10.0),
                ],
            ),
            phase(2, &[("max_dsq_depth", 7.0)]),
        ];
        assert_eq!(of_phases(&phases, B::TotalHardirqs), Some(120.0));
        assert_eq!(of_phases(&phases, B::MaxDsqDepth), Some(7.0));
        assert_eq!(of_phases(&phases, B::TotalSoftirqTimer), None);
        // The phases have the numerator of the rate and not its denominator.
        assert_eq!(of_phases(&phases, B::HardirqsPerCpuSec), None);
    }

    /// In the phase in which a worker ended early, the worker's iterations are counted, but its CPU time is missing.
    #[test]
    fn a_rate_over_phases_needs_the_cpu_time_of_each() {
        let phases = |unmeasured: usize| {
            let mut phases = [1, 2].map(|step| PhaseBucket::new(crate::Phase::from(step)));
            for phase in &mut phases {
                phase
                    .metrics
                    .insert("total_iterations_pooled".to_owned(), 100.0);
            }
            let cpu_time = ("total_cpu_time_sec".to_owned(), 2.0);
            phases[0].metrics.extend([cpu_time]);
            let carrier = crate::PhaseCgroupStats {
                unmeasured,
                ..crate::PhaseCgroupStats::default()
            };
            phases[1].per_cgroup.insert("a".to_owned(), carrier);
            phases
        };
        assert_eq!(of_phases(&phases(0), B::IterationRate), Some(100.0));
        for metric in [B::IterationRate, B::TotalCpuTimeSec] {
            assert_eq!(of_phases(&phases(1), metric), None, "{metric:?}");
        }
    }
}
