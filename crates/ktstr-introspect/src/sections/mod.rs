//! The sections of a capture, as one table: what a capture reads besides the BPF maps.
//!
//! To add a section, write a file here with the type, its reader, its text for people if it has one, and a unit test, which can
//! use the capture in `testing.rs`. Then add the file's `mod` and `pub use` and a row to this file. Fields, JSON, placeholders,
//! the capture, the getters of [`Snapshot`] and the text of `cargo ktstr show --capture` follow from the row.

mod generate;
mod section;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;

pub use section::{Section, SectionValue};
pub use text::QueueName;

use serde::{Deserialize, Serialize};

use crate::capture::CaptureOptions;
use crate::kernel::KernelView;
use crate::memory::GuestMemory;
use crate::report::{
    CgroupCpuStat, CgroupPsi, DsqState, EventCounterSample, FailureDumpMap, MAX_TASK_ENRICHMENTS,
    PerCpuTimeStats, PerNodeNumaStats, ProgRuntimeStats, RqScxState, SCHEMA_SINGLE, ScxSchedState,
    TaskEnrichment,
};
use crate::snapshot::{Snapshot, SnapshotResult, host_field};
use generate::{getter, section_value, sections, text, value};
use text::Lines;

/// What a reader of a section has: the stopped guest, the options of the capture, and the report with the sections of the rows
/// above its own.
pub(crate) struct Reading<'r, 'g, M: GuestMemory + ?Sized> {
    view: &'r KernelView<'g, M>,
    options: &'r CaptureOptions,
    report: &'r FailureDumpReport,
}

/// Calls the reader of a row. The closures of the table get the types of their arguments from here.
fn read<'r, 'g, M: GuestMemory + ?Sized, T, R: Into<Section<T>>>(
    at: &Reading<'r, 'g, M>,
    reader: impl FnOnce(&Reading<'r, 'g, M>) -> R,
) -> Section<T> {
    reader(at).into()
}

sections! {
    /// Run-time statistics of BPF programs.
    prog_runtime_stats / prog_runtime_stats_unavailable: [ProgRuntimeStats] {
        read: |at| at.view.prog_runtime_stats(),
        text: none,
    }
    /// CPU time by kind, one entry per CPU.
    per_cpu_time / per_cpu_time_unavailable: [PerCpuTimeStats] {
        read: |at| at.view.per_cpu_time(),
        text: none,
    }
    /// Pressure stall information, one entry per cgroup.
    cgroup_psi / cgroup_psi_unavailable: [CgroupPsi] {
        read: |at| at.view.cgroup_pressure(),
        text: none,
    }
    /// CPU time and throttling, one entry per cgroup except for the root.
    cgroup_cpu / cgroup_cpu_unavailable: [CgroupCpuStat] {
        read: |at| at.view.cgroup_cpu_stats(),
        text: none,
    }
    /// Allocation counters, one entry per NUMA node.
    per_node_numa / per_node_numa_unavailable: [PerNodeNumaStats] {
        read: |at| at.view.per_node_numa(),
        text: none,
    }
    /// Tasks of the guest, at most [`MAX_TASK_ENRICHMENTS`].
    task_enrichments / task_enrichments_unavailable: [TaskEnrichment] {
        read: |at| {
            let max = at.options.max_tasks.min(MAX_TASK_ENRICHMENTS);
            at.options.tasks.then(|| at.view.tasks(max))
        },
        text: none,
    }
    /// sched_ext event counters, oldest first.
    event_counter_timeline / event_counters_unavailable: [EventCounterSample] {
        read: |at| {
            let elapsed_ms = at.options.elapsed_ms;
            let counters = at.view.scx_event_counters();
            counters.map(|counters| vec![EventCounterSample { elapsed_ms, counters }])
        },
        text: none,
    }
    /// Runqueue and sched_ext state, one entry per CPU.
    rq_scx_states / rq_scx_states_unavailable: [RqScxState] {
        read: |at| at.view.runqueues(),
        text: text::runqueues,
    }
    /// Dispatch queues: those of every CPU, then the global ones, then the scheduler's own.
    dsq_states / dsq_states_unavailable: [DsqState] {
        read: |at| at.view.dsq_states(&at.report.rq_scx_states),
        text: text::queues,
    }
    /// State of the sched_ext core.
    scx_sched_state / scx_sched_state_unavailable: ScxSchedState {
        read: |at| at.view.scx_sched_state(),
        text: text::sched_ext,
    }
}
