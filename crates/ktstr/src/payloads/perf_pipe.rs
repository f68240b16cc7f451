//! `perf bench sched pipe`: two processes that wake each other through two pipes.

use ktstr_assert::{MetricCheck, MetricHint, MetricPattern, OutputFormat, Polarity};
use ktstr_scenario::payload::Payload;

/// `perf bench sched pipe` with 1000 round trips. The metrics are `us_per_op`, the microseconds per round trip, and
/// `ops_per_s`.
pub const PERF_PIPE: Payload = Payload::binary("perf_pipe", "perf")
    .with_default_args(&["bench", "sched", "pipe", "-l", "1000"])
    .with_output(OutputFormat::Patterns(&[
        MetricPattern {
            name: "us_per_op",
            regex: r"([0-9.]+) usecs/op",
        },
        MetricPattern {
            name: "ops_per_s",
            regex: r"([0-9.]+) ops/sec",
        },
    ]))
    .with_metrics(&[
        MetricHint {
            name: "us_per_op",
            polarity: Polarity::LowerBetter,
            unit: "µs",
        },
        MetricHint {
            name: "ops_per_s",
            polarity: Polarity::HigherBetter,
            unit: "op/s",
        },
    ])
    .with_default_checks(&[MetricCheck::exists("us_per_op")]);

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_the_program_printed() {
        let text = include_str!("recorded/perf_pipe.txt");
        let read = super::super::testing::read(&super::PERF_PIPE, text);
        insta::assert_compact_debug_snapshot!(read, @r#"[("ops_per_s", 49409.0, "op/s"), ("us_per_op", 20.239, "µs")]"#);
    }
}
