//! fio: reads and writes files. The preset's file is on the guest's root file system, which is in memory.

use ktstr_assert::{MetricCheck, MetricHint, OutputFormat, Polarity};
use ktstr_scenario::payload::Payload;

/// `fio` with one job that writes a megabyte in random order. The metrics are the numbers of its JSON output, such as
/// `jobs.0.write.iops`; `bw` is in KiB per second.
pub const FIO: Payload = Payload::binary("fio", "fio")
    .with_default_args(&[
        "--output-format=json",
        "--name=job",
        "--rw=randwrite",
        "--size=1M",
        "--filename=/fio.data",
        "--thread",
    ])
    .with_output(OutputFormat::Json)
    .with_metrics(&[
        MetricHint {
            name: "jobs.0.write.iops",
            polarity: Polarity::HigherBetter,
            unit: "op/s",
        },
        MetricHint {
            name: "jobs.0.write.bw",
            polarity: Polarity::HigherBetter,
            unit: "KiB/s",
        },
        MetricHint {
            name: "jobs.0.write.lat_ns.mean",
            polarity: Polarity::LowerBetter,
            unit: "ns",
        },
    ])
    .with_default_checks(&[MetricCheck::exists("jobs.0.write.iops")]);

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_the_program_printed() {
        let read = super::super::testing::read(&super::FIO, include_str!("recorded/fio.txt"));
        insta::assert_compact_debug_snapshot!(read, @r#"[("jobs.0.write.bw", 512000.0, "KiB/s"), ("jobs.0.write.iops", 128000.0, "op/s"), ("jobs.0.write.lat_ns.mean", 6231.285156, "ns")]"#);
    }
}
