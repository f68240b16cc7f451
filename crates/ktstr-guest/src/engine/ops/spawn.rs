//! The operation that adds workers to a cgroup, or to the cgroup of the harness itself.

use anyhow::{Result, bail};
use ktstr_scenario::ops::SpawnPlacement;
use ktstr_scenario::workload::WorkSpec;

use super::Call;
use crate::engine::live_scenario::RUNNER;

pub(super) fn spawn(call: &mut Call, placement: &SpawnPlacement, work: &WorkSpec) -> Result<()> {
    let works = std::slice::from_ref(work);
    match placement {
        SpawnPlacement::RunnerCgroup => {
            if work.workers_pct.is_some() {
                bail!(
                    "workers_pct cannot be used in the harness's own cgroup: give workers(n) instead"
                );
            }
            call.scenario.runner(call.owner);
            call.scenario.spawn(call.ctx, RUNNER, works)
        }
        SpawnPlacement::Cgroup(name) if name.is_empty() => bail!(
            "Op::Spawn(SpawnPlacement::Cgroup): the cgroup name is empty; the harness's own cgroup \
             is SpawnPlacement::runner_cgroup()"
        ),
        SpawnPlacement::Cgroup(name) => call.scenario.spawn(call.ctx, name, works),
    }
}
