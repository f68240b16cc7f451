//! stress-ng: stressors of many kinds, each of which counts its iterations as bogo operations.

use ktstr_assert::{MetricCheck, MetricHint, MetricPattern, OutputFormat, Polarity};
use ktstr_scenario::payload::Payload;

/// `stress-ng` with one CPU stressor for one second. The metrics are `bogo_ops`, `bogo_ops_per_s` of real time and
/// `bogo_ops_per_cpu_s` of CPU time, each followed by a dot and the name of a stressor, as in `bogo_ops.cpu`. Other
/// stressors are selected by arguments: `.args(["--switch", "2"])`.
pub const STRESS_NG: Payload = Payload::binary("stress_ng", "stress-ng")
    .with_default_args(&["--metrics-brief", "-t", "1s", "--cpu", "1"])
    .with_output(OutputFormat::Patterns(&[
        MetricPattern {
            name: "bogo_ops",
            regex: r"(?m)metrc: \[\d+\] (?P<key>\S+) +(?P<value>\d+)(?: +[\d.]+){5}$",
        },
        MetricPattern {
            name: "bogo_ops_per_s",
            regex: r"(?m)metrc: \[\d+\] (?P<key>\S+) +\d+(?: +[\d.]+){3} +(?P<value>[\d.]+) +[\d.]+$",
        },
        MetricPattern {
            name: "bogo_ops_per_cpu_s",
            regex: r"(?m)metrc: \[\d+\] (?P<key>\S+) +\d+(?: +[\d.]+){4} +(?P<value>[\d.]+)$",
        },
    ]))
    .with_metrics(&[
        MetricHint {
            name: "bogo_ops",
            polarity: Polarity::HigherBetter,
            unit: "op",
        },
        MetricHint {
            name: "bogo_ops_per_s",
            polarity: Polarity::HigherBetter,
            unit: "op/s",
        },
        MetricHint {
            name: "bogo_ops_per_cpu_s",
            polarity: Polarity::HigherBetter,
            unit: "op/cpu-s",
        },
    ])
    .with_default_checks(&[MetricCheck::exists("bogo_ops.cpu")]);

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_the_program_printed() {
        let text = include_str!("recorded/stress_ng.txt");
        let read = super::super::testing::read(&super::STRESS_NG, text);
        insta::assert_compact_debug_snapshot!(read, @r#"[("bogo_ops.cpu", 221.0, "op"), ("bogo_ops.switch", 113784.0, "op"), ("bogo_ops_per_cpu_s.cpu", 1148.18, "op/cpu-s"), ("bogo_ops_per_cpu_s.switch", 158579.11, "op/cpu-s"), ("bogo_ops_per_s.cpu", 219.16, "op/s"), ("bogo_ops_per_s.switch", 113707.31, "op/s")]"#);
    }
}
