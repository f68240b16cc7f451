//! Captures of moments that matter: taken because something happened, and not because they were due or asked for.

use std::time::Duration;

pub use ktstr_record::CaptureMoment;

use ktstr_introspect::report::FailureDumpReport;
use ktstr_introspect::snapshot::Snapshot;

/// A capture that was taken because something happened in the guest. It is no part of the run's series of captures, so
/// that what a test computes of those is the same with and without it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MomentCapture {
    /// What happened at the moment of the capture.
    pub moment: CaptureMoment,
    /// Its name in the run's record: that of the moment, with a number from the second one on.
    pub tag: String,
    /// When, since the workload window opened, in milliseconds of guest time; `None` outside of the window.
    pub elapsed_ms: Option<u64>,
    /// When, in nanoseconds of the scheduler's clock; `None` where no schedule is recorded.
    pub clock_ns: Option<u64>,
    /// The step that was live: 0 is before the first one.
    pub step_index: u16,
    /// Host time that the guest stood still for it.
    pub freeze: Duration,
    /// The state of kernel and scheduler at the moment.
    pub report: FailureDumpReport,
}

impl MomentCapture {
    /// The capture, to be asked for variables, queues and tasks.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::new(&self.report)
    }
}
