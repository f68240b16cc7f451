//! Killing all that is in a cgroup, by the kernel's own way.

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
