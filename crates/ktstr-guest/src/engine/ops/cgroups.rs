//! Operations that create, stop and remove cgroups.

use anyhow::Result;
use ktstr_scenario::ops::CgroupDef;

use super::Call;

pub(super) fn add(call: &mut Call, name: &str) -> Result<()> {
    call.scenario.add(call.ctx, call.owner, name).map(drop)
}

pub(super) fn add_def(call: &mut Call, def: &CgroupDef) -> Result<()> {
    call.scenario.add_def(call.ctx, call.owner, def)
}

pub(super) fn remove(call: &mut Call, cgroup: &str) -> Result<()> {
    if call.scenario.has_below(cgroup) {
        call.scenario.remove(call.ctx, cgroup)
    } else {
        eprintln!("ktstr: RemoveCgroup: there is no cgroup {cgroup:?}, so nothing is removed");
        Ok(())
    }
}

pub(super) fn stop(call: &mut Call, cgroup: &str) -> Result<()> {
    call.scenario.stop(call.ctx, cgroup)
}
