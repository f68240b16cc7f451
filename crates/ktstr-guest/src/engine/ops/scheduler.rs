//! Operations that start, stop and replace a scheduler during a test.

use anyhow::Result;
use ktstr_scenario::scheduler::Scheduler;

use super::Call;
use crate::engine::live_scenario::Attached;
use crate::engine::liveness::Liveness;
use crate::init::lifecycle;
use crate::protocol::{ChangeError, SchedulerChange, StartOf};

pub(super) fn attach(call: &mut Call, scheduler: &&'static Scheduler) -> Result<()> {
    change(call, false, Some(staged(scheduler)))
}

pub(super) fn detach(call: &mut Call) -> Result<()> {
    change(call, true, None)
}

pub(super) fn restart(call: &mut Call) -> Result<()> {
    change(call, true, Some(StartOf::Own))
}

pub(super) fn replace(call: &mut Call, scheduler: &&'static Scheduler) -> Result<()> {
    change(call, true, Some(staged(scheduler)))
}

fn staged(scheduler: &Scheduler) -> StartOf {
    StartOf::Staged(scheduler.name.to_owned())
}

fn change(call: &mut Call, stop: bool, start: Option<StartOf>) -> Result<()> {
    let before = Liveness::new(None);
    let changed = lifecycle::change(&SchedulerChange { stop, start });
    // Start the next check from the counters as they are now. Otherwise it would report the attach of this operation as an attach
    // that the kernel requested.
    call.scenario.changed = Some(match &changed {
        Ok(Some(pid)) => Liveness::after_attach(&before, *pid),
        _ => Liveness::new(None),
    });
    let attached = match changed {
        Ok(pid) => pid.map(|pid| Attached { pid, bpf: true }),
        // Nothing was changed: a scheduler that was attached before is attached still.
        Err(refused @ ChangeError::Refused(_)) => return Err(refused.into()),
        Err(error @ ChangeError::NotAttached { .. }) => {
            Attached::changed_to(None);
            return Err(error.into());
        }
    };
    Attached::changed_to(attached);
    call.scenario.scheduler = attached;
    Ok(())
}
