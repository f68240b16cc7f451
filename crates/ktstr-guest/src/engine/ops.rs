//! The operations of a step, one by one.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use ktstr_scenario::Ctx;
use ktstr_scenario::ops::{Op, SpawnPlacement};
use ktstr_scenario::workload::AffinityIntent;

use super::scene::{Owner, RUNNER, Scene};
use crate::workers::rng::Rng;

/// Applies one operation. What it makes belongs to `owner`.
pub(super) fn apply(ctx: &Ctx, scene: &mut Scene, owner: Owner, op: &Op) -> Result<()> {
    run(ctx, scene, owner, op).with_context(|| op.name().to_owned())
}

fn run(ctx: &Ctx, scene: &mut Scene, owner: Owner, op: &Op) -> Result<()> {
    match op {
        Op::AddCgroup { name } => scene.add(ctx, owner, name).map(drop),
        Op::AddCgroupDef { def } => scene.add_def(ctx, owner, def),
        Op::RemoveCgroup { cgroup } => {
            if scene.has(cgroup) {
                scene.remove(ctx, cgroup)
            } else {
                eprintln!("ktstr: RemoveCgroup: there is no cgroup {cgroup:?}; nothing removed");
                Ok(())
            }
        }
        Op::SetCpuset { cgroup, cpus } => {
            let cpus = cpus.resolve(ctx)?;
            set_cpuset(ctx, scene, cgroup, Some(cpus))
        }
        Op::ClearCpuset { cgroup } => set_cpuset(ctx, scene, cgroup, None),
        Op::SwapCpusets { a, b } => {
            let of_a = scene.get(a)?.cpuset.clone();
            let of_b = scene.get(b)?.cpuset.clone();
            set_cpuset(ctx, scene, a, of_b)?;
            set_cpuset(ctx, scene, b, of_a)
        }
        Op::Spawn { placement, work } => {
            let works = std::slice::from_ref(work);
            match placement {
                SpawnPlacement::RunnerCgroup => {
                    if work.workers_pct.is_some() {
                        bail!(
                            "workers_pct needs a cgroup with CPUs of its own: give workers(n) for \
                             the harness's cgroup"
                        );
                    }
                    scene.runner(owner);
                    scene.spawn(ctx, RUNNER, works)
                }
                SpawnPlacement::Cgroup(name) if name.is_empty() => {
                    bail!("the cgroup's name is empty: use SpawnPlacement::RunnerCgroup")
                }
                SpawnPlacement::Cgroup(name) => scene.spawn(ctx, name, works),
            }
        }
        Op::StopCgroup { cgroup } => scene.get(cgroup)?.stop(ctx),
        Op::SetAffinity { cgroup, affinity } => set_affinity(ctx, scene, cgroup, affinity),
        Op::MoveAllTasks { from, to } => move_all(ctx, scene, owner, from, to),
        Op::FreezeCgroup { cgroup } => freeze(ctx, scene, cgroup, true),
        Op::UnfreezeCgroup { cgroup } => freeze(ctx, scene, cgroup, false),
        other => bail!("the operation {} is not available yet", other.name()),
    }
}

fn set_cpuset(
    ctx: &Ctx,
    scene: &mut Scene,
    name: &str,
    cpus: Option<BTreeSet<usize>>,
) -> Result<()> {
    let tracked = scene.get(name)?;
    match &cpus {
        Some(cpus) if cpus.is_empty() => bail!("the cpuset of cgroup {name:?} would be empty"),
        Some(cpus) => ctx.cgroups.set_cpuset(name, cpus)?,
        None => ctx.cgroups.clear_cpuset(name)?,
    }
    tracked.set_cpuset(cpus);
    Ok(())
}

fn set_affinity(ctx: &Ctx, scene: &mut Scene, name: &str, affinity: &AffinityIntent) -> Result<()> {
    let tracked = scene.get(name)?;
    let resolved = affinity.resolve(tracked.cpuset.as_ref(), ctx.topo)?;
    let all = ctx.topo.all_cpuset();
    let mut stream = 0;
    for handle in &mut tracked.handles {
        for idx in 0..handle.len() {
            stream += 1;
            let cpus = resolved.cpus(Rng::new(ctx.seed, stream).next_u64());
            handle.set_affinity(idx, cpus.as_ref().unwrap_or(&all))?;
        }
    }
    Ok(())
}

fn freeze(ctx: &Ctx, scene: &mut Scene, name: &str, frozen: bool) -> Result<()> {
    let tracked = scene.get(name)?;
    ctx.cgroups.set_freeze(name, frozen)?;
    tracked.frozen = frozen;
    Ok(())
}

fn move_all(ctx: &Ctx, scene: &mut Scene, owner: Owner, from: &str, to: &str) -> Result<()> {
    if from == to {
        bail!("from and to are the same cgroup {from:?}");
    }
    for name in [from, to] {
        if name == RUNNER {
            scene.runner(owner);
        }
    }
    let from_owner = scene.get(from)?.owner;
    let to_owner = scene.get(to)?.owner;
    if from_owner == Owner::Backdrop && to_owner == Owner::Step {
        bail!(
            "cgroup {to:?} ends with the step, the workers of {from:?} do not: move them to a \
             cgroup of the backdrop"
        );
    }
    let pids: Vec<i32> = if from == RUNNER {
        let handles = &scene.get(from)?.handles;
        handles.iter().flat_map(|h| h.worker_pids()).collect()
    } else {
        ctx.cgroups.read_procs(from)?
    };
    if to == RUNNER {
        ctx.cgroups.drain_tasks(from)?;
    } else {
        ctx.cgroups.move_tasks(to, &pids)?;
    }
    // Who is in a cgroup is stopped, counted and judged with it.
    let handles = std::mem::take(&mut scene.get(from)?.handles);
    let cpuset = scene.get(from)?.cpuset.clone();
    scene.get(to)?.take_over(handles, cpuset.as_ref());
    Ok(())
}
