//! Schedulers that the test starts and stops itself.

use anyhow::{Result, anyhow};
use ktstr_scenario::scheduler::Scheduler;

use super::Call;
use crate::engine::scene::Attached;
use crate::init::lifecycle;
use crate::protocol::{SchedulerChange, StartOf};

pub(super) fn attach(call: &mut Call, scheduler: &&'static Scheduler) -> Result<()> {
    change(call, false, Some(staged(scheduler)), scheduler.name)
}

pub(super) fn detach(call: &mut Call) -> Result<()> {
    change(call, true, None, "")
}

pub(super) fn restart(call: &mut Call) -> Result<()> {
    change(call, true, Some(StartOf::Own), "of the test")
}

pub(super) fn replace(call: &mut Call, scheduler: &&'static Scheduler) -> Result<()> {
    change(call, true, Some(staged(scheduler)), scheduler.name)
}

fn staged(scheduler: &Scheduler) -> StartOf {
    StartOf::Staged(scheduler.name.to_owned())
}

fn change(call: &mut Call, stop: bool, start: Option<StartOf>, name: &str) -> Result<()> {
    let starts = start.is_some();
    let changed = lifecycle::change(&SchedulerChange { stop, start });
    call.scene.scheduler_changed = true;
    match changed {
        Ok(pid) => {
            call.scene.scheduler = pid.map(|pid| Attached { pid, bpf: true });
            Ok(())
        }
        Err(why) if starts => Err(anyhow!(
            "startup death: the scheduler {name} did not come up: {why}"
        )),
        Err(why) => Err(anyhow!(why)),
    }
}
