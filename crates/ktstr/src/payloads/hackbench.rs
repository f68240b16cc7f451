//! hackbench from rt-tests: groups of processes that send each other messages, which causes many wakeups and
//! migrations.

use ktstr_assert::{MetricCheck, MetricHint, MetricPattern, OutputFormat, Polarity};
use ktstr_scenario::payload::Payload;

/// `hackbench` with one group of 20 senders and 20 receivers, in which each sender sends each receiver 100 messages. The metric
/// is `time_s`, the seconds for all messages.
/// hackbench uses the last of repeated arguments, so `.args(["-g", "4"])` runs four groups.
pub const HACKBENCH: Payload = Payload::binary("hackbench", "hackbench")
    .with_default_args(&["-g", "1", "-l", "100"])
    .with_output(OutputFormat::Patterns(&[MetricPattern {
        name: "time_s",
        regex: r"(?m)^Time: ([0-9.]+)$",
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
        let read =
            super::super::testing::read(&super::HACKBENCH, include_str!("recorded/hackbench.txt"));
        insta::assert_compact_debug_snapshot!(read, @r#"[("time_s", 0.281, "s")]"#);
    }
}
