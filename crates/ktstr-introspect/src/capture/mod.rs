//! One capture: everything that a [`FailureDumpReport`] holds, read from a stopped guest.
//!
//! A capture never fails as a whole: each part is read separately, and if a part cannot be read, the report has the reason.

mod maps;
mod storage;

use std::fmt::Display;

use crate::kernel::KernelView;
use crate::memory::GuestMemory;
use crate::render::RenderLimits;
use crate::report::{EventCounterSample, FailureDumpReport, MAX_TASK_ENRICHMENTS};

/// The parts that a capture reads, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Whether the BPF maps are read, with their types and values.
    pub maps: bool,
    /// Whether the list of tasks is read.
    pub tasks: bool,
    /// The largest number of tasks.
    pub max_tasks: usize,
    /// The largest number of entries of one map.
    pub max_entries: usize,
    /// The largest number of bytes of one map's values that are read.
    pub max_map_bytes: u64,
    /// The largest number of bytes that are read for all maps and their types together.
    pub max_total_bytes: u64,
    /// The largest number of values that are rendered for all maps together.
    pub max_total_nodes: usize,
    /// The limits of each rendered value.
    pub limits: RenderLimits,
    /// Milliseconds since the start of the run, for the event counters.
    pub elapsed_ms: Option<u64>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            maps: true,
            tasks: true,
            max_tasks: MAX_TASK_ENRICHMENTS,
            max_entries: 1024,
            max_map_bytes: 1 << 20,
            max_total_bytes: 32 << 20,
            max_total_nodes: 1 << 20,
            limits: RenderLimits::default(),
            elapsed_ms: None,
        }
    }
}

/// Captures the guest behind `view`.
pub fn capture<M: GuestMemory + ?Sized>(
    view: &KernelView<'_, M>,
    options: &CaptureOptions,
) -> FailureDumpReport {
    let mut report = FailureDumpReport::default();
    if options.maps {
        maps::capture(view, options, &mut report);
    } else {
        report.maps_unavailable = Some("not asked for".to_owned());
        report.active_unavailable = Some("maps were not asked for".to_owned());
    }
    let unavailable = &mut report.rq_scx_states_unavailable;
    report.rq_scx_states = part(view.runqueues(), unavailable).unwrap_or_default();
    let dsqs = view.dsq_states(&report.rq_scx_states);
    if let Some((states, trouble)) = part(dsqs, &mut report.dsq_states_unavailable) {
        report.dsq_states = states;
        report.dsq_states_unavailable = trouble;
    }
    let unavailable = &mut report.scx_sched_state_unavailable;
    report.scx_sched_state = part(view.scx_sched_state(), unavailable);
    let counters = view.scx_event_counters();
    if let Some(counters) = part(counters, &mut report.event_counters_unavailable) {
        report.event_counter_timeline.push(EventCounterSample {
            elapsed_ms: options.elapsed_ms,
            counters,
        });
    }
    let unavailable = &mut report.per_cpu_time_unavailable;
    report.per_cpu_time = part(view.per_cpu_time(), unavailable).unwrap_or_default();
    let unavailable = &mut report.prog_runtime_stats_unavailable;
    report.prog_runtime_stats = part(view.prog_runtime_stats(), unavailable).unwrap_or_default();
    if options.tasks {
        let max = options.max_tasks.min(MAX_TASK_ENRICHMENTS);
        let unavailable = &mut report.task_enrichments_unavailable;
        if let Some((tasks, trouble)) = part(view.tasks(max), unavailable) {
            report.task_enrichments = tasks;
            report.task_enrichments_unavailable = trouble;
        }
    } else {
        report.task_enrichments_unavailable = Some("not asked for".to_owned());
    }
    let pressure = view.cgroup_pressure();
    if let Some((cgroups, trouble)) = part(pressure, &mut report.cgroup_psi_unavailable) {
        report.cgroup_psi = cgroups;
        report.cgroup_psi_unavailable = trouble;
    }
    let times = view.cgroup_cpu_stats();
    if let Some((cgroups, trouble)) = part(times, &mut report.cgroup_cpu_unavailable) {
        report.cgroup_cpu = cgroups;
        report.cgroup_cpu_unavailable = trouble;
    }
    let unavailable = &mut report.per_node_numa_unavailable;
    report.per_node_numa = part(view.per_node_numa(), unavailable).unwrap_or_default();
    report
}

/// Returns the value, or puts the text of the error into `unavailable`.
fn part<T, E: Display>(result: Result<T, E>, unavailable: &mut Option<String>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            *unavailable = Some(error.to_string());
            None
        }
    }
}
