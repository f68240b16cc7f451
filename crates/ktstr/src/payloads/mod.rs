//! Presets for existing benchmarks and load generators, to be named in a test's `payload` or `workloads`: their
//! arguments, the format of their output, and which direction of each metric is better. The programs come from the
//! host: a test that names a preset whose program is not installed ends before a machine is started, with a message that
//! names the program.
//!
//! A preset is a file in this folder, a `mod` and a `pub use` below, and an element of [`PRESETS`]. Its test parses recorded
//! output of the program (`recorded/`).

use ktstr_scenario::payload::Payload;

mod cyclictest;
mod fio;
mod hackbench;
mod perf_messaging;
mod perf_pipe;
mod stress_ng;
mod sysbench_cpu;

pub use cyclictest::CYCLICTEST;
pub use fio::FIO;
pub use hackbench::HACKBENCH;
pub use perf_messaging::PERF_MESSAGING;
pub use perf_pipe::PERF_PIPE;
pub use stress_ng::STRESS_NG;
pub use sysbench_cpu::SYSBENCH_CPU;

/// All presets, in the order of their names.
pub const PRESETS: &[&Payload] = &[
    &CYCLICTEST,
    &FIO,
    &HACKBENCH,
    &PERF_MESSAGING,
    &PERF_PIPE,
    &STRESS_NG,
    &SYSBENCH_CPU,
];

#[cfg(test)]
mod testing {
    use super::*;
    use ktstr_assert::payload::{MetricStream, PayloadMetrics, judge};
    use ktstr_assert::{Polarity, extract_metrics};

    /// Returns the name, value and unit of each metric that a preset reads from an output and declares a direction for. Panics
    /// if a default check of the preset fails.
    pub(super) fn read(preset: &Payload, output: &str) -> Vec<(String, f64, String)> {
        let metrics = extract_metrics(output, &preset.output, MetricStream::Stdout);
        let mut run = PayloadMetrics::default();
        run.set_metrics(metrics, preset.metrics, preset.default_checks);
        let result = judge(&run, preset.default_checks);
        assert!(result.is_pass(), "{:?}", result.outcomes);
        run.metrics
            .into_iter()
            .filter(|metric| metric.polarity != Polarity::Unknown)
            .map(|metric| (metric.name, metric.value, metric.unit))
            .collect()
    }

    #[test]
    fn presets_can_be_run_and_have_distinct_names() {
        let mut names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PRESETS.len());
        for preset in PRESETS {
            assert_eq!(preset.validate(), Ok(()), "{}", preset.name);
            assert!(!preset.metrics.is_empty() && !preset.default_checks.is_empty());
        }
    }

    /// A program that prints nothing must not count as one that measured something.
    #[test]
    fn an_empty_output_fails_each_preset() {
        for preset in PRESETS {
            let result = judge(&PayloadMetrics::default(), preset.default_checks);
            assert!(result.is_fail(), "{}", preset.name);
        }
    }
}
