//! When to give up on a guest, and whose fault that is.
//!
//! Wall time alone accuses the wrong one: on a busy host a healthy guest is slow. So silence is
//! measured in what QEMU has got from the host. A guest that burns CPU without progress, or
//! burns none and makes none, hangs; one that simply gets no CPU has a slow host.

use std::time::{Duration, Instant};

use ktstr_introspect::report::TaskEnrichment;

use crate::vm_result::WatchdogKillReason;

/// CPU time below this share of wall time is "idle".
const IDLE_SHARE: f64 = 0.02;
/// An idle guest has timers that wake it for housekeeping; only a long idle silence is a wedge.
const IDLE_SILENCE: Duration = Duration::from_secs(20);
/// What a host may stretch a guest's time by before it is called too slow.
const DEAD_MAN_FACTOR: u32 = 10;

/// Measures silence since the last sign of progress.
#[derive(Debug)]
pub(super) struct Watch {
    /// CPUs that can burn host time at once.
    width: f64,
    since: Instant,
    cpu_then: Duration,
    seen: u64,
}

/// What was found when a guest was given up on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Silence {
    /// Under the virtual clock: what the guest's clock had come to.
    pub(super) guest: Option<Duration>,
    /// Wall time since the machine's last sign of progress: of its clock if that is virtual.
    pub(super) wall: Duration,
    /// What QEMU got of the host's CPUs meanwhile.
    pub(super) burnt: Duration,
    /// The same of each vCPU, where the host can tell.
    pub(super) vcpus: Vec<Duration>,
    /// The task that each of the guest's CPUs was at, where its memory tells.
    pub(super) tasks: Vec<String>,
    /// The guest's processes and threads, where its memory tells.
    pub(super) processes: Vec<TaskEnrichment>,
}

impl Watch {
    /// For a machine of `vcpus` on a host of `host_cpus`.
    pub(super) fn new(vcpus: u32, host_cpus: u32) -> Self {
        Self {
            width: f64::from(vcpus.min(host_cpus).max(1)),
            since: Instant::now(),
            cpu_then: Duration::ZERO,
            seen: 0,
        }
    }

    /// Wall time and CPU time of QEMU, which has burnt `cpu` in all, since the last progress.
    pub(super) fn silent(&self, cpu: Duration) -> (Duration, Duration) {
        (self.since.elapsed(), cpu.saturating_sub(self.cpu_then))
    }

    /// Judges the silence. `progress` is any number that grows when the guest gets on, `cpu`
    /// what QEMU has burnt in all, `patience` the guest time for which silence is to be
    /// expected right now.
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
    silent: Duration,
    burnt: Duration,
    patience: Duration,
    width: f64,
) -> Option<WatchdogKillReason> {
    if burnt > patience.mul_f64(width) {
        return Some(WatchdogKillReason::Tier1CpuBudget);
    }
    let idle = burnt.as_secs_f64() < silent.as_secs_f64() * IDLE_SHARE;
    if idle && silent > patience + IDLE_SILENCE {
        return Some(WatchdogKillReason::Tier2IdleWedge);
    }
    (silent > patience * DEAD_MAN_FACTOR).then_some(WatchdogKillReason::Tier3Deadman)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_host_is_not_a_hung_guest() {
        // Ten times slower than real time, still working: wait.
        assert_eq!(judge(100 * S, 15 * S, 20 * S, 2.0), None);
        // And at last it is the host's fault.
        assert_eq!(
            judge(201 * S, 15 * S, 20 * S, 2.0),
            Some(WatchdogKillReason::Tier3Deadman)
        );
    }

    #[test]
    fn burning_everything_for_too_long_is_a_hang() {
        assert_eq!(
            judge(21 * S, 41 * S, 20 * S, 2.0),
            Some(WatchdogKillReason::Tier1CpuBudget)
        );
    }

    #[test]
    fn burning_nothing_for_too_long_is_a_wedge() {
        assert_eq!(judge(39 * S, S / 10, 20 * S, 2.0), None);
        assert_eq!(
            judge(41 * S, S / 10, 20 * S, 2.0),
            Some(WatchdogKillReason::Tier2IdleWedge)
        );
    }
}
