//! Captures that are taken at a [`CaptureMoment`]: an event in the guest, or a time that the user or a repeat requests. Periodic
//! captures, and those that operations of a test take, are no part of this file.

use std::time::Duration;

pub use ktstr_record::CaptureMoment;

use ktstr_snapshot::report::FailureDumpReport;
use ktstr_snapshot::snapshot::Snapshot;

/// A capture that was taken at a [`CaptureMoment`]. It is no part of the run's series of captures, so that whatever a test
/// computes from the series is the same with and without it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MomentCapture {
    /// What happened at the moment of the capture.
    pub moment: CaptureMoment,
    /// The capture's name in the run's record, which is the tag of the moment. From the second capture of the same kind of moment
    /// on, a number follows the tag, as in `scx_exit_2`.
    pub tag: String,
    /// The time of the capture, in milliseconds of guest time since the workload window opened; `None` outside of the window.
    pub elapsed_ms: Option<u64>,
    /// The time of the last event before the capture, in nanoseconds of the kernel's scheduler clock, which is the clock of
    /// `schedule.bin`; `None` without a schedule.
    pub clock_ns: Option<u64>,
    /// The phase in which the capture was taken: 0 is before the first step, 1 is the first step.
    pub step_index: u16,
    /// The host time for which the guest was frozen for the capture.
    pub freeze: Duration,
    /// The state of kernel and scheduler at the moment.
    pub report: FailureDumpReport,
}

impl MomentCapture {
    /// Returns a view of the capture, for access to its variables, queues and tasks.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::new(&self.report)
    }
}
