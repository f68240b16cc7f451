//! The content of one capture, as plain serde data.
//!
//! The names of the fields are the schema of the captures among a run's artefacts. This module neither reads memory nor judges:
//! [`crate::capture`] creates the data and [`crate::snapshot`] queries it.

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
    FailureDumpPercpuEntry, FailureDumpPercpuHashEntry, FailureDumpRingbuf, FailureDumpStackTrace,
};
pub use runqueue::{RqCounts, RqSample, RqSchedstat, SchedDomain, ScxExit, WaitingTask, WaitsIn};
pub use system::{
    CgroupCpuStat, CgroupPsi, CpuStat, DsqState, EventCounterSample, PerCpuTimeStats,
    PerNodeNumaStats, ProgRuntimeStats, PsiLine, QueuedTask, RqScxState, ScxEventCounters,
    ScxSchedState, TaskEnrichment, Throttling,
};
pub use value::{RenderedMember, RenderedValue};

use serde::{Deserialize, Serialize};

/// The value of [`FailureDumpReport::schema`] for a single capture.
pub const SCHEMA_SINGLE: &str = "single";

/// The largest number of [`FailureDumpReport::task_enrichments`].
pub const MAX_TASK_ENRICHMENTS: usize = 4096;

/// One capture of a guest: its BPF maps and the kernel state around them.
///
/// A part that could not be read is empty and the matching `*_unavailable` says why; the capture as a whole never fails.
/// [`FailureDumpReport::placeholder`] represents a capture that could not be made at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpReport {
    /// Always [`SCHEMA_SINGLE`] for this type.
    pub schema: String,
    /// The BPF maps of the guest, in the order of their ids.
    pub maps: Vec<FailureDumpMap>,
    /// Why `maps` is empty, if the walk failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maps_unavailable: Option<String>,
    /// Object-name prefix of the maps of the attached scheduler (`bpf_bpf` for `bpf_bpf.bss`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_obj_name: Option<String>,
    /// Kernel addresses of the maps that the attached scheduler uses.
    pub active_map_kvas: Vec<u64>,
    /// Why `active_obj_name` is absent: no scheduler is attached, or it could not be determined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_unavailable: Option<String>,
    /// Run-time statistics of BPF programs.
    pub prog_runtime_stats: Vec<ProgRuntimeStats>,
    /// Why `prog_runtime_stats` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prog_runtime_stats_unavailable: Option<String>,
    /// CPU time by kind, one entry per CPU.
    pub per_cpu_time: Vec<PerCpuTimeStats>,
    /// Why `per_cpu_time` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_cpu_time_unavailable: Option<String>,
    /// Pressure stall information, one entry per cgroup.
    pub cgroup_psi: Vec<CgroupPsi>,
    /// Why `cgroup_psi` is empty or incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_psi_unavailable: Option<String>,
    /// CPU time and throttling, one entry per cgroup except for the root.
    pub cgroup_cpu: Vec<CgroupCpuStat>,
    /// Why `cgroup_cpu` is empty or incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_cpu_unavailable: Option<String>,
    /// Allocation counters, one entry per NUMA node.
    pub per_node_numa: Vec<PerNodeNumaStats>,
    /// Why `per_node_numa` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_node_numa_unavailable: Option<String>,
    /// Tasks of the guest, at most [`MAX_TASK_ENRICHMENTS`].
    pub task_enrichments: Vec<TaskEnrichment>,
    /// Why `task_enrichments` is empty or incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_enrichments_unavailable: Option<String>,
    /// sched_ext event counters, oldest first.
    pub event_counter_timeline: Vec<EventCounterSample>,
    /// Why `event_counter_timeline` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_counters_unavailable: Option<String>,
    /// Runqueue and sched_ext state, one entry per CPU.
    pub rq_scx_states: Vec<RqScxState>,
    /// Why `rq_scx_states` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rq_scx_states_unavailable: Option<String>,
    /// Dispatch queues: those of every CPU, then the global ones, then the scheduler's own.
    pub dsq_states: Vec<DsqState>,
    /// Why `dsq_states` is empty or incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dsq_states_unavailable: Option<String>,
    /// State of the sched_ext core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scx_sched_state: Option<ScxSchedState>,
    /// Why `scx_sched_state` is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scx_sched_state_unavailable: Option<String>,
    /// Whether the list of maps was cut at the cap.
    pub maps_truncated: bool,
    /// Whether this stands for a capture that could not be made; see `placeholder_reason`.
    pub is_placeholder: bool,
    /// Why there was no capture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placeholder_reason: Option<String>,
}

impl Default for FailureDumpReport {
    fn default() -> Self {
        Self {
            schema: SCHEMA_SINGLE.to_owned(),
            maps: Vec::new(),
            maps_unavailable: None,
            active_obj_name: None,
            active_map_kvas: Vec::new(),
            active_unavailable: None,
            prog_runtime_stats: Vec::new(),
            prog_runtime_stats_unavailable: None,
            per_cpu_time: Vec::new(),
            per_cpu_time_unavailable: None,
            cgroup_psi: Vec::new(),
            cgroup_psi_unavailable: None,
            cgroup_cpu: Vec::new(),
            cgroup_cpu_unavailable: None,
            per_node_numa: Vec::new(),
            per_node_numa_unavailable: None,
            task_enrichments: Vec::new(),
            task_enrichments_unavailable: None,
            event_counter_timeline: Vec::new(),
            event_counters_unavailable: None,
            rq_scx_states: Vec::new(),
            rq_scx_states_unavailable: None,
            dsq_states: Vec::new(),
            dsq_states_unavailable: None,
            scx_sched_state: None,
            scx_sched_state_unavailable: None,
            maps_truncated: false,
            is_placeholder: false,
            placeholder_reason: None,
        }
    }
}

impl FailureDumpReport {
    /// Returns a placeholder for a capture that could not be made, with the reason.
    pub fn placeholder(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let because = || Some(format!("placeholder: {reason}"));
        Self {
            maps_unavailable: because(),
            active_unavailable: because(),
            prog_runtime_stats_unavailable: because(),
            per_cpu_time_unavailable: because(),
            cgroup_psi_unavailable: because(),
            cgroup_cpu_unavailable: because(),
            per_node_numa_unavailable: because(),
            task_enrichments_unavailable: because(),
            event_counters_unavailable: because(),
            rq_scx_states_unavailable: because(),
            dsq_states_unavailable: because(),
            scx_sched_state_unavailable: because(),
            is_placeholder: true,
            placeholder_reason: Some(reason),
            ..Self::default()
        }
    }
}

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

    #[test]
    fn a_placeholder_has_its_reason_in_every_part() {
        let report = FailureDumpReport::placeholder("guest is gone");
        assert!(report.is_placeholder);
        assert_eq!(report.placeholder_reason.as_deref(), Some("guest is gone"));
        assert_eq!(
            report.maps_unavailable.as_deref(),
            Some("placeholder: guest is gone")
        );
    }
}
