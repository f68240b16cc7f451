//! The stall detector: decides when to give up on a guest, and whose fault that is.
//!
//! Wall time alone would blame the wrong party, because a healthy guest is slow on a busy host. A stall is therefore
//! measured in the CPU time that the host gave to QEMU. A guest that makes no progress although it consumes CPU time,
//! or that stays idle without progress, hangs; a guest that simply gets no CPU time has a slow host.

use std::time::{Duration, Instant};

use ktstr_introspect::report::TaskEnrichment;

use crate::vm_result::WatchdogKillReason;

/// A guest is idle if its CPU time is below this share of wall time.
const IDLE_SHARE: f64 = 0.02;
/// An idle guest is woken by timers for housekeeping, so only a long idle stall is a wedge.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// How many times longer than guest time a stall may last in wall time before the host counts as too slow.
const DEAD_MAN_FACTOR: u32 = 10;

/// Measures the time since the last sign of progress.
#[derive(Debug)]
pub(super) struct StallDetector {
    /// The number of CPUs that can consume host time at once.
    width: f64,
    since: Instant,
    cpu_then: Duration,
    seen: u64,
}

/// What was found out about a guest when the host gave up on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StallReport {
    /// The value of the guest's clock, under the virtual clock.
    pub(super) guest_clock: Option<Duration>,
    /// Wall time since the machine's last sign of progress. Under the virtual clock that is an advance of the clock.
    pub(super) wall: Duration,
    /// The CPU time that QEMU got from the host in that time.
    pub(super) burnt: Duration,
    /// The CPU time of each vCPU in that time, if the host can report it.
    pub(super) vcpus: Vec<Duration>,
    /// The current task of each of the guest's CPUs, if the guest's memory can be read.
    pub(super) tasks: Vec<String>,
    /// The guest's processes and threads, if its memory can be read.
    pub(super) processes: Vec<TaskEnrichment>,
}

impl StallDetector {
    /// Creates the detector for a machine with `vcpus` CPUs on a host with `host_cpus`.
    pub(super) fn new(vcpus: u32, host_cpus: u32) -> Self {
        Self {
            width: f64::from(vcpus.min(host_cpus).max(1)),
            since: Instant::now(),
            cpu_then: Duration::ZERO,
            seen: 0,
        }
    }

    /// Returns the wall time and QEMU's CPU time since the last progress. `cpu` is QEMU's CPU time in total.
    pub(super) fn since_progress(&self, cpu: Duration) -> (Duration, Duration) {
        (self.since.elapsed(), cpu.saturating_sub(self.cpu_then))
    }

    /// Judges the time without progress. `progress` is any number that grows when the guest makes progress, `cpu` is
    /// QEMU's CPU time in total, and `patience` is the guest time for which no progress is acceptable at this stage.
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
        judge(
            self.since.elapsed(),
            cpu.saturating_sub(self.cpu_then),
            patience,
            self.width,
        )
    }
}

fn judge(
    stalled: Duration,
    burnt: Duration,
    patience: Duration,
    width: f64,
) -> Option<WatchdogKillReason> {
    if burnt > patience.mul_f64(width) {
        return Some(WatchdogKillReason::Tier1CpuBudget);
    }
    let idle = burnt.as_secs_f64() < stalled.as_secs_f64() * IDLE_SHARE;
    if idle && stalled > patience + IDLE_LIMIT {
        return Some(WatchdogKillReason::Tier2IdleWedge);
    }
    (stalled > patience * DEAD_MAN_FACTOR).then_some(WatchdogKillReason::Tier3Deadman)
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
    fn full_cpu_use_without_progress_is_a_hang() {
        assert_eq!(
            judge(21 * S, 41 * S, 20 * S, 2.0),
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
