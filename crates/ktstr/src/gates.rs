//! Gates for `post_vm`: they let a callback skip the run instead of failing it.
//!
//! A callback should call a gate before it judges what the host can spoil. The gates detect that samples or captures are
//! missing because the guest never reached its workload window or because a busy host gave the vCPUs too little CPU time,
//! and that sched_ext ejected the scheduler for a stall on a busy host.

use ktstr_snapshot::report::ScxExit;

use crate::vm_result::{GuestLifecyclePhase, VmResult};

/// The dilation above which a busy host explains missing data. The dilation is `1 + waited / ran`, where `waited` is the
/// time for which the vCPUs waited for the host's CPUs, and `ran` the time for which they ran. At 1.5, they waited for half
/// as long as they ran.
const WITNESSED: f64 = 1.5;

/// The error that turns a run into a skip.
#[derive(Debug, thiserror::Error)]
#[error("skipped: {0}")]
pub struct PostVmSkip(String);

impl PostVmSkip {
    pub(crate) fn reason(&self) -> String {
        self.0.clone()
    }
}

/// Creates an error that turns the run into a skip when `post_vm` or `post_vm_unconditional` returns it.
pub fn post_vm_skip(reason: impl Into<String>) -> anyhow::Error {
    PostVmSkip(reason.into()).into()
}

/// Returns how many times longer the vCPUs took than they would have on an idle host, if that is more than 1.5; otherwise
/// `None`. The result is also `None` if their times were not sampled, as under the virtual clock, where the host's load does
/// not affect what the guest sees.
pub fn capture_starvation_witness(result: &VmResult) -> Option<f64> {
    let stat = result.host_vcpu_schedstat?;
    Some(stat.dilation()).filter(|dilation| *dilation > WITNESSED)
}

/// Lets a callback skip if it has fewer of something than it needs and the host is the reason.
///
/// # Errors
/// A skip ([`post_vm_skip`]) if `have` is below `need` and either the guest never reached its workload window or
/// [`capture_starvation_witness`] returns a dilation. In all other cases the result is `Ok`, even if there are too few:
/// then the callback's own assertion has to fail the run.
pub fn starved_below_minimum_skip(
    result: &VmResult,
    have: usize,
    need: usize,
    what: &str,
) -> anyhow::Result<()> {
    if have >= need {
        return Ok(());
    }
    if result.final_guest_phase < GuestLifecyclePhase::Body {
        return Err(post_vm_skip(format!(
            "{have} {what} of at least {need}: the guest did not reach its workload window"
        )));
    }
    match capture_starvation_witness(result) {
        Some(dilation) => Err(post_vm_skip(format!(
            "{have} {what} of at least {need}: the host was busy, so the machine took {dilation:.1} times as long"
        ))),
        None => Ok(()),
    }
}

/// Lets a callback skip if it needs at least `min_real` periodic captures with data and the host is the reason why
/// there are fewer. A test without captures (`num_snapshots = 0`) passes the gate.
///
/// # Errors
/// The same as for [`starved_below_minimum_skip`].
pub fn periodic_starvation_gate(result: &VmResult, min_real: u32) -> anyhow::Result<()> {
    if result.periodic_target == 0 {
        return Ok(());
    }
    let (have, need) = (result.periodic_real as usize, min_real as usize);
    starved_below_minimum_skip(result, have, need, "periodic captures with data")
}

/// Lets a callback skip if sched_ext ejected the scheduler because a task was not run in time and the host was so busy
/// that this explains it.
///
/// # Errors
/// A skip ([`post_vm_skip`]) in that case; `Ok` otherwise.
pub fn stall_ejection_skip(result: &VmResult) -> anyhow::Result<()> {
    let stalled = result.scx_exit.as_ref().is_some_and(ScxExit::is_stall);
    match capture_starvation_witness(result) {
        Some(dilation) if stalled => Err(post_vm_skip(format!(
            "sched_ext ejected the scheduler for a stalled task, and the host was busy, so the machine took {dilation:.1} times \
             as long"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm_result::HostVcpuSchedstat;

    /// A run under the real clock that reached its window, and whose vCPUs ran for 2 s and waited for `waited_s`.
    fn ran(waited_s: u64) -> VmResult {
        VmResult {
            final_guest_phase: GuestLifecyclePhase::Teardown,
            periodic_target: 4,
            host_vcpu_schedstat: Some(HostVcpuSchedstat {
                total_on_cpu_ns: 2_000_000_000,
                total_run_delay_ns: waited_s * 1_000_000_000,
                longest_run_delay_ns: waited_s * 500_000_000,
                host_steal_ns: 0,
                sampled_vcpus: 2,
            }),
            ..VmResult::blank()
        }
    }

    fn skipped(gate: anyhow::Result<()>) -> Option<String> {
        Some(gate.err()?.downcast_ref::<PostVmSkip>()?.reason())
    }

    #[test]
    fn a_busy_host_excuses_missing_captures_and_a_quiet_one_does_not() {
        assert_eq!(
            capture_starvation_witness(&ran(1)),
            None,
            "1.5 is not more than 1.5"
        );
        assert_eq!(capture_starvation_witness(&ran(2)), Some(2.0));
        assert_eq!(
            skipped(periodic_starvation_gate(&ran(2), 1)).as_deref(),
            Some(
                "0 periodic captures with data of at least 1: the host was busy, so the machine took 2.0 times \
                 as long"
            )
        );
        assert!(
            periodic_starvation_gate(&ran(1), 1).is_ok(),
            "a quiet host is no reason for a skip"
        );
        let mut enough = ran(2);
        enough.periodic_real = 1;
        assert!(periodic_starvation_gate(&enough, 1).is_ok());
        let mut unasked = ran(2);
        unasked.periodic_target = 0;
        assert!(periodic_starvation_gate(&unasked, 1).is_ok());
    }

    #[test]
    fn a_guest_that_never_reached_its_window_had_no_captures() {
        let mut early = ran(0);
        early.final_guest_phase = GuestLifecyclePhase::Dispatch;
        assert_eq!(
            skipped(starved_below_minimum_skip(&early, 1, 2, "samples")).as_deref(),
            Some("1 samples of at least 2: the guest did not reach its workload window")
        );
    }

    #[test]
    fn only_a_stall_on_a_busy_host_is_skipped() {
        let exit = |kind_name: &str| {
            Some(ScxExit {
                kind_name: kind_name.to_owned(),
                ..ScxExit::default()
            })
        };
        let mut stalled = ran(2);
        stalled.scx_exit = exit("SCX_EXIT_ERROR_STALL");
        assert!(skipped(stall_ejection_skip(&stalled)).is_some());
        stalled.host_vcpu_schedstat = None;
        assert!(stall_ejection_skip(&stalled).is_ok(), "the virtual clock");
        let mut erred = ran(2);
        erred.scx_exit = exit("SCX_EXIT_ERROR_BPF");
        assert!(stall_ejection_skip(&erred).is_ok());
    }
}
