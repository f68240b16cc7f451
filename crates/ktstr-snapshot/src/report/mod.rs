//! The data that is read from a guest: the content of one capture, samples of runqueues, and exit information.
//!
//! The names of a capture's fields are the schema of `captures.json`, the file in which a run keeps its captures. This module
//! neither reads memory nor judges. Use [`crate::snapshot`] to query a capture.

mod any;
mod map;
mod runqueue;
mod system;
mod value;

pub use any::{
    DegradedFailureDumpReport, DualFailureDumpReport, FailureDumpReportAny,
    REASON_DEGRADED_RENDEZVOUS_TIMEOUT, SCHEMA_DEGRADED, SCHEMA_DUAL,
};
pub use map::{
    ArenaSnapshot, FailureDumpArrayEntry, FailureDumpEntry, FailureDumpFdArray, FailureDumpMap,
    FailureDumpPercpuEntry, FailureDumpPercpuHashEntry, FailureDumpRingbuf, FailureDumpStack,
    FailureDumpStackTrace,
};
pub use runqueue::{RqCounts, RqSample, RqSchedstat, SchedDomain, ScxExit, WaitingTask, WaitsIn};
pub use system::{
    CgroupCpuStat, CgroupPsi, CpuStat, DsqState, EventCounterSample, PerCpuTimeStats,
    PerNodeNumaStats, ProgRuntimeStats, PsiLine, QueuedTask, RqScxState, ScxEventCounters,
    ScxSchedState, TaskEnrichment, Throttling,
};
pub use value::{RenderedMember, RenderedValue};

pub use crate::sections::*;

/// The value of [`FailureDumpReport::schema`] for a single capture.
pub const SCHEMA_SINGLE: &str = "single";

/// The largest number of [`FailureDumpReport::task_enrichments`].
pub const MAX_TASK_ENRICHMENTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip_keeps_everything() {
        let report = FailureDumpReport {
            maps: vec![FailureDumpMap {
                name: "bpf_bpf.bss".into(),
                value: Some(RenderedValue::Struct {
                    type_name: Some(".bss".into()),
                    members: vec![RenderedMember {
                        name: "nr_dispatched".into(),
                        value: RenderedValue::Uint {
                            bits: 64,
                            value: u64::MAX,
                        },
                    }],
                }),
                ..FailureDumpMap::default()
            }],
            ..FailureDumpReport::default()
        };
        let json = serde_json::to_string(&report).expect("serialises");
        assert!(json.contains(r#""kind":"uint""#), "{json}");
        assert!(json.contains(r#""schema":"single""#), "{json}");
        let back: FailureDumpReport = serde_json::from_str(&json).expect("parses");
        assert_eq!(back, report);
    }
}
