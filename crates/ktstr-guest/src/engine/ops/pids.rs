//! The operation that sets the limit of the `pids` controller.

use anyhow::Result;

use super::Call;

pub(super) fn max(call: &mut Call, cgroup: &str, max: &Option<u64>) -> Result<()> {
    call.scenario.get(cgroup)?;
    Ok(call.ctx.cgroups.set_pids_max(cgroup, *max)?)
}
