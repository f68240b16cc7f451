//! `perf bench sched messaging`: perf's version of hackbench.

use ktstr_assert::{MetricCheck, MetricHint, MetricPattern, OutputFormat, Polarity};
use ktstr_scenario::payload::Payload;

/// `perf bench sched messaging` with one group of 20 senders and 20 receivers, in which each sender sends each receiver 50
/// messages. The metric is `time_s`, the seconds for all messages.
pub const PERF_MESSAGING: Payload = Payload::binary("perf_messaging", "perf")
    .with_default_args(&["bench", "sched", "messaging", "-g", "1", "-l", "50"])
    .with_output(OutputFormat::Patterns(&[MetricPattern {
        name: "time_s",
        regex: r"Total time: ([0-9.]+) \[sec\]",
    }]))
    .with_metrics(&[MetricHint {
        name: "time_s",
        polarity: Polarity::LowerBetter,
        unit: "s",
    }])
    .with_default_checks(&[MetricCheck::exists("time_s")]);

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_the_program_printed() {
        let text = include_str!("recorded/perf_messaging.txt");
        let read = super::super::testing::read(&super::PERF_MESSAGING, text);
        insta::assert_compact_debug_snapshot!(read, @r#"[("time_s", 0.161, "s")]"#);
    }
}
