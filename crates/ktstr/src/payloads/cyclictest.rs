//! cyclictest from rt-tests: threads that sleep until a timer expires and measure how late they wake up.

use ktstr_assert::{MetricCheck, MetricHint, MetricPattern, OutputFormat, Polarity};
use ktstr_scenario::payload::Payload;

/// `cyclictest` with one thread of the normal class that wakes up 200 times, once per millisecond. The metrics are
/// `latency_min_us`, `latency_avg_us` and `latency_max_us`, each followed by a dot and the number of the thread, counted
/// from 0, as in `latency_max_us.0`.
pub const CYCLICTEST: Payload = Payload::binary("cyclictest", "cyclictest")
    .with_default_args(&["-q", "-i", "1000", "-l", "200"])
    .with_output(OutputFormat::Patterns(&[
        MetricPattern {
            name: "latency_min_us",
            regex: r"(?m)^T: *(?P<key>\d+) .* Min: *(?P<value>\d+) ",
        },
        MetricPattern {
            name: "latency_avg_us",
            regex: r"(?m)^T: *(?P<key>\d+) .* Avg: *(?P<value>\d+) ",
        },
        MetricPattern {
            name: "latency_max_us",
            regex: r"(?m)^T: *(?P<key>\d+) .* Max: *(?P<value>\d+)$",
        },
    ]))
    .with_metrics(&[
        MetricHint {
            name: "latency_min_us",
            polarity: Polarity::LowerBetter,
            unit: "µs",
        },
        MetricHint {
            name: "latency_avg_us",
            polarity: Polarity::LowerBetter,
            unit: "µs",
        },
        MetricHint {
            name: "latency_max_us",
            polarity: Polarity::LowerBetter,
            unit: "µs",
        },
    ])
    .with_default_checks(&[MetricCheck::exists("latency_max_us.0")]);

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_the_program_printed() {
        let text = include_str!("recorded/cyclictest.txt");
        let read = super::super::testing::read(&super::CYCLICTEST, text);
        insta::assert_compact_debug_snapshot!(read, @r#"[("latency_avg_us.0", 105.0, "µs"), ("latency_avg_us.1", 195.0, "µs"), ("latency_max_us.0", 866.0, "µs"), ("latency_max_us.1", 14052.0, "µs"), ("latency_min_us.0", 59.0, "µs"), ("latency_min_us.1", 63.0, "µs")]"#);
    }
}
