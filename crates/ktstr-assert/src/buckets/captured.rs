//! The metrics of a phase that come from its captures.

use crate::metric::BuiltinMetric as B;
use crate::series::Sample;
use std::collections::BTreeMap;

/// Reads a value from a capture; `None` if the capture lacks it.
type Read = fn(&Sample<'_>) -> Option<f64>;

/// The metrics that are read from captures, one per line. The registry defines how the samples of a metric are folded.
const READS: &[(B, Read)] = &[
    (B::MaxDsqDepth, |s| {
        let depths = s.snapshot.rq_scx_states().iter();
        depths
            .map(|r| f64::from(r.local_dsq_depth))
            .reduce(f64::max)
    }),
    (B::AvgDsqDepth, |s| {
        crate::math::mean(
            s.snapshot
                .rq_scx_states()
                .iter()
                .map(|r| f64::from(r.local_dsq_depth)),
        )
    }),
    (B::AvgNrRunning, |s| {
        crate::math::mean(
            s.snapshot
                .rq_scx_states()
                .iter()
                .map(|r| f64::from(r.nr_running)),
        )
    }),
];

/// Returns the metrics of one phase's captures. Placeholders hold no data and are skipped.
pub(super) fn metrics(samples: &[Sample<'_>]) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    for (metric, read) in READS {
        let real = samples.iter().filter(|s| !s.snapshot.is_placeholder());
        let values: Vec<f64> = real.filter_map(read).collect();
        let def = metric.def();
        if let Some(v) = crate::series::fold(def.kind, &values) {
            out.insert(def.name.to_owned(), v);
        }
    }
    out
}
