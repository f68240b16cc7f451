//! Checks that a test can measure the metrics that it compares with an earlier run. A metric that is not in the registry can
//! come only from a program that prints it, or from a variable of the scheduler that the test watches.

use ktstr_assert::{BuiltinMetric, PerfDeltaAssertion};
use ktstr_scenario::scheduler::{BpfMapAgg, WatchBpfMap};

use crate::entry::KtstrTestEntry;

/// Returns why the test never measures the metric of `assertion`, and what it does measure; `None` if it may measure it.
pub(crate) fn never_measured(
    entry: &KtstrTestEntry,
    assertion: &PerfDeltaAssertion,
) -> Option<String> {
    let metric = assertion.metric();
    // A program may print any metric, and the test may bring along programs that it does not declare.
    let has_programs = entry.payload.is_some()
        || !entry.workloads.is_empty()
        || !entry.extra_include_files.is_empty();
    if has_programs || BuiltinMetric::from_wire_name(metric).is_some() {
        return None;
    }
    let endings: Vec<String> = (entry.watch_bpf_maps.iter().copied())
        .flat_map(endings)
        .collect();
    if endings.iter().any(|ending| metric.ends_with(ending)) {
        return None;
    }
    let watched = match endings.is_empty() {
        true => "watches no variable of its scheduler (watch_bpf_maps)".to_owned(),
        false => format!(
            "gets only the metrics OBJECT{} from the variables that it watches, where OBJECT is the name of the BPF object",
            endings.join(", OBJECT")
        ),
    };
    Some(format!(
        "the metric {metric:?} is never measured: it is not in the registry (docs/metrics.md lists its metrics), and the test runs no \
         program that could print it (payload, workloads) and {watched}"
    ))
}

/// Returns how the names of the metrics of a watched variable end; they start with the name of the BPF object.
fn endings(watch: &WatchBpfMap) -> Vec<String> {
    let label = watch.label();
    match watch.agg() {
        BpfMapAgg::PerCpu => vec![format!("_{label}_avg"), format!("_{label}_max")],
        BpfMapAgg::Scalar | BpfMapAgg::ScalarCounter | BpfMapAgg::PerCpuCounter => {
            vec![format!("_{label}")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_assert::Polarity;
    use ktstr_scenario::payload::Payload;

    const OWN: PerfDeltaAssertion = PerfDeltaAssertion::new("bpf_queued_max")
        .with_direction(Polarity::LowerBetter)
        .with_max_regression_pct(5.0);
    const WATCH: WatchBpfMap = WatchBpfMap::new(".bss", "queued", BpfMapAgg::PerCpu, "queued");
    const OTHER: WatchBpfMap = WatchBpfMap::new(".bss", "x", BpfMapAgg::Scalar, "x");
    const FIO: Payload = Payload::binary("fio", "fio");
    const PLAIN: KtstrTestEntry = KtstrTestEntry::DEFAULT;

    #[test]
    fn a_metric_that_nothing_can_print_is_refused() {
        let why = never_measured(&PLAIN, &OWN).expect("refused");
        assert!(
            why.starts_with("the metric \"bpf_queued_max\" is never measured"),
            "{why}"
        );
        assert!(why.contains("watches no variable"), "{why}");
        let other = KtstrTestEntry {
            watch_bpf_maps: &[&OTHER],
            ..PLAIN
        };
        let why = never_measured(&other, &OWN).expect("refused");
        assert!(why.contains("gets only the metrics OBJECT_x from"), "{why}");
    }

    #[test]
    fn a_metric_of_the_registry_a_program_or_a_watched_variable_is_accepted() {
        let rate = PerfDeltaAssertion::new("iteration_rate");
        assert_eq!(never_measured(&PLAIN, &rate), None);
        let program = KtstrTestEntry {
            workloads: &[&FIO],
            ..PLAIN
        };
        assert_eq!(never_measured(&program, &OWN), None);
        let watching = KtstrTestEntry {
            watch_bpf_maps: &[&WATCH],
            ..PLAIN
        };
        assert_eq!(never_measured(&watching, &OWN), None);
    }
}
