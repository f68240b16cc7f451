//! Operations that freeze and thaw a cgroup.

use anyhow::Result;

use super::Call;

pub(super) fn freeze(call: &mut Call, cgroup: &str) -> Result<()> {
    set(call, cgroup, true)
}

pub(super) fn thaw(call: &mut Call, cgroup: &str) -> Result<()> {
    set(call, cgroup, false)
}

fn set(call: &mut Call, cgroup: &str, frozen: bool) -> Result<()> {
    let tracked = call.scenario.get(cgroup)?;
    call.ctx.cgroups.set_freeze(cgroup, frozen)?;
    tracked.frozen = frozen;
    Ok(())
}
