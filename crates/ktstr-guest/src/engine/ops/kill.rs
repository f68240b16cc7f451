//! The operation that kills all tasks of a cgroup and of its descendants with `cgroup.kill`.

use anyhow::Result;

use super::Call;

pub(super) fn kill(call: &mut Call, cgroup: &str) -> Result<()> {
    // Only the error matters here: the scenario may have no such cgroup.
    call.scenario.get(cgroup)?;
    call.ctx
        .cgroups
        .set_file(cgroup, None, "cgroup.kill", "1")?;
    call.scenario.forget_killed(cgroup);
    call.scenario.payloads.forget_killed(cgroup)
}
