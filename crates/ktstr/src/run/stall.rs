//! The stall detector: decides when to give up on a guest, and whether the guest hangs or its host is too slow.
//!
//! Wall time alone would blame the wrong party, because a healthy guest is slow on a busy host. A stall is therefore
//! measured in the CPU time that the host gave to QEMU. A guest that makes no progress although it consumes CPU time,
//! or that stays idle without progress, hangs; a guest that gets too little CPU time has a slow host.

use std::time::{Duration, Instant};

use ktstr_snapshot::report::TaskEnrichment;

use crate::vm_result::WatchdogKillReason;

/// A guest is idle if its CPU time is below this share of wall time.
const IDLE_SHARE: f64 = 0.02;
/// An idle guest without progress counts as wedged if the stall is longer than the patience by this much wall time: timers
/// wake an idle guest for housekeeping, after which it may go on.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// A stall whose wall time is this many times the patience shows that the host is too slow.
const DEAD_MAN_FACTOR: u32 = 10;

/// A test may send nothing for this much longer than its duration or its watchdog's timeout, whichever is longer.
pub(super) const MARGIN: Duration = Duration::from_secs(15);

/// Measures the time since the last sign of progress.
#[derive(Debug)]
pub(super) struct StallDetector {
    /// The number of threads that execute vCPUs and that the host can run at once.
    width: f64,
    /// The time of the last progress, and QEMU's CPU time until then.
    since: Instant,
    cpu_then: Duration,
    /// The last value of the number that shows progress.
    seen: u64,
}

/// The state of a guest when the host gave up on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StallReport {
    /// The latest guest time that was observed; `None` under the real clock.
    pub(super) guest_clock: Option<Duration>,
    /// Wall time since the machine's last sign of progress: a message or, under the virtual clock, an advance of the clock.
    pub(super) wall: Duration,
    /// The CPU time that QEMU got from the host during `wall`.
    pub(super) cpu_used: Duration,
    /// The CPU time of each vCPU since the guest's last message that showed progress, as far as the host can report it; empty
    /// under the virtual clock, where one thread executes all vCPUs.
    pub(super) vcpus: Vec<Duration>,
    /// The number of the guest's CPUs.
    pub(super) cpus: u32,
    /// The current task of each of the guest's CPUs, if the guest's memory can be read.
    pub(super) tasks: Vec<String>,
    /// How long the test may send nothing; `None` before the test process has started.
    pub(super) limit: Option<Duration>,
    /// The guest's processes and threads, if its memory can be read.
    pub(super) processes: Vec<TaskEnrichment>,
}

/// The time since the last progress.
pub(super) struct Elapsed {
    /// The time on the host's clock.
    pub(super) wall: Duration,
    /// The CPU time that QEMU has used.
    pub(super) cpu: Duration,
}

impl StallDetector {
    /// Creates the detector for a machine whose vCPUs keep at most `threads` CPUs of the host busy.
    pub(super) fn new(threads: u32) -> Self {
        Self {
            width: f64::from(threads.max(1)),
            since: Instant::now(),
            cpu_then: Duration::ZERO,
            seen: 0,
        }
    }

    /// Notes that the machine may use at most `cpus` CPUs of the host.
    pub(super) fn limit(&mut self, cpus: u32) {
        self.width = self.width.min(f64::from(cpus.max(1)));
    }

    /// Returns the time since the last progress. `cpu` is QEMU's total CPU time until now.
    pub(super) fn since_progress(&self, cpu: Duration) -> Elapsed {
        Elapsed {
            wall: self.since.elapsed(),
            cpu: cpu.saturating_sub(self.cpu_then),
        }
    }

    /// Judges the time without progress. `progress` is any number that changes when the guest makes progress, `cpu` is
    /// QEMU's total CPU time, and `patience` is how long the guest may make no progress at this stage, if the host runs it
    /// at full speed. Returns the reason to give up on the guest; `None` to wait on.
    pub(super) fn check(
        &mut self,
        progress: u64,
        cpu: Duration,
        patience: Duration,
    ) -> Option<WatchdogKillReason> {
        if progress != self.seen {
            self.seen = progress;
            self.since = Instant::now();
            self.cpu_then = cpu;
            return None;
        }
        let elapsed = self.since_progress(cpu);
        judge(elapsed.wall, elapsed.cpu, patience, self.width)
    }
}

/// Returns the reason to give up on a guest that has `stalled` for this much wall time, in which QEMU used so much CPU time.
fn judge(
    stalled: Duration,
    cpu_used: Duration,
    patience: Duration,
    width: f64,
) -> Option<WatchdogKillReason> {
    if cpu_used.as_secs_f64() > patience.as_secs_f64() * width {
        return Some(WatchdogKillReason::Tier1CpuBudget);
    }
    let idle = cpu_used.as_secs_f64() < stalled.as_secs_f64() * IDLE_SHARE;
    if idle && stalled > patience.saturating_add(IDLE_LIMIT) {
        return Some(WatchdogKillReason::Tier2IdleWedge);
    }
    (stalled > patience.saturating_mul(DEAD_MAN_FACTOR)).then_some(WatchdogKillReason::Tier3Deadman)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_host_is_not_a_hung_guest() {
        // The guest runs far slower than real time but still works, so the host waits.
        assert_eq!(judge(100 * S, 15 * S, 20 * S, 2.0), None);
        // In the end the host is at fault.
        assert_eq!(
            judge(201 * S, 15 * S, 20 * S, 2.0),
            Some(WatchdogKillReason::Tier3Deadman)
        );
    }

    #[test]
    fn a_patience_without_end_is_never_exhausted() {
        assert_eq!(judge(201 * S, 401 * S, Duration::MAX, 2.0), None);
    }

    #[test]
    fn full_cpu_use_without_progress_is_a_hang() {
        assert_eq!(
            judge(21 * S, 41 * S, 20 * S, 2.0),
            Some(WatchdogKillReason::Tier1CpuBudget)
        );
    }

    #[test]
    fn a_machine_that_may_use_one_cpu_is_judged_by_one() {
        let mut detector = StallDetector::new(16);
        detector.limit(1);
        assert_eq!(
            judge(30 * S, 28 * S, 27 * S, detector.width),
            Some(WatchdogKillReason::Tier1CpuBudget)
        );
    }

    #[test]
    fn an_idle_guest_without_progress_is_a_wedge() {
        assert_eq!(judge(39 * S, S / 10, 20 * S, 2.0), None);
        assert_eq!(
            judge(41 * S, S / 10, 20 * S, 2.0),
            Some(WatchdogKillReason::Tier2IdleWedge)
        );
    }
}
