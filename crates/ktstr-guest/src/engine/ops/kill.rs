//! The operation that kills all tasks of a cgroup with `cgroup.kill`.

use anyhow::Result;

use super::Call;

pub(super) fn kill(call: &mut Call, cgroup: &str) -> Result<()> {
    call.scene.get(cgroup)?;
    call.ctx
        .cgroups
        .set_file(cgroup, None, "cgroup.kill", "1")?;
    call.scene.forget_killed(cgroup);
    call.scene.payloads.forget_killed(cgroup)
}
