//! The operation that changes the affinity of a cgroup's workers.

use anyhow::Result;
use ktstr_scenario::workload::AffinityIntent;

use super::Call;
use crate::workers::rng::Rng;

pub(super) fn set(call: &mut Call, cgroup: &str, affinity: &AffinityIntent) -> Result<()> {
    let ctx = call.ctx;
    call.scenario.get(cgroup)?;
    let resolved = affinity.resolve(call.scenario.cpus_of(cgroup, ctx.topo).as_ref(), ctx.topo)?;
    let all = ctx.topo.all_cpuset();
    // Each call makes a new random choice for each worker.
    let mut stream = call.scenario.draws;
    let tracked = call.scenario.get(cgroup)?;
    tracked.forces_moves();
    for handle in &mut tracked.handles {
        for idx in 0..handle.len() {
            stream += 1;
            let cpus = resolved.cpus(Rng::new(ctx.seed, stream).next_u64());
            handle.set_affinity(idx, cpus.as_ref().unwrap_or(&all))?;
        }
    }
    call.scenario.draws = stream;
    Ok(())
}
