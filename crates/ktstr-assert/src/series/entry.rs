//! One stored capture with what was known when it was made.

use ktstr_introspect::report::FailureDumpReport;
use ktstr_introspect::snapshot::MissingStatsReason;
use serde_json::Value;

/// Tags of periodic captures begin with this.
pub const PERIODIC_TAG_PREFIX: &str = "periodic_";

/// One capture as it leaves the bridge.
#[derive(Clone, Debug)]
pub struct DrainedSnapshotEntry {
    /// The name it was stored under.
    pub tag: String,
    /// What was captured; a placeholder when nothing could be.
    pub report: FailureDumpReport,
    /// The scheduler's own statistics, taken just before, or why there are none.
    pub stats: Result<Value, MissingStatsReason>,
    /// Guest milliseconds since the scenario started, pauses taken out.
    pub elapsed_ms: Option<u64>,
    /// For a periodic capture: where its boundary lay, in milliseconds since the window's start.
    pub boundary_offset_ms: Option<u64>,
    /// The step that was live: 0 is the baseline.
    pub step_index: Option<u16>,
}

impl DrainedSnapshotEntry {
    /// A capture of which nothing but tag and content is known.
    pub fn new(tag: impl Into<String>, report: FailureDumpReport) -> Self {
        DrainedSnapshotEntry {
            tag: tag.into(),
            report,
            stats: Err(MissingStatsReason::NoSchedulerBinary),
            elapsed_ms: None,
            boundary_offset_ms: None,
            step_index: None,
        }
    }

    /// Whether it was made at a boundary of the window.
    pub fn is_periodic(&self) -> bool {
        self.tag.starts_with(PERIODIC_TAG_PREFIX)
    }
}
