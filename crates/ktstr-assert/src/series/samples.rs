//! The series of captures of a run.

use super::{DrainedSnapshotEntry, HostView, MonitorView};
use crate::monitor::MonitorReport;
use crate::stimulus::StimulusEvent;
use ktstr_snapshot::report::FailureDumpReport;
use ktstr_snapshot::snapshot::{MissingStatsReason, Snapshot};
use serde_json::Value;
use std::collections::BTreeMap;

/// The captures in the order in which they were taken, and the monitor's report for the same run if there is one.
#[derive(Clone, Debug, Default)]
pub struct SampleSeries {
    pub(super) entries: Vec<DrainedSnapshotEntry>,
    monitor: Option<MonitorReport>,
}

/// A capture of a series.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    /// The tag under which the capture was stored.
    pub tag: &'a str,
    /// Guest milliseconds since the scenario started. The time of setup, of teardown and of waits for a scheduler that attaches
    /// again does not count, and captures take no guest time. `None` if unknown.
    pub elapsed_ms: Option<u64>,
    /// The contents of the capture.
    pub snapshot: Snapshot<'a>,
    /// The scheduler's own statistics, or the reason why there are none.
    pub stats: Result<&'a Value, &'a MissingStatsReason>,
    /// The step during which the capture was taken; 0 is the baseline, and `None` means unknown.
    pub step_index: Option<u16>,
    /// The time at which a periodic capture was due, in milliseconds since the start of the workload window;
    /// `None` for other captures.
    pub boundary_offset_ms: Option<u64>,
}

/// The input of [`SampleSeries::from_drained`]: tag, report, statistics and elapsed milliseconds.
pub type DrainedTuple = (String, FailureDumpReport, Option<Value>, Option<u64>);

impl SampleSeries {
    /// Creates a series of captures whose steps and due times are unknown.
    pub fn from_drained(drained: Vec<DrainedTuple>, monitor: Option<MonitorReport>) -> Self {
        let entry = |(tag, report, stats, elapsed_ms): DrainedTuple| DrainedSnapshotEntry {
            stats: stats.ok_or(MissingStatsReason::NoSchedulerBinary),
            elapsed_ms,
            ..DrainedSnapshotEntry::new(tag, report)
        };
        Self::from_drained_typed(drained.into_iter().map(entry).collect(), monitor)
    }

    /// Creates a series of the captures that were drained from the bridge (the store in which the host keeps captures).
    pub fn from_drained_typed(
        entries: Vec<DrainedSnapshotEntry>,
        monitor: Option<MonitorReport>,
    ) -> Self {
        SampleSeries { entries, monitor }
    }

    /// Creates a series without captures.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Whether there are no captures.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the captures as they were drained, in order.
    pub fn entries(&self) -> &[DrainedSnapshotEntry] {
        &self.entries
    }

    /// Returns the number of captures, including placeholders for captures that could not be read.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps only the periodic captures.
    pub fn periodic_only(mut self) -> Self {
        self.entries.retain(DrainedSnapshotEntry::is_periodic);
        self
    }

    /// Returns a copy with only the periodic captures.
    pub fn periodic_ref(&self) -> SampleSeries {
        let periodic = self.entries.iter().filter(|e| e.is_periodic());
        SampleSeries {
            entries: periodic.cloned().collect(),
            monitor: self.monitor.clone(),
        }
    }

    /// Returns the monitor's view of the same run; `None` without a monitor.
    pub fn monitor(&self) -> Option<MonitorView<'_>> {
        self.monitor.as_ref().map(MonitorView::new)
    }

    /// Returns a view of the guest's CPU times (`kernel_cpustat`), which the host reads; `None` if no capture contains them.
    pub fn host(&self) -> Option<HostView<'_>> {
        HostView::of(self)
    }

    /// Returns the captures in order.
    pub fn iter_samples(&self) -> impl Iterator<Item = Sample<'_>> {
        self.entries.iter().map(|e| Sample {
            tag: &e.tag,
            elapsed_ms: e.elapsed_ms,
            snapshot: Snapshot::new(&e.report),
            stats: e.stats.as_ref(),
            step_index: e.step_index,
            boundary_offset_ms: e.boundary_offset_ms,
        })
    }

    /// Groups the captures by the step with which they were stamped. A capture without a stamp counts as baseline.
    pub fn by_stamped_phase(&self) -> BTreeMap<u16, Vec<Sample<'_>>> {
        let mut by: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for s in self.iter_samples() {
            by.entry(s.step_index.unwrap_or(0)).or_default().push(s);
        }
        by
    }

    /// Groups the captures by the last step that had started when they were taken, or 0 before the first step. If the
    /// time of a capture is unknown, or if no event starts a step, the stamp of the capture decides; a capture without
    /// a stamp then counts as baseline.
    pub fn by_stimulus_phase(&self, events: &[StimulusEvent]) -> BTreeMap<u16, Vec<Sample<'_>>> {
        let mut starts: Vec<(u64, u16)> = events
            .iter()
            .filter(|e| e.is_step_start())
            .filter_map(|e| Some((e.elapsed_ms, e.step_index?)))
            .collect();
        starts.sort_unstable();
        let mut by: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for s in self.iter_samples() {
            let step = match s.elapsed_ms {
                Some(at) if !starts.is_empty() => {
                    let started = starts.partition_point(|(start, _)| *start <= at);
                    started.checked_sub(1).map_or(0, |last| starts[last].1)
                }
                _ => s.step_index.unwrap_or(0),
            };
            by.entry(step).or_default().push(s);
        }
        by
    }
}
