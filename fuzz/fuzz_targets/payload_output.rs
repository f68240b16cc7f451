//! The output of programs in the guest: metrics are extracted from it, as JSON and by patterns, and checks are applied to them.
#![no_main]

use ktstr_assert::payload::judge;
use ktstr_assert::{
    MetricCheck, MetricPattern, MetricStream, OutputFormat, PayloadMetrics, extract_metrics,
};
use ktstr_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

const PATTERNS: &[MetricPattern] = &[
    MetricPattern {
        name: "rate",
        regex: r"(?m)^\s*(?P<key>[a-z ]+):\s+(?P<value>[-+.0-9eE]+)",
    },
    MetricPattern {
        name: "total",
        regex: r"total ([0-9.]+)",
    },
];

fn run(text: &str) {
    let mut run = PayloadMetrics::default();
    for format in [OutputFormat::Json, OutputFormat::Patterns(PATTERNS)] {
        let found = extract_metrics(text, &format, MetricStream::Stdout);
        assert!(found.iter().all(|metric| metric.value.is_finite()));
        assert!(found.is_sorted_by(|a, b| a.name < b.name));
        run.set_metrics(found, &[], &[]);
    }
    run.stdout.text = text.to_owned();
    run.bound();
    let checks = [
        MetricCheck::min("a", 1.0),
        MetricCheck::range("rate.a", 0.0, 2.0),
        MetricCheck::exists("total"),
    ];
    let result = judge(&run, &checks);
    for detail in result.failure_details() {
        let _ = (detail.display_with_kind(), detail.finding.to_string());
    }
}

fuzz_target!(|data: &[u8]| {
    bounded(|| run(&String::from_utf8_lossy(data)));
});
