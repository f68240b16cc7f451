//! How busy the host was while the guest worked and while it shut down, under the real clock. The monitor's samples show this
//! for the workload window alone, and not if the monitor is off.

use std::time::{Duration, Instant};

use ktstr_machine::{Machine, VcpuTime};

use super::guest_state::GuestState;
use crate::vm_result::HostVcpuSchedstat;

/// The shortest time between two readings of the shutdown.
const BETWEEN: Duration = Duration::from_millis(10);

type Times = Vec<Option<VcpuTime>>;

/// The times of the vCPUs at some points of a run; nothing under the virtual clock, where the host has no influence.
#[derive(Debug, Default)]
pub(super) struct HostTimes {
    /// When the test function was called.
    called: Option<Times>,
    /// When the scenario or, without one, the test function was over.
    over: Option<Times>,
    /// The last reading after that, and when it was made.
    last: Option<(Instant, Times)>,
}

impl HostTimes {
    /// Reads the times if the guest has reached another point. Call this often.
    pub(super) fn poll(&mut self, machine: &mut Machine, guest: &GuestState) {
        if machine.virtual_clock().is_some() {
            return;
        }
        if guest.called.is_some() && self.called.is_none() {
            self.called = Some(machine.vcpu_times());
        }
        if guest.over.is_none() {
            return;
        }
        if self.over.is_none() {
            self.over = Some(machine.vcpu_times());
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

    /// Returns the times from the call of the test function to its end; `None` if one of them was not seen.
    pub(super) fn of_test(&self) -> Option<HostVcpuSchedstat> {
        HostVcpuSchedstat::between(self.called.as_ref()?, self.over.as_ref()?)
    }

    /// Returns the times of the shutdown; `None` if they were not seen.
    pub(super) fn of_teardown(&self) -> Option<HostVcpuSchedstat> {
        let (_, last) = self.last.as_ref()?;
        HostVcpuSchedstat::between(self.over.as_ref()?, last)
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
            over: Some(times(1100, 100)),
            last: Some((Instant::now(), times(1200, 300))),
        };
        let dilation = |stat: Option<HostVcpuSchedstat>| stat.map(|stat| stat.dilation());
        assert_eq!(dilation(seen.of_test()), Some(1.1));
        assert_eq!(dilation(seen.of_teardown()), Some(3.0));
        assert_eq!(dilation(HostTimes::default().of_teardown()), None);
    }
}
