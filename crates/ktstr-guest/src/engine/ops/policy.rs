//! The operation that changes the scheduling policy of a cgroup's workers.

use anyhow::Result;
use ktstr_scenario::workload::SchedPolicy;

use super::Call;

pub(super) fn set(call: &mut Call, cgroup: &str, policy: &SchedPolicy) -> Result<()> {
    policy.validate()?;
    for handle in &mut call.scenario.get(cgroup)?.handles {
        for idx in 0..handle.len() {
            handle.set_policy(idx, *policy)?;
        }
    }
    Ok(())
}
