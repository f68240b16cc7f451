//! Operations that set the limits of the `memory` controller.

use anyhow::Result;

use super::Call;

pub(super) fn max(call: &mut Call, cgroup: &str, bytes: &Option<u64>) -> Result<()> {
    call.scenario.get(cgroup)?;
    Ok(call.ctx.cgroups.set_memory_max(cgroup, *bytes)?)
}

pub(super) fn high(call: &mut Call, cgroup: &str, bytes: &Option<u64>) -> Result<()> {
    call.scenario.get(cgroup)?;
    Ok(call.ctx.cgroups.set_memory_high(cgroup, *bytes)?)
}

pub(super) fn low(call: &mut Call, cgroup: &str, bytes: &Option<u64>) -> Result<()> {
    call.scenario.get(cgroup)?;
    Ok(call.ctx.cgroups.set_memory_low(cgroup, *bytes)?)
}
