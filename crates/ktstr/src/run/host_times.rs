//! How busy the host was while the guest worked and while it shut down, under the real clock. The monitor's samples show this
//! only for the workload window, and only if the monitor is on.

use std::time::{Duration, Instant};

use ktstr_machine::{Machine, VcpuTime};

use super::guest_state::GuestState;
use crate::vm_result::HostVcpuSchedstat;

/// The shortest time between two readings of the vCPUs' times during the shutdown.
const BETWEEN: Duration = Duration::from_millis(10);

type Times = Vec<Option<VcpuTime>>;

/// The times of the vCPUs at some points of a run; nothing under the virtual clock, where the host has no influence.
#[derive(Debug, Default)]
pub(super) struct HostTimes {
    /// The vCPUs' times when the test function was called.
    called: Option<Times>,
    /// The machine's running time at which the scenario or, without one, the test function ended, and the vCPUs' times then.
    /// A later scenario replaces both.
    over: Option<(Duration, Times)>,
    /// When the vCPUs' times were last read after the end that `over` describes, and the times that were read.
    last: Option<(Instant, Times)>,
}

impl HostTimes {
    /// Reads the times when the guest reaches another point, and every [`BETWEEN`] during the shutdown. Call this often.
    pub(super) fn poll(&mut self, machine: &mut Machine, guest: &GuestState) {
        if machine.virtual_clock().is_some() {
            return;
        }
        if guest.called.is_some() && self.called.is_none() {
            self.called = Some(machine.vcpu_times());
        }
        let Some(at) = guest.over else {
            return;
        };
        if self.over.as_ref().is_none_or(|(known, _)| *known != at) {
            self.over = Some((at, machine.vcpu_times()));
            self.last = None;
        }
        let is_due = |(at, _): &(Instant, Times)| at.elapsed() >= BETWEEN;
        if self.last.as_ref().is_none_or(is_due) {
            let times = machine.vcpu_times();
            // The threads of a machine that has just exited have no times any more.
            if times.iter().any(Option::is_some) {
                self.last = Some((Instant::now(), times));
            }
        }
    }

    /// Returns for how long the vCPUs ran and waited from the call of the test function to the end of the scenario or,
    /// without one, of the function; `None` if the times were not read at both points.
    pub(super) fn of_test(&self) -> Option<HostVcpuSchedstat> {
        let (_, over) = self.over.as_ref()?;
        HostVcpuSchedstat::between(self.called.as_ref()?, over)
    }

    /// Returns for how long the host delayed the shutdown: the longest total time that one vCPU waited for a host CPU. A
    /// ratio would show little, because the vCPUs are idle for most of a shutdown. `None` if the time was not measured.
    pub(super) fn delay_of_teardown(&self) -> Option<Duration> {
        let ((_, over), (_, last)) = (self.over.as_ref()?, self.last.as_ref()?);
        let both = over.iter().zip(last);
        let waits = both
            .filter_map(|(over, last)| Some((*last)?.waited_ns.saturating_sub((*over)?.waited_ns)));
        waits.max().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ran_ms: u64, waited_ms: u64) -> Times {
        let time = VcpuTime {
            ran_ns: ran_ms * 1_000_000,
            waited_ns: waited_ms * 1_000_000,
        };
        vec![Some(time), None]
    }

    #[test]
    fn the_shutdown_has_times_of_its_own() {
        let seen = HostTimes {
            called: Some(times(100, 0)),
            over: Some((Duration::from_secs(1), times(1100, 100))),
            last: Some((Instant::now(), times(1101, 300))),
        };
        assert_eq!(seen.of_test().map(|stat| stat.dilation()), Some(1.1));
        assert_eq!(seen.delay_of_teardown(), Some(Duration::from_millis(200)));
        assert_eq!(HostTimes::default().delay_of_teardown(), None);
    }
}
