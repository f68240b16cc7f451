//! sysbench's CPU test: threads that search for prime numbers.

use ktstr_assert::{MetricCheck, MetricHint, MetricPattern, OutputFormat, Polarity};
use ktstr_scenario::payload::Payload;

/// `sysbench cpu` with two threads for one second. The metrics are `events_per_s`, and the `latency_ms` of an event,
/// followed by a dot and `min`, `avg`, `max` or `p95`.
pub const SYSBENCH_CPU: Payload = Payload::binary("sysbench_cpu", "sysbench")
    .with_default_args(&["cpu", "run", "--threads=2", "--time=1"])
    .with_output(OutputFormat::Patterns(&[
        MetricPattern {
            name: "events_per_s",
            regex: r"events per second: +([0-9.]+)",
        },
        MetricPattern {
            name: "latency_ms",
            regex: r"(?m)^ +(?P<key>min|avg|max): +(?P<value>[0-9.]+)$",
        },
        MetricPattern {
            name: "latency_ms.p95",
            regex: r"(?m)^ +95th percentile: +([0-9.]+)$",
        },
    ]))
    .with_metrics(&[
        MetricHint {
            name: "events_per_s",
            polarity: Polarity::HigherBetter,
            unit: "event/s",
        },
        MetricHint {
            name: "latency_ms",
            polarity: Polarity::LowerBetter,
            unit: "ms",
        },
    ])
    .with_default_checks(&[MetricCheck::exists("events_per_s")]);

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_the_program_printed() {
        let text = include_str!("recorded/sysbench_cpu.txt");
        let read = super::super::testing::read(&super::SYSBENCH_CPU, text);
        insta::assert_compact_debug_snapshot!(read, @r#"[("events_per_s", 1313.28, "event/s"), ("latency_ms.avg", 1.34, "ms"), ("latency_ms.max", 198.93, "ms"), ("latency_ms.min", 0.27, "ms"), ("latency_ms.p95", 8.28, "ms")]"#);
    }
}
