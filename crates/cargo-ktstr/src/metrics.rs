//! `cargo ktstr metrics`: prints the registry of metrics, as a page of Markdown (`docs/metrics.md`) or as JSON.

use std::io::Write;

use anyhow::Result;
use ktstr::assert::metric::{
    GaugeFold, MetricDef, MetricKind, Polarity, REGISTRY, Reduction, Source,
};

use crate::exit::Exit;
use crate::json::{self, Limit};

/// Writes all metrics of the registry to `out`: with `json` as a JSON array, otherwise as a page of Markdown.
pub fn run(out: &mut dyn Write, json: bool, limit: Limit) -> Result<Exit> {
    if json {
        let all: Vec<_> = REGISTRY.iter().map(as_json).collect();
        json::print(out, &all, limit)?;
    } else {
        page(out)?;
    }
    Ok(Exit::Done)
}

fn page(out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "# Metrics\n\n\
         <!-- Written by `cargo ktstr metrics > docs/metrics.md`; a test checks that the page matches the registry. -->\n\n\
         A metric has a value only where it was measured: an absent metric is `None`, not 0. The depths of dispatch queues\n\
         are an exception, because they are 0 on a kernel without sched_ext.\n\n\
         The kind states how the samples of a phase become one value. For a counter this is the last sample minus the first, for\n\
         a gauge the mean of the samples or the last one, and for a peak the largest. If the source is `monitor`, the metric has\n\
         one value for the run, from all samples. With every other source, the phases are combined: counters are summed, a rate\n\
         is the ratio of the sums, a metric named `worst_…` has the value of the worst cgroup, and every other metric has its\n\
         value in the worst phase. A metric whose kind is `one cgroup in one phase` has no value for the run.\n\n\
         Some kinds are computed from samples of the workers: `WakeLatencyNs` (one for each wakeup), `TimerLatencyNs` (one for\n\
         each expiry of a timer) and `RunDelayNs` (one for each worker: the whole time for which it waited for a CPU). Of the\n\
         first two, at most 100 000 per worker are kept, drawn at random. `total_…_pooled` has the same value as `total_…`: use\n\
         `total_…`, because the copy only serves as the numerator of a rate.\n\n\
         The source is what measures the metric: `workers` are the reports of the test's tasks, `monitor` the samples of the\n\
         runqueues (one every 100 ms on average), `captures` the snapshots of guest memory, and `schedule` the exact schedule.\n\n\
         The gates are for comparing two values with `MetricDef::is_regression`: a change counts if it is for the worse and\n\
         reaches both gates, the one in units and the one in percent of the baseline. If neither direction of a metric is\n\
         better, no change is a regression, and its gates only apply to a `PerfDeltaAssertion` that sets the direction.\n\
         A test's `perf_delta_assertions` use these gates, too. `cargo ktstr compare` does not: its gates are those under\n\
         `[gates]` in `ktstr.toml` (docs/check.md).\n\n\
         | Metric | Kind | Better | Unit | Gates | Source |\n\
         | --- | --- | --- | --- | --- | --- |"
    )?;
    for def in REGISTRY {
        let unit = match def.display_unit {
            "" => "-",
            unit => unit,
        };
        writeln!(
            out,
            "| `{}` | {} | {} | {unit} | {} / {} % | {} |",
            def.name,
            kind(&def.kind),
            polarity(def.polarity),
            def.default_abs,
            def.default_rel * 100.0,
            source(def.source),
        )?;
    }
    Ok(())
}

fn as_json(def: &MetricDef) -> serde_json::Value {
    serde_json::json!({
        "name": def.name,
        "kind": kind(&def.kind),
        "polarity": polarity(def.polarity),
        "unit": def.display_unit,
        "gate_abs": def.default_abs,
        "gate_rel": def.default_rel,
        "source": source(def.source),
        "measured": def.source != Source::Pending,
    })
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Workers => "workers",
        Source::Captures => "captures",
        Source::Monitor => "monitor",
        Source::Schedule => "schedule",
        Source::Pending => "not measured yet",
    }
}

fn polarity(polarity: Polarity) -> String {
    match polarity {
        Polarity::HigherBetter => "higher".to_owned(),
        Polarity::LowerBetter => "lower".to_owned(),
        Polarity::TargetValue(target) => format!("near {target}"),
        Polarity::Unknown => "unknown".to_owned(),
        Polarity::Informational => "neither".to_owned(),
    }
}

fn kind(kind: &MetricKind) -> String {
    match kind {
        MetricKind::Counter => "counter".to_owned(),
        MetricKind::Gauge(GaugeFold::Avg) => "gauge, mean".to_owned(),
        MetricKind::Gauge(GaugeFold::Last) => "gauge, last".to_owned(),
        MetricKind::Gauge(GaugeFold::Max) => "gauge, largest".to_owned(),
        MetricKind::Peak => "peak".to_owned(),
        MetricKind::Timestamp => "moment".to_owned(),
        MetricKind::DeltaSum => "sum of changes".to_owned(),
        MetricKind::PerPhaseDeltaSum => "sum of changes in each phase".to_owned(),
        MetricKind::Rate {
            numerator,
            denominator,
        } => format!("`{numerator}` / `{denominator}`"),
        MetricKind::Distribution { source, reduction } => {
            let of = match reduction {
                Reduction::P99 => "p99",
                Reduction::P999 => "p99.9",
                Reduction::Median => "median",
                Reduction::Cv => "coefficient of variation",
                Reduction::Mean => "mean",
                Reduction::Worst => "largest",
            };
            format!("{of} of {source:?}, worst cgroup")
        }
        MetricKind::WorstLowest {
            numerator,
            denominator,
        } => format!("`{numerator}` / `{denominator}`, lowest cgroup"),
        MetricKind::WakeLatencyTailRatio => {
            "p99 / median of WakeLatencyNs, worst cgroup".to_owned()
        }
        MetricKind::WorstCrossNodeRatio => "moved pages / pages, worst cgroup".to_owned(),
        MetricKind::PerPhase => "one cgroup in one phase".to_owned(),
        MetricKind::PerRunDistribution => "whole run".to_owned(),
        MetricKind::Pooled => "of all samples".to_owned(),
    }
}
