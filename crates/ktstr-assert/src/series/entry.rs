//! A stored capture, with the circumstances in which it was taken.

use ktstr_snapshot::report::FailureDumpReport;
use ktstr_snapshot::snapshot::MissingStatsReason;
use serde_json::Value;

/// The prefix of the tags of periodic captures.
pub const PERIODIC_TAG_PREFIX: &str = "periodic_";

/// A capture that was drained from the bridge (the store in which the host keeps captures).
#[derive(Clone, Debug)]
pub struct DrainedSnapshotEntry {
    /// The tag under which the capture was stored.
    pub tag: String,
    /// The contents of the capture, or a placeholder if nothing could be read.
    pub report: FailureDumpReport,
    /// The scheduler's own statistics, which are requested just before the capture, or the reason why there are none.
    pub stats: Result<Value, MissingStatsReason>,
    /// Guest milliseconds since the scenario started. The time of setup, of teardown and of waits for a scheduler that attaches
    /// again does not count, and captures take no guest time. `None` if unknown.
    pub elapsed_ms: Option<u64>,
    /// The time at which a periodic capture was due, in milliseconds on the same clock as `elapsed_ms`. `None` for other
    /// captures.
    pub boundary_offset_ms: Option<u64>,
    /// The step during which the capture was taken; 0 is the baseline, and `None` means unknown.
    pub step_index: Option<u16>,
}

impl DrainedSnapshotEntry {
    /// Creates a capture for which only the tag and the contents are known.
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

    /// Whether this is a periodic capture.
    pub fn is_periodic(&self) -> bool {
        self.tag.starts_with(PERIODIC_TAG_PREFIX)
    }
}
