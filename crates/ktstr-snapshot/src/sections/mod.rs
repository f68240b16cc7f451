//! The sections of a capture, as one table: what a capture holds besides the BPF maps.
//!
//! To add a section, add a row to the table and, in this file or in [`crate::report`], its type; if the section has a text
//! for people, also the function that writes it, in this file or in `text.rs`. Fields, JSON, placeholders, the getters of
//! [`Snapshot`] and the text of `cargo ktstr show --capture` follow from the row. `ktstr-introspect` does not compile until
//! it implements [`ReadSection`](crate::ReadSection) for the type.

mod generate;
mod section;
#[cfg(test)]
mod tests;
mod text;

pub use section::{Section, SectionValue};
pub use text::QueueName;

use serde::{Deserialize, Serialize};

use crate::report::{
    CgroupCpuStat, CgroupPsi, DsqState, EventCounterSample, FailureDumpMap, PerCpuTimeStats,
    PerNodeNumaStats, ProgRuntimeStats, RqScxState, SCHEMA_SINGLE, ScxSchedState, TaskEnrichment,
};
use crate::snapshot::{Snapshot, SnapshotResult, host_field};
use generate::{getter, section_value, sections, text, value};
use text::Lines;

sections! {
    /// Run-time statistics of BPF programs.
    prog_runtime_stats / prog_runtime_stats_unavailable: [ProgRuntimeStats] { text: none }
    /// CPU time by kind, one entry per CPU.
    per_cpu_time / per_cpu_time_unavailable: [PerCpuTimeStats] { text: none }
    /// Pressure stall information, one entry per cgroup.
    cgroup_psi / cgroup_psi_unavailable: [CgroupPsi] { text: none }
    /// CPU time and throttling, one entry per cgroup except for the root.
    cgroup_cpu / cgroup_cpu_unavailable: [CgroupCpuStat] { text: none }
    /// Allocation counters, one entry per NUMA node.
    per_node_numa / per_node_numa_unavailable: [PerNodeNumaStats] { text: none }
    /// Tasks of the guest, at most [`MAX_TASK_ENRICHMENTS`](crate::report::MAX_TASK_ENRICHMENTS).
    task_enrichments / task_enrichments_unavailable: [TaskEnrichment] { text: none }
    /// sched_ext event counters, oldest first.
    event_counter_timeline / event_counters_unavailable: [EventCounterSample] { text: none }
    /// Runqueue and sched_ext state, one entry per CPU.
    rq_scx_states / rq_scx_states_unavailable: [RqScxState] { text: text::runqueues }
    /// Dispatch queues: those of every CPU, then the global ones, then the scheduler's own.
    dsq_states / dsq_states_unavailable: [DsqState] { text: text::queues }
    /// State of the sched_ext core.
    scx_sched_state / scx_sched_state_unavailable: ScxSchedState { text: text::sched_ext }
}
